"""HTTP around a request: how long a body may be, what it may be called, and what else comes over the connection."""

import contextlib
import re
import socket
import zlib
from typing import Any

import pytest

from garrison.contract import load_contract
from stack.guard.cases import Case, check, rows
from stack.guard.served import ServedRest

PATH = "/v1/models/half_plus_two:predict"
GOOD, ANSWER = b'{"instances": [1]}', '{"predictions": [2.5]}'
HEAD = f"POST {PATH} HTTP/1.1\r\nhost: localhost\r\nx-garrison-client: alice\r\n"


def typed(name: str, type_: str) -> Case:
    return Case(name, "does not look at it", PATH, GOOD, ANSWER, headers={"content-type": type_})


ANSWERED = [
    Case("no-type", "does not look at it", PATH, GOOD, ANSWER),
    typed("json", "application/json"),
    typed("json-with-parameters", 'application/json; charset="utf-8"'),
    typed("what-curl-says", "application/x-www-form-urlencoded"),
    typed("text", "text/plain"),
    typed("nonsense", "?"),
    Case("accepts-something-else", "does not look at it", PATH, GOOD, ANSWER, headers={"accept": "text/html"}),
    Case("accepts-compressed", "answers compressed", PATH, GOOD, ANSWER, headers={"accept-encoding": "gzip"}),
    Case("not-encoded", "evhttp_request.cc", PATH, GOOD, ANSWER, headers={"content-encoding": "identity"}),
    Case("continue", "libevent", PATH, GOOD, ANSWER, headers={"expect": "100-continue"}),
]  # fmt: skip
GZIP = zlib.compressobj(wbits=31)
BOMB = GZIP.compress(b" " * 10_000_000 + GOOD) + GZIP.flush()
REFUSED = [
    Case("compressed", "inflates it, to 100 MB", PATH, BOMB, "", 501, "compressed", headers={"content-encoding": "gzip"}),
    Case("compressed-in-capitals", "inflates it", PATH, BOMB, "", 501, "compressed", headers={"content-encoding": "GZIP"}),
    Case("deflated", "does not look at it", PATH, GOOD, "", 501, "compressed", headers={"content-encoding": "deflate"}),
    Case("two-encodings", "does not look at it", PATH, GOOD, "", 501, "compressed", headers={"content-encoding": "identity, gzip"}),
    Case("no-body", "JSON Parse error: The document is empty", PATH, None, "", 400, "empty_body"),
]  # fmt: skip


@pytest.fixture(scope="module")
def most(saved_models: Any) -> int:
    """How long a body may be for the model."""
    return load_contract(saved_models / "half_plus_two" / "contract.yaml").max_body_bytes


@rows(ANSWERED)
def test_what_is_answered(case: Case, rest: ServedRest) -> None:
    check(case, rest)


@rows(REFUSED)
def test_what_is_refused(case: Case, rest: ServedRest) -> None:
    check(case, rest)


def test_a_body_may_be_as_long_as_the_contract_needs_and_no_longer(rest: ServedRest, most: int) -> None:
    check(Case("longest", "takes any length", PATH, GOOD.ljust(most), ANSWER), rest)
    check(Case("longer", "takes any length", PATH, GOOD.ljust(most + 1), "", 413, "message_too_large"), rest)


def exchange(rest: ServedRest, *pieces: bytes, until: bytes) -> bytes:
    """Write pieces one by one, and return what comes back, up to something or to its end."""
    with rest.connect() as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may not wait for all of it
            for piece in pieces:
                connection.sendall(piece)
        return read(connection, until)


def read(connection: socket.socket, until: bytes) -> bytes:
    received = b""
    while until not in received:
        try:
            piece = connection.recv(65536)
        except ConnectionResetError:
            break
        if not piece:
            break
        received += piece
    return received


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def test_a_body_in_chunks_is_bounded_while_it_arrives(rest: ServedRest, most: int) -> None:
    head = f"{HEAD}transfer-encoding: chunked\r\n\r\n".encode()
    good = exchange(rest, head, chunk(GOOD[:5]), chunk(GOOD[5:]) + b"0\r\n\r\n", until=ANSWER.encode())
    assert good.startswith(b"HTTP/1.1 200 ")
    told = exchange(rest, head, chunk(b" " * most), chunk(b" "), until=b"accepts.")  # and never a last chunk
    assert told.startswith(b"HTTP/1.1 413 ")
    assert b"x-garrison-reason: message_too_large" in told
    assert b"connection: close" in told


def test_a_body_that_says_it_is_too_long_is_not_waited_for(rest: ServedRest, most: int) -> None:
    for length in (str(most + 1), "9" * 20):
        told = exchange(rest, f"{HEAD}content-length: {length}\r\n\r\n".encode(), until=b"accepts.")
        assert told.startswith(b"HTTP/1.1 413 ")
        assert b"connection: close" in told


def test_a_body_that_breaks_off_is_not_an_answer(rest: ServedRest) -> None:
    heard = len(rest.heard.entries)
    with rest.connect() as connection:
        connection.sendall(f"{HEAD}content-length: {len(GOOD)}\r\n\r\n".encode() + GOOD[:-1])
        connection.shutdown(socket.SHUT_WR)
        told = read(connection, b"nothing")
    assert b"200" not in told.split(b"\r\n")[0]
    assert all(entry[0] != "answered" for entry in rest.heard.entries[heard:])


def test_requests_follow_one_another_on_a_connection_also_after_a_refusal(rest: ServedRest) -> None:
    request = f"{HEAD}content-length: {len(GOOD)}\r\n\r\n".encode() + GOOD
    elsewhere = request.replace(b"half_plus_two", b"half_plus_xxx")
    with rest.connect() as connection:
        for asked, status in ((request, b"200"), (elsewhere, b"404"), (request, b"200")):
            connection.sendall(asked)
            assert read(connection, b"}").startswith(b"HTTP/1.1 " + status)


def test_requests_that_come_at_once_are_answered_one_after_the_other(rest: ServedRest) -> None:
    requests = [
        f"{HEAD}content-length: {len(body)}\r\n\r\n{body}".encode()
        for body in (f'{{"instances": [{number}]}}' for number in range(5))
    ]
    told = exchange(rest, b"".join(requests), until=b"[4.0]")
    assert re.findall(rb'"predictions": \[(.*?)\]', told) == [b"2.0", b"2.5", b"3.0", b"3.5", b"4.0"]


@pytest.mark.parametrize(
    "lines",
    [
        "content-length: 18\r\ncontent-length: 19\r\n",
        "content-length: 18\r\ntransfer-encoding: chunked\r\n",
        "content-length: +18\r\n",
        "content-length: 0x12\r\n",
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: chunked, chunked\r\n",
        "content-length : 18\r\n",
        "a header without a colon\r\n",
    ],
    ids=["two-lengths", "length-and-chunks", "plus", "hexadecimal", "gzip", "chunked-twice", "space", "no-colon"],
)
def test_what_could_be_cut_into_requests_in_two_ways_is_answered_once_or_not_at_all(
    lines: str, rest: ServedRest
) -> None:
    smuggled = b"0\r\n\r\nGET /v1/models/half_plus_two HTTP/1.1\r\nhost: x\r\nx-garrison-client: alice\r\n\r\n"
    heard = len(rest.heard.entries)
    told = exchange(rest, f"{HEAD}{lines}\r\n".encode() + smuggled, until=b"nothing")
    assert told.count(b"HTTP/1.1 ") <= 1
    assert b"200" not in told
    assert all(entry[0] != "answered" for entry in rest.heard.entries[heard:])


def test_a_head_beyond_the_bound_is_not_waited_for(rest: ServedRest) -> None:
    heard = len(rest.heard.entries)
    told = exchange(rest, f"{HEAD}x-padding: {'x' * 300_000}".encode(), until=b"nothing")  # and never an end
    assert told == b"" or told.startswith(b"HTTP/1.1 400 ")
    assert rest.heard.entries[heard:] == []


def test_an_answer_names_no_server(rest: ServedRest) -> None:
    reply = rest.ask("POST", PATH, GOOD)
    assert set(reply.headers) == {"date", "content-type", "content-length"}
