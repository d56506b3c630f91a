"""What exists behind the gateway, for who has a key: the routes of admitted models and nothing else."""

import pytest

from stack.gateways import DIGITS, Gateway, Place, Seen, assert_refused

NOWHERE = [
    ("GET", DIGITS, 404),
    ("PATCH", DIGITS, 404),
    ("OPTIONS", DIGITS, 404),
    ("TRACE", DIGITS, 404),
    ("POST", f"{DIGITS}?explain=true", 404),
    ("POST", f"{DIGITS}?", 404),
    ("POST", f"{DIGITS}/", 404),
    ("POST", f"{DIGITS}/1.0", 404),
    ("POST", f"{DIGITS};x", 404),
    ("POST", "/predictions/Digits", 404),
    ("POST", "/predictions/missing", 404),
    ("POST", "/predictions/../models", 404),
    ("POST", "/predictions/%2e%2e/models", 404),
    ("POST", "/models?url=http://127.0.0.1/x.mar", 404),
    ("POST", "/workflows?url=http://127.0.0.1/x.war", 404),
    ("PUT", "/models/digits?min_worker=9", 404),
    ("DELETE", "/models/digits", 404),
    ("GET", "/models", 404),
    ("GET", "/ping", 404),
    ("GET", "/metrics", 404),
    ("GET", "/api-description", 404),
    ("OPTIONS", "/", 404),
    ("POST", "/invocations", 404),
    ("POST", "/explanations/digits", 404),
    ("POST", "/v1/models/digits:predict", 404),
    ("POST", "/v2/models/digits/infer", 404),
    ("POST", "/healthz", 404),
    ("GET", "/healthz?x", 404),
    ("POST", "/predictions%2Fdigits", 400),
    ("POST", "/predictions%5Cdigits", 400),
    ("POST", "/predictions/..%2Fmodels", 400),
    ("POST", "http://localhost/predictions/digits", 404),
    ("POST", f"{DIGITS}#x", 400),
]


@pytest.mark.parametrize(("method", "path", "status"), NOWHERE, ids=str)
def test_with_a_key_everything_else_is_nowhere(
    gateway: Gateway, place: Place, seen: list[Seen], method: str, path: str, status: int
) -> None:
    reply = gateway.send(method, path, {"x-api-key": place.key("both", ("digits", "faces", "missing"))})
    assert_refused(reply, status, seen)
    assert place.readiness.seen == []


@pytest.mark.parametrize(
    "request_line",
    [
        "CONNECT localhost:22 HTTP/1.1",
        "POST /predictions/digits HTTP/1.0",
        "POST /predictions/digits HTTP/1.1\r\nupgrade: websocket\r\nconnection: upgrade",
        "POST /predictions/digits HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 4",
        "POST /predictions/digits HTTP/1.1\r\ntransfer-encoding: gzip, chunked",
        "POST /predictions/digits HTTP/1.1\r\ncontent-length: 4\r\ncontent-length: 5",
        "POST /predictions/digits HTTP/1.1\r\nx: a\0b",
        "GARBAGE",
    ],
    ids=lambda line: line.replace("\r\n", " "),
)
def test_requests_that_are_no_plain_http_1_1_are_refused(
    gateway: Gateway, place: Place, seen: list[Seen], request_line: str
) -> None:
    head = f"{request_line}\r\nhost: localhost\r\nx-api-key: {place.key()}\r\n\r\n"
    assert 400 <= gateway.send_raw(head.encode() + b"0\r\n\r\n").status <= 505
    assert seen == []


def test_an_offer_of_h2c_is_not_passed_on(gateway: Gateway, place: Place, seen: list[Seen]) -> None:
    """Smuggling through an upgrade: Envoy ignores the offer, so the server must not hear of it."""
    offer = {"upgrade": "h2c", "connection": "Upgrade, HTTP2-Settings", "http2-settings": "AAMAAABkAARAAAAAAAIAAAAA"}
    assert gateway.send("POST", DIGITS, {**offer, "x-api-key": place.key()}).status == 200
    assert not {name for name, _ in seen[0].headers} & {"upgrade", "connection", "http2-settings"}
