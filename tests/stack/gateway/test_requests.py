"""What passes the gateway, and in which form."""

import httpx
import pytest

from garrison.gateway.security_headers import SECURITY_HEADERS
from stack.gateways import DIGITS, Gateway, Place, Seen, assert_refused


def test_a_request_with_a_key_reaches_the_model(gateway: Gateway, place: Place, seen: list[Seen]) -> None:
    reply = gateway.send("POST", DIGITS, {"x-api-key": place.key(), "content-type": "image/png"}, b"\x89PNG")
    assert (reply.status, reply.body) == (200, b'{"label": 7}')
    assert [(s.method, s.target, s.body) for s in seen] == [("POST", DIGITS, b"\x89PNG")]


def test_over_http2_too(gateway: Gateway, place: Place, seen: list[Seen]) -> None:
    with httpx.Client(http2=True, http1=False, verify=gateway.tls) as client:
        reply = client.post(
            f"https://localhost:{gateway.port}{DIGITS}", content=b"x", headers={"x-api-key": place.key()}
        )
    assert (reply.http_version, reply.status_code, len(seen)) == ("HTTP/2", 200, 1)


def test_only_listed_headers_reach_the_model_server(gateway: Gateway, place: Place, seen: list[Seen]) -> None:
    theirs = {
        "explain": "True", "cookie": "a=b", "authorization": "Bearer x", "x-forwarded-for": "10.0.0.1",
        "te": "trailers",
        "x-envoy-expected-rq-timeout-ms": "1", "x-request-id": "chosen", "accept": "*/*", "content-type": "image/png",
        "x-original-url": "/models",
    }  # fmt: skip
    gateway.send("POST", DIGITS, {**theirs, "x-api-key": place.key()}, b"x")
    headers = dict(seen[0].headers)
    assert set(headers) == {"host", "content-length", "accept", "content-type", "x-request-id", "x-garrison-client"}
    assert headers["host"] == "localhost"
    assert headers["x-garrison-client"] == "demo"
    assert headers["x-request-id"] != "chosen"


def test_only_listed_headers_reach_the_client(gateway: Gateway, place: Place) -> None:
    place.inference.answer.headers |= {
        "server": "x", "pragma": "no-cache", "x-request-id": "theirs", "set-cookie": "a=b",
        "x-envoy-upstream-canary": "1",
    }  # fmt: skip
    reply = gateway.send("POST", DIGITS, {"x-api-key": place.key()}, b"x")
    names = {name.lower() for name in reply.headers}
    assert names == {"content-type", "content-length", "date", "x-request-id", *SECURITY_HEADERS}
    assert reply.headers["x-request-id"] == dict(place.inference.seen[0].headers)["x-request-id"]


@pytest.mark.parametrize(
    "path", ["//predictions/digits", "/x/../predictions/digits", "/predictions/./digits", "/predictions/%64igits"]
)
def test_other_spellings_of_a_path_arrive_in_the_one_form(
    gateway: Gateway, place: Place, seen: list[Seen], path: str
) -> None:
    assert_refused(gateway.send("POST", path), 401, seen)
    assert gateway.send("POST", path, {"x-api-key": place.key()}, b"x").status == 200
    assert [s.target for s in seen] == [DIGITS]


def test_health_needs_no_key_and_is_the_readiness_sockets_answer(
    gateway: Gateway, place: Place, seen: list[Seen]
) -> None:
    assert gateway.send("GET", "/healthz").status == 200
    assert [s.target for s in place.readiness.seen] == ["/healthz"]
    place.readiness.seen.clear()
    place.readiness.answer.status = 503
    place.readiness.answer.body = b"worker 3 of /srv/models/digits is starting"
    assert_refused(gateway.send("GET", "/healthz"), 503, seen)
