"""TensorFlow Serving's REST on its way to the guard, and a gateway that speaks nothing else."""

from collections.abc import Iterator

import pytest

from garrison.errors import ConfigError
from stack.gateways import CONFIG, Gateway, Place, assert_refused, open_gateway, open_place
from stack.guards import RecordingGuard

POSTED = [
    f"/v1/models/digits{which}:{verb}"
    for which in ("", "/versions/1", "/labels/stable", "/labels/v1.2-rc_3")
    for verb in ("predict", "classify", "regress")
]
GOT = [
    f"/v1/models/digits{which}{what}" for which in ("", "/versions/1", "/labels/stable") for what in ("", "/metadata")
]


@pytest.fixture(scope="module")
def alone_place(tmp_path_factory: pytest.TempPathFactory, guard: RecordingGuard) -> Iterator[Place]:
    """A place without TorchServe."""
    settings = (CONFIG / "gateway.yaml").read_text() + "\nprotocols: [tfserving-rest]\n"
    known = {"models": (), "saved_models": ("digits", "faces"), "guards": (guard.sockets,)}
    with open_place(tmp_path_factory.mktemp("gw"), settings=settings, **known) as place:
        yield place


@pytest.fixture(scope="module")
def alone_running(alone_place: Place) -> Iterator[Gateway]:
    with open_gateway(alone_place) as gateway:
        yield gateway


@pytest.fixture
def alone(alone_running: Gateway, alone_place: Place, guard: RecordingGuard) -> Gateway:
    """Its gateway, with nothing recorded yet."""
    alone_place.reset()
    guard.reset()
    return alone_running


@pytest.mark.parametrize(("method", "path"), [*(("POST", path) for path in POSTED), *(("GET", path) for path in GOT)])
def test_what_the_guard_gets(
    alone: Gateway, alone_place: Place, guard: RecordingGuard, method: str, path: str
) -> None:  # fmt: skip
    body = b'{"instances": [1]}' if method == "POST" else b""
    reply = alone.send(method, path, {"x-api-key": alone_place.key(), "content-type": "application/json"}, body)
    assert (reply.status, reply.body) == (200, b'{"label": 7}')
    (seen,) = guard.rest.seen
    assert (seen.method, seen.target, seen.body) == (method, path, body)
    assert dict(seen.headers)["x-garrison-client"] == "demo"
    assert alone.logged(reply)["path"] == path


FORM = "application/x-www-form-urlencoded"


def test_what_curl_says_of_a_body_is_no_reason_to_refuse_it(
    alone: Gateway, alone_place: Place, guard: RecordingGuard
) -> None:
    reply = alone.send("POST", POSTED[0], {"x-api-key": alone_place.key(), "content-type": FORM}, b'{"instances": [1]}')
    assert (reply.status, [seen.body for seen in guard.rest.seen]) == (200, [b'{"instances": [1]}'])


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": FORM, "origin": "https://evil.example"},
        {"content-type": FORM, "origin": "null"},
        {"content-type": f"{FORM}; charset=utf-8"},
        {"content-type": f"{FORM}, application/json"},
        {"content-type": FORM, "content-encoding": "gzip"},
    ],
    ids=["from a page", "from nowhere", "with a parameter", "two types", "compressed"],
)
def test_any_other_form_is_refused(
    alone: Gateway, alone_place: Place, guard: RecordingGuard, headers: dict[str, str]
) -> None:
    assert_refused(
        alone.send("POST", POSTED[0], {"x-api-key": alone_place.key(), **headers}, b"{}"), 415, guard.rest.seen
    )


@pytest.mark.parametrize(("method", "path"), [("POST", POSTED[0]), ("POST", POSTED[6]), ("GET", GOT[0])])
def test_only_who_may(alone: Gateway, alone_place: Place, guard: RecordingGuard, method: str, path: str) -> None:
    assert_refused(alone.send(method, path), 401, guard.rest.seen)
    other = {"x-api-key": alone_place.key("narrow", ("faces",))}
    assert_refused(alone.send(method, path, other), 403, guard.rest.seen)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/models/digits/versions/2:predict"),
        ("POST", "/v1/models/digits/labels/a/b:predict"),
        ("POST", "/v1/models/digits/labels/canary:predict"),
        ("POST", "/v1/models/digits/labels/:predict"),
        ("POST", f"/v1/models/digits/labels/{'x' * 65}:predict"),
        ("POST", "/v1/models/digits/labels/stable:predict?x"),
        ("POST", "/v1/models/digits/versions/1/labels/stable:predict"),
        ("POST", "/v1/models/digits:explain"),
        ("POST", "/v1/models/digits"),
        ("GET", "/v1/models/digits:predict"),
        ("GET", "/v1/models"),
        ("GET", "/monitoring/prometheus/metrics"),
        ("POST", "/predictions/digits"),
        ("POST", "/v2/models/digits/infer"),
    ],
)
def test_what_else_there_is_nowhere(
    alone: Gateway, alone_place: Place, guard: RecordingGuard, method: str, path: str
) -> None:
    assert_refused(alone.send(method, path, {"x-api-key": alone_place.key()}), 404, guard.rest.seen)


def test_what_the_guard_words_goes_through_and_nothing_else(
    alone: Gateway, alone_place: Place, guard: RecordingGuard
) -> None:
    guard.rest.answer.status, guard.rest.answer.body = 400, b'{"error": "conv1/kernel in /models/secret"}'
    key = {"x-api-key": alone_place.key()}
    assert_refused(alone.send("POST", POSTED[0], key, b"{}"), 400, [])
    guard.rest.answer.headers["x-garrison-reason"], guard.rest.answer.body = "wrong_shape", b'{"error": "The shape."}'
    reply = alone.send("POST", POSTED[0], key, b"{}")
    assert (reply.status, reply.body) == (400, b'{"error": "The shape."}')


def test_health_is_the_guards_where_there_is_no_server(alone: Gateway, guard: RecordingGuard) -> None:
    assert alone.send("GET", "/healthz").status == 200
    guard.readiness.answer.status = 503
    assert alone.send("GET", "/healthz").status == 503


def test_without_a_guard_its_protocols_are_refused(alone_place: Place) -> None:
    guards, alone_place.guards = alone_place.guards, ()
    try:
        with pytest.raises(ConfigError, match="tfserving-rest: there is no guard"):
            alone_place.render(8443)
    finally:
        alone_place.guards = guards
