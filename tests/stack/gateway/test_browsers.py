"""What browsers are told: the security headers of every answer, and who of other origins may ask."""

import pytest

from garrison.gateway.security_headers import SECURITY_HEADERS
from stack.gateways import DIGITS, Gateway, Place, Reply, Seen, http_manager, open_gateway, without

APP, LAB, STRANGER = "https://app.example", "https://lab.example:8443", "https://evil.example"
ALLOW_ORIGIN = "access-control-allow-origin"
ASKED = [("POST", DIGITS), ("POST", "/v1/models/digits:predict"), ("POST", "/v2/models/digits/infer")]
ASKED += [("GET", "/v2/models/digits/ready")]


def preflight(gateway: Gateway, path: str, origin: str, method: str = "POST", **more: str) -> Reply:
    asked = {"origin": origin, "access-control-request-method": method, "access-control-request-headers": "x-api-key"}
    return gateway.send("OPTIONS", path, {**asked, **more})


def cors_headers(reply: Reply) -> set[str]:
    return {name.lower() for name in reply.headers if name.lower().startswith("access-control-")}


# Security headers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("POST /predictions/digits HTTP/1.1", 200),
        ("GET /healthz HTTP/1.1", 200),
        ("GET /v2/models/digits HTTP/1.1", 200),
        ("POST /predictions/faces HTTP/1.1", 403),
        ("GET /nowhere HTTP/1.1", 404),
        ("GET /models HTTP/1.1", 404),
        ("GET /predictions//..//../models%2F HTTP/1.1", 400),
        ("POST /predictions/digits HTTP/1.1\r\ncontent-encoding: gzip", 415),
        ("POST /predictions/digits HTTP/1.1\r\nno colon", 400),
        ("POST /predictions/digits HTTP/1.1\r\nx_y: 1", 400),
        ("POST /predictions/digits HTTP/1.0", 426),
        ("POST /predictions/digits HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 4", 400),
        (f"GET /healthz HTTP/1.1\r\nx-long: {'x' * 20_000}", 431),
    ],
    ids=str,
)
def test_every_answer_has_the_security_headers(
    wide: Gateway, wide_place: Place, request_line: str, status: int
) -> None:  # fmt: skip
    head = f"{request_line}\r\nhost: localhost\r\nx-api-key: {wide_place.key()}\r\ncontent-length: 0\r\n\r\n"
    if "content-length: 4" in request_line:
        head = head.replace("content-length: 0\r\n", "")
    reply = wide.send_raw(head.encode(), request_line.split()[0])
    assert reply.status == status
    assert {name: reply.headers.get_all(name) for name in SECURITY_HEADERS} == {
        n: [v] for n, v in SECURITY_HEADERS.items()
    }
    assert not {"server", "via", "x-powered-by", "location"} & {name.lower() for name in reply.headers}


@pytest.mark.parametrize("upstream", [301, 302, 404, 500, 0])
def test_whatever_the_server_answers(wide: Gateway, wide_place: Place, upstream: int) -> None:
    wide_place.inference.answer.status = upstream
    wide_place.inference.answer.headers |= {
        "location": "https://evil.example/",
        "content-security-policy": "script-src *",
    }
    reply = wide.send("POST", DIGITS, {"x-api-key": wide_place.key()}, b"x")
    assert reply.status >= 400
    assert {name: reply.headers.get_all(name) for name in SECURITY_HEADERS} == {
        n: [v] for n, v in SECURITY_HEADERS.items()
    }
    assert "location" not in reply.headers


def test_they_come_from_the_filter_in_front(place: Place) -> None:
    with open_gateway(place, without("header_mutation")) as gateway:
        reply = gateway.send("GET", "/nowhere")
    assert not set(SECURITY_HEADERS) & {name.lower() for name in reply.headers}


# Other origins --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("origin", [APP, LAB])
@pytest.mark.parametrize(("method", "path"), ASKED)
def test_a_page_of_a_named_origin_may_ask(
    wide: Gateway, wide_place: Place, method: str, path: str, origin: str
) -> None:  # fmt: skip
    before = preflight(wide, path, origin, method)
    assert (before.status, before.headers[ALLOW_ORIGIN], before.headers["vary"]) == (200, origin, "origin")
    assert before.headers["access-control-allow-methods"] == "GET, POST, PUT"
    assert before.headers["access-control-allow-headers"] == "content-type, x-api-key"
    assert "access-control-allow-credentials" not in before.headers
    assert wide_place.inference.seen == []
    reply = wide.send(
        method, path, {"x-api-key": wide_place.key(), "origin": origin}, b"x" if method == "POST" else b""
    )
    assert (reply.status, reply.headers[ALLOW_ORIGIN], reply.headers["vary"]) == (200, origin, "origin")
    assert "access-control-allow-credentials" not in reply.headers


def test_it_can_read_why_not(wide: Gateway) -> None:
    reply = wide.send("POST", DIGITS, {"origin": APP}, b"x")
    assert (reply.status, reply.headers[ALLOW_ORIGIN]) == (401, APP)
    assert "x-garrison-reason" in reply.headers["access-control-expose-headers"]


@pytest.mark.parametrize(
    "origin",
    [
        *(STRANGER, "null", "*", "https://app.example.evil.example", "http://app.example", "https://app.example:444"),
        *("https://APP.example", "https://app.example/", "https://app.example, https://evil.example", "app.example"),
    ],
)
def test_a_page_of_another_origin_may_not(wide: Gateway, wide_place: Place, origin: str) -> None:
    before = preflight(wide, DIGITS, origin)
    assert (before.status, cors_headers(before)) == (401, set())
    reply = wide.send("POST", DIGITS, {"x-api-key": wide_place.key(), "origin": origin}, b"x")
    assert (reply.status, cors_headers(reply), reply.headers["vary"]) == (200, set(), "origin")


@pytest.mark.parametrize("name", ["digits", "missing", "faces"])
@pytest.mark.parametrize("prefix", ["/predictions/", "/explanations/", "/v1/models/", "/v2/models/"])
def test_a_preflight_does_not_tell_whether_a_model_is_there(wide: Gateway, prefix: str, name: str) -> None:
    before, after = preflight(wide, prefix + name, APP), wide.send("POST", prefix + name, {"origin": APP})
    assert (before.status, before.body, after.status, after.headers[ALLOW_ORIGIN]) == (200, b"", 401, APP)


@pytest.mark.parametrize(
    "path", ["/models", "/metrics", "/nowhere", "/", "/tensorflow.serving.PredictionService/Predict"]
)
def test_elsewhere_there_are_no_preflights(wide: Gateway, path: str) -> None:
    reply = preflight(wide, path, APP)
    assert reply.status >= 400
    assert cors_headers(reply) == set()


def test_a_preflight_with_a_body_reaches_nobody(wide: Gateway, wide_place: Place, seen: list[Seen]) -> None:
    before = wide.send("OPTIONS", DIGITS, {"origin": APP, "access-control-request-method": "POST"}, b"x" * 1000)
    assert before.status == 200
    assert wide_place.inference.seen == []


def test_a_preflight_opens_nothing_else(wide: Gateway, wide_place: Place) -> None:
    """OPTIONS that is no preflight, and what else says it is one."""
    assert wide.send("OPTIONS", DIGITS, {"origin": APP}).status == 401
    assert wide.send("OPTIONS", DIGITS, {"origin": APP, "x-api-key": wide_place.key()}).status == 404
    sent = {"origin": APP, "access-control-request-method": "POST"}
    assert wide.send("POST", DIGITS, sent, b"x").status == 401
    assert wide_place.inference.seen == []


def test_without_named_origins_nobody_of_another_origin_may(gateway: Gateway, place: Place) -> None:
    before = preflight(gateway, DIGITS, APP)
    reply = gateway.send("POST", DIGITS, {"x-api-key": place.key(), "origin": APP}, b"x")
    assert (before.status, reply.status) == (401, 200)
    assert cors_headers(before) == cors_headers(reply) == set()
    assert "vary" not in reply.headers


def test_the_policy_is_what_keeps_strangers_out(wide_place: Place) -> None:
    """The same page of another origin may ask where the policy is a naive one."""

    def allow_everybody(config: dict[str, object]) -> None:
        for route in http_manager(config)["route_config"]["virtual_hosts"][0]["routes"]:
            policy = route.get("typed_per_filter_config", {}).get("envoy.filters.http.cors")
            if policy:
                policy["allow_origin_string_match"] = [{"safe_regex": {"regex": ".*"}}]

    with open_gateway(wide_place, allow_everybody) as gateway:
        assert preflight(gateway, DIGITS, STRANGER).headers[ALLOW_ORIGIN] == STRANGER
