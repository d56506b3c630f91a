"""Nobody gets at a server's management through the gateway, and who tries is seen: an event of its own, a counter."""

import json
import re
import ssl
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest

from garrison.gateway.admin import ask_admin
from garrison.gateway.counters import PREFIX
from garrison.gateway.routes.management import PATHS
from logs import read_events
from stack.gateways import DIGITS, WAIT_S, Gateway, Place, assert_refused, http_manager, open_gateway, signed_by_another
from stack.guards import RecordingGuard, call

METHODS = ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "HEAD"]
SPELLINGS = [
    "/models",
    "/models/",
    "/models?url=x",
    "//models",
    "/x/../models/digits/2",
    "/MODELS",
    "/models/digits",
    "/%6dodels",
]


def count(gateway: Gateway) -> dict[str, int]:
    """Return our counters, by what stands behind the prefix."""
    told = ask_admin(gateway.admin, "GET", f"/stats?filter=^{PREFIX}")
    return {name: int(n) for name, n in re.findall(rf"^{re.escape(PREFIX)}\.(\S+): (\d+)$", told, re.MULTILINE)}


def grown(gateway: Gateway, before: dict[str, int]) -> dict[str, int]:
    """Return which counters have grown, and by how much; Lua's own are left out."""
    now = count(gateway)
    grown = {name: value - before.get(name, 0) for name, value in now.items() if value != before.get(name, 0)}
    return {name: value for name, value in grown.items() if name not in ("executions", "errors")}


def test_every_attempt_is_an_event_and_counted(wide: Gateway, wide_place: Place) -> None:
    before, paths = count(wide), [path for path in PATHS if "." not in path] + SPELLINGS
    tried = [("POST", path, sent) for path in paths for sent in ({}, {"x-api-key": wide_place.key()})]
    tried += [(method, "/models/digits", {}) for method in METHODS]
    replies = [wide.send(method, path, sent, b"x") for method, path, sent in tried]
    assert {(reply.status, reply.headers["x-garrison-reason"]) for reply in replies} == {(404, "not_found")}
    assert wide_place.inference.seen == wide_place.readiness.seen == []
    lines = [wide.logged(reply) for reply in replies]
    assert [line for line in lines if line["event"] != "management_attempt"] == []
    assert [line["client"] for line in lines] == ["demo" if sent else "" for _, _, sent in tried]
    assert grown(wide, before) == {"management_attempts": len(tried), "refused.not_found": len(tried)}


def test_a_bad_key_is_nobodys(wide: Gateway, wide_place: Place) -> None:
    expired = wide_place.sign(exp=datetime.now(UTC) - timedelta(hours=1))
    good = wide_place.key()
    keys = [signed_by_another(wide_place), expired, good.replace(".", ".x", 1), good[:-9], "x"]
    replies = [wide.send("POST", "/models", {"x-api-key": key}) for key in keys]
    assert [(reply.status, wide.logged(reply)["client"]) for reply in replies] == [(404, "")] * len(keys)


def test_options_of_everything(wide: Gateway, wide_place: Place) -> None:
    """TorchServe answers it with the description of its APIs."""
    assert_refused(wide.send("OPTIONS", "*"), 404, wide_place.inference.seen)
    after = wide.send("GET", "/nowhere")
    wide.logged(after)
    lines = [event for event in read_events(wide.log_path) if event.get("path") == "*"]
    assert [(line["event"], line["method"], line["status"]) for line in lines] == [
        ("management_attempt", "OPTIONS", 404)
    ]


@pytest.mark.parametrize("method", [path for path in PATHS if "." in path])
def test_by_grpc(wide: Gateway, wide_place: Place, guard: RecordingGuard, method: str) -> None:
    before = count(wide)
    outcome = call(wide, method if method.count("/") == 2 else f"{method}/Do", wide_place.key())
    assert (outcome.code.name, outcome.reason, guard.called) == ("UNIMPLEMENTED", "not_found", [])
    assert grown(wide, before) == {"management_attempts": 1, "refused.not_found": 1}


@pytest.mark.parametrize(
    "path", ["/modelsx", "/x/models", "/v1/models", "/favicon.ico", "/", "/wp-login.php", "/predictions"]
)
def test_anything_else_is_a_probe(wide: Gateway, path: str) -> None:
    before = count(wide)
    reply = wide.send("POST", path)
    assert (reply.status, wide.logged(reply)["event"]) == (404, "request")
    assert grown(wide, before) == {"probes": 1, "refused.not_found": 1}


def test_answers_and_refusals_are_counted_by_model_and_reason(wide: Gateway, wide_place: Place) -> None:
    before, key = count(wide), {"x-api-key": wide_place.key()}
    wide.send("POST", DIGITS, key, b"x")
    wide.send("POST", "/v2/models/digits/infer", key, b"x")
    wide.send("POST", DIGITS, {}, b"x")
    wide.send("POST", "/predictions/faces", key, b"x")
    wide.send("GET", "/healthz")
    wide.send("POST", DIGITS + "%2F", key)
    wide_place.inference.answer.status = 418
    wide.send("POST", DIGITS, key, b"x")
    wide_place.inference.answer.status, wide_place.inference.answer.headers["x-garrison-reason"] = 400, "bad_pixels"
    wide.send("POST", DIGITS, key, b"x")
    call(wide, "/tensorflow.serving.PredictionService/Predict", key["x-api-key"])
    assert grown(wide, before) == {
        "answered.digits": 2, "answered.rest": 1, "answered.grpc": 1, "refused.unauthenticated": 1,
        "refused.forbidden": 1, "refused.bad_request": 1, "refused.server_error": 1, "refused.in_its_own_words": 1,
    }  # fmt: skip


def test_no_name_of_a_counter_is_the_clients_or_the_models_to_choose(wide: Gateway, wide_place: Place) -> None:
    names = set(count(wide))
    for number in range(6):
        wide_place.inference.answer.status = 400
        wide_place.inference.answer.headers["x-garrison-reason"] = "r" * number + "x"
        wide.send("POST", DIGITS, {"x-api-key": wide_place.key()}, b"x")
        wide.send("POST", f"/predictions/m{number}", {"x-api-key": wide_place.key()}, b"x")
        wide.send("POST", f"/m{number}", {"x-garrison-reason": f"m{number}"})
    assert len(set(count(wide)) - names) <= 3  # those of a first refusal each


def test_they_have_labels(wide: Gateway, wide_place: Place) -> None:
    wide.send("POST", DIGITS, {"x-api-key": wide_place.key()}, b"x")
    wide.send("GET", "/models")
    told = ask_admin(wide.admin, "GET", "/stats/prometheus?filter=garrison")
    prefix = 'envoy_http_conn_manager_prefix="gateway"'
    assert re.search(rf'^envoy_http_lua_garrison_refused{{{prefix},reason="not_found"}} \d+$', told, re.MULTILINE)
    assert re.search(rf'^envoy_http_lua_garrison_answered{{{prefix},model="digits"}} \d+$', told, re.MULTILINE)
    assert re.search(rf"^envoy_http_lua_garrison_management_attempts{{{prefix}}} \d+$", told, re.MULTILINE)


# What a client writes into the log ------------------------------------------------------------------------------------

FORGED = '{"gate":"launcher","event":"stopped"}'


def send_h2(gateway: Gateway, headers: Sequence[tuple[str, str]]) -> None:
    """Send a request over HTTP/2 exactly as given, and wait until it has ended."""
    config = h2.config.H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False)
    connection = h2.connection.H2Connection(config)
    connection.initiate_connection()
    connection.send_headers(1, headers, end_stream=True)
    deadline = time.monotonic() + WAIT_S
    with gateway.connect(["h2"]) as link:
        link.sendall(connection.data_to_send())
        while time.monotonic() < deadline:
            try:
                data = link.recv(65_536)
            except (ConnectionError, ssl.SSLError):
                return
            ended = (h2.events.StreamEnded, h2.events.StreamReset, h2.events.ConnectionTerminated)
            if not data or any(isinstance(event, ended) for event in connection.receive_data(data)):
                return
    raise AssertionError("no end")


TEXTS = [
    *(f"\n{FORGED}\n", f"\r\n{FORGED}\r\n", f'","event":"stopped","x":"{FORGED}', "\x1b[2J\x1b[31mred", "\x00\x07\x7f"),
    *("\\", '"' * 200, "\\u000a", "\u2028", "\xff\xfe", "%0a%22", "\t", "x" * 5000),
]


@pytest.mark.parametrize("where", [":method", ":path", ":authority", "x-request-id"])
def test_no_line_can_be_forged(wide: Gateway, where: str) -> None:
    lines = len(wide.log_path.read_bytes().splitlines())

    def send(text: str) -> None:
        own = {where: ("/models/" if where == ":path" else "") + text}
        parts = {":method": "POST", ":path": DIGITS, ":authority": "localhost", ":scheme": "https", **own}
        send_h2(wide, [(name, value.encode().decode("latin-1")) for name, value in parts.items()])

    with ThreadPoolExecutor(len(TEXTS)) as threads:  # Envoy takes a second to close a connection that it gave up
        list(threads.map(send, TEXTS))
    wide.logged(wide.send("GET", "/nowhere"))  # what comes after them in the log
    written = wide.log_path.read_bytes().splitlines()[lines:]
    told = [json.loads(line) for line in written if not line.startswith(b"[")]
    assert len(told) >= 3  # the others are not even HTTP
    assert {line["gate"] for line in told} == {"gateway"}
    assert {line["event"] for line in told} <= {"request", "management_attempt", "broken_connection"}
    assert not [line for line in written if re.search(rb"[\x00-\x1f\x7f]", line) or len(line) > 1500]
    assert not [line for line in written if line.startswith(b"[") and FORGED.encode() in line]  # Envoy's own words


def test_with_another_form_of_log_a_line_can(wide_place: Place) -> None:
    def log_as_text(config: dict[str, Any]) -> None:
        for log in http_manager(config)["access_log"]:
            naive = '{"event":"request","accept":"%REQ(ACCEPT)%"}\n'
            log["typed_config"]["log_format"] = {"text_format_source": {"inline_string": naive}}

    with open_gateway(wide_place, log_as_text) as gateway:
        gateway.send("GET", "/x", {"accept": 'x","event":"stopped'})
        assert gateway.access_log(1)[0]["event"] == "stopped"
