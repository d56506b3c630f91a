"""JSON that upstream's parser crashes on, or reads otherwise than a second reader would, and HTTP that lies, over REST.

Each is refused by the guard within 50 ms, at its fastest of five times, without 20 MB more of memory, and the server
behind never hears of it. What each is worth is shown on readers that are common: Python's own json, gzip and numpy.
"""

import contextlib
import gzip
import json
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from attacks.guard.fortress import WAIT_S, Fortress

MOST_S = 0.05
MOST_MB = 20
TRIES = 5
PATH = "/v1/models/digits:predict"
GOOD = b'{"instances": [[0, 1, 2, 16]]}'
DEEP = 50_000


@dataclass(frozen=True)
class Attack:
    """A request that must be refused: status, reason, and the bytes; no reason where HTTP itself is refused."""

    name: str
    status: int
    reason: str
    raw: bytes


def http(body: bytes = GOOD, path: str = PATH, *headers: str, method: str = "POST", length: str | None = None) -> bytes:
    """Return a request's bytes, with a true length unless another is given."""
    told = f"content-length: {len(body) if length is None else length}"
    lines = [f"{method} {path} HTTP/1.1", "host: guard", "x-garrison-client: alice", told, *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def bad(name: str, reason: str, body: bytes, status: int = 400) -> Attack:
    return Attack(name, status, reason, http(body))


def inputs(text: bytes) -> bytes:
    return b'{"inputs": ' + text + b"}"


def lost(name: str, path: str, **changes: Any) -> Attack:
    status, reason = changes.pop("status", 404), changes.pop("reason", "not_found")
    return Attack(name, status, reason, http(GOOD, path, **changes))


def raw(name: str, status: int, reason: str, *headers: str, body: bytes = GOOD, length: str | None = None) -> Attack:
    return Attack(name, status, reason, http(body, PATH, *headers, length=length))


CHUNKED = http(b"").replace(b"content-length: 0", b"transfer-encoding: chunked")
BOMB = gzip.compress(bytes(2**20) * 8)
BODIES = [
    bad("lists 50,000 deep (CVE-2025-0649)", "message_too_large", inputs(b"[" * DEEP + b"]" * DEEP), 413),
    bad("lists 2,000 deep", "json_too_deep", inputs(b"[" * 2000 + b"]" * 2000)),
    bad("lists that never close", "json_too_deep", b"[" * 3000),
    bad("objects in objects", "json_too_deep", b'{"inputs": ' * 300 + b"1" + b"}" * 300),
    bad("no rows in columns (hangs a batching thread)", "no_rows", inputs(b"[]")),
    bad("no rows in rows", "no_rows", b'{"instances": []}'),
    bad("a key twice", "bad_json", b'{"inputs": [[0,0,0,0]], "inputs": [[1,1,1,1]]}'),
    bad("a second document", "bad_json", GOOD + b" {}"),
    bad("a key that ends at NUL", "bad_json", b'{"instances\\u0000": [[0, 1, 2, 16]]}'),
    bad("both forms at once", "bad_json", b'{"instances": [[0,0,0,0]], "inputs": [[0,0,0,0]]}'),
    bad("an input that nobody knows", "unknown_input", inputs(b'{"pixels": [[0,0,0,0]], "x": 1}')),
    bad("300 as a byte", "value_out_of_range", b'{"signature_name": "small", "instances": [[300,0,0,0]]}'),
    bad("not a number", "bad_json", b'{"instances": [[NaN, 0, 0, 0]]}'),
    bad("infinity", "bad_json", b'{"instances": [[Infinity, 0, 0, 0]]}'),
    bad("a float beyond its range", "value_out_of_range", b'{"instances": [[1e39, 0, 0, 0]]}'),
    bad("a number of 5,000 digits", "bad_json", b'{"instances": [[' + b"9" * 5000 + b", 0, 0, 0]]}"),
    bad("an exponent without end", "value_out_of_range", b'{"instances": [[1e' + b"9" * 5000 + b", 0, 0, 0]]}"),
    bad("ragged lists", "ragged", b'{"instances": [[0, 0, 0], [0, 0, 0, 0]]}'),
    bad("text that is no UTF-8", "bad_json", b'{"signature_name": "\xff", "instances": [[0,0,0,0]]}'),
    bad("half a surrogate pair", "bad_json", b'{"signature_name": "\\ud800", "instances": [[0,0,0,0]]}'),
    bad("an initialiser as the signature", "not_found",
        b'{"signature_name": "__saved_model_init_op", "instances": [[0,0,0,0]]}', 404),
    bad("values without end", "too_many_values", b'{"instances": [[' + b"0," * 2500 + b"0]]}"),
    bad("names without end", "too_many_values", b"{" + b",".join(b'"%d":0' % n for n in range(700)) + b"}"),
    bad("a body that is too long", "message_too_large", b" " * 200_000, 413),
]  # fmt: skip
PATHS = [
    lost("an unknown model", "/v1/models/no-such:predict"),
    lost("another version", "/v1/models/digits/versions/4:predict"),
    lost("a version beyond 64 bits", f"/v1/models/digits/versions/{2**64 + 3}:predict", status=400, reason="bad_path"),
    lost("an unknown label", "/v1/models/digits/labels/canary:predict"),
    lost("a way up", "/v1/models/digits/../secrets:predict", status=400, reason="bad_path"),
    lost("a way up, encoded", "/v1/models/digits%2F..%2Fsecrets:predict"),
    lost("a name that ends at NUL", "/v1/models/digits%00:predict"),
    lost("a list of models", "/v1/models", method="GET", status=400, reason="bad_path"),
    lost("metrics of the server", "/monitoring/prometheus/metrics", method="GET"),
    lost("a reload", "/v1/models/digits:reload", status=400, reason="bad_path"),
    lost("a query", f"{PATH}?timeout=1", status=400, reason="bad_path"),
    lost("another method", PATH, method="DELETE", status=400, reason="bad_path"),
]
FRAMES = [
    raw("a gzip bomb", 501, "compressed", "content-encoding: gzip", body=BOMB),
    raw("deflate", 501, "compressed", "content-encoding: deflate"),
    raw("two encodings", 501, "compressed", "content-encoding: identity, gzip"),
    raw("two headers of encodings", 501, "compressed", "content-encoding: identity", "content-encoding: gzip"),
    raw("ten gigabytes, it says", 413, "message_too_large", length="10000000000"),
    raw("a length below zero", 400, "", length="-1"),
    raw("two lengths", 400, "", f"content-length: {len(GOOD) - 1}"),
    raw("a length in words", 400, "", length="thirty"),
    Attack("chunks without end", 413, "message_too_large", CHUNKED + b"40000\r\n" + b" " * 0x40000 + b"\r\n"),
    raw("a header of 1 MB", 400, "", "x: " + "y" * 1_000_000),
    Attack("no caller", 401, "unidentified", http().replace(b"x-garrison-client: alice\r\n", b"")),
    Attack("two callers", 401, "unidentified", http(GOOD, PATH, "x-garrison-client: bob")),
    Attack("no HTTP", 400, "", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 100 + b"\r\n\r\n"),
]  # fmt: skip
ALL = [*BODIES, *PATHS, *FRAMES]


def send(fortress: Fortress, data: bytes) -> tuple[int, str, bytes, float]:
    """Send bytes on a connection of their own; return status, reason, body, and the seconds until the answer."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(WAIT_S)
        connection.connect(str(fortress.rest))
        began = time.perf_counter()
        with contextlib.suppress(BrokenPipeError):  # refused meanwhile: the answer can still be read
            connection.sendall(data)
        answer = read_answer(connection)
        seconds = time.perf_counter() - began
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").lower().split("\r\n")
    reason = next((line.partition(": ")[2] for line in lines if line.startswith("x-garrison-reason")), "")
    return int(lines[0].split(" ")[1]), reason, body, seconds


def read_answer(connection: socket.socket) -> bytes:
    """Read a head, and the body as its length says."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        more = connection.recv(65_536)
        if not more:
            return answer or b"HTTP/1.1 0 closed\r\n\r\n"
        answer += more
    head, _, body = answer.partition(b"\r\n\r\n")
    length = next((int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if b"content-length" in line), 0)
    while len(body) < length:
        body += connection.recv(65_536)
    return head + b"\r\n\r\n" + body


@pytest.mark.parametrize("attack", ALL, ids=lambda attack: attack.name)
def test_it_is_refused_at_once_and_costs_nothing(fortress: Fortress, attack: Attack) -> None:
    told = [send(fortress, attack.raw) for _ in range(TRIES)]
    assert {one[:2] for one in told} == {(attack.status, attack.reason)}
    assert fortress.backend.called == []
    assert min(seconds for *_, seconds in told) < MOST_S
    assert fortress.peak_growth_mb() < MOST_MB
    assert send(fortress, http())[0] == 200  # and an honest one is answered
    assert len(fortress.backend.called) == 1


@pytest.mark.parametrize(
    ("read", "read_as"),
    [
        pytest.param(lambda: json.loads(inputs(b"[" * DEEP + b"]" * DEEP)), RecursionError, id="deep-lists-break"),
        pytest.param(lambda: json.loads(b'{"a": 1, "a": 2}'), {"a": 2}, id="of-two-keys-one-is-lost"),
        pytest.param(lambda: json.loads(b'{"a": Infinity}'), {"a": float("inf")}, id="infinity-is-a-number"),
        pytest.param(lambda: json.JSONDecoder().raw_decode("{} {}")[0], {}, id="what-follows-is-not-seen"),
        pytest.param(lambda: int(np.array(300).astype(np.uint8)), 44, id="300-is-44"),
        pytest.param(lambda: len(gzip.decompress(BOMB)) // len(BOMB) > 900, True, id="a-bomb-is-larger"),
        pytest.param(lambda: np.zeros((0, 4)).nbytes, 0, id="no-rows-is-an-array"),
    ],
)  # fmt: skip
def test_a_reader_that_is_no_guard(read: Callable[[], Any], read_as: Any) -> None:
    """What the same bytes are to who reads them without care; the crash is Python's, where upstream's is C++'s."""
    if isinstance(read_as, type):
        with pytest.raises(read_as):
            read()
    else:
        assert read() == read_as
