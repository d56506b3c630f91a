"""KServe's v1 and v2: TorchServe's predictions at other paths, and what the gateway itself says about a model."""

import json

import pytest

from stack.gateways import DIGITS, Gateway, Place, assert_refused

INFER = ["/v1/models/digits:predict", "/v2/models/digits/infer", "/v2/models/digits/versions/1/infer"]
TOLD = ["/v2/models/digits", "/v2/models/digits/versions/1"]
READY = ["/v1/models/digits", "/v2/models/digits/ready", "/v2/models/digits/versions/1/ready"]
NAMED = {"name": "digits", "ready": True}


@pytest.mark.parametrize("path", INFER)
def test_a_prediction_is_torchserves(wide: Gateway, wide_place: Place, path: str) -> None:
    reply = wide.send("POST", path, {"x-api-key": wide_place.key(), "content-type": "application/json"}, b"{}")
    assert (reply.status, reply.body) == (200, b'{"label": 7}')
    assert [(seen.method, seen.target, seen.body) for seen in wide_place.inference.seen] == [("POST", DIGITS, b"{}")]
    line = wide.logged(reply)
    api = path[1:3]
    assert (line["path"], line["api"], line["verb"], line["model"]) == (path, f"kserve-{api}", "predict", "digits")


@pytest.mark.parametrize("path", TOLD)
def test_metadata_comes_from_the_contract(wide: Gateway, wide_place: Place, path: str) -> None:
    reply = wide.send("GET", path, {"x-api-key": wide_place.key()})
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert json.loads(reply.body) == {
        "name": "digits",
        "versions": ["1"],
        "platform": "garrison_torchserve",
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [{"name": "image", "datatype": "BYTES", "shape": [-1]}],
    }
    assert wide_place.inference.seen == wide_place.readiness.seen == []


@pytest.mark.parametrize("path", READY)
def test_a_model_is_ready_while_the_server_is(wide: Gateway, wide_place: Place, path: str) -> None:
    key = {"x-api-key": wide_place.key()}
    ready = wide.send("GET", path, key)
    wide_place.readiness.answer.status = 503
    assert_refused(wide.send("GET", path, key), 503, [])
    assert (ready.status, json.loads(ready.body), ready.headers["content-type"]) == (200, NAMED, "application/json")
    assert len(wide_place.readiness.seen) == 2


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/v2", {"name": "garrison", "version": "2", "extensions": []}),
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
    ],
)
def test_about_the_server_anybody_may_ask(wide: Gateway, path: str, told: object) -> None:
    reply = wide.send("GET", path)
    assert (reply.status, json.loads(reply.body)) == (200, told)


@pytest.mark.parametrize("path", [*TOLD, *READY, "/v1/models/missing", "/v2/models/missing/ready"])
def test_about_a_model_only_who_may(wide: Gateway, wide_place: Place, path: str) -> None:
    assert_refused(wide.send("GET", path), 401, wide_place.readiness.seen)
    predict_only = wide_place.issue("demo", ["digits:predict"]).token
    expected = 404 if "missing" in path else 403
    assert_refused(wide.send("GET", path, {"x-api-key": predict_only}), expected, wide_place.readiness.seen)


@pytest.mark.parametrize("path", [path.replace("digits", "faces") for path in INFER])
def test_a_prediction_needs_the_models_scope(wide: Gateway, wide_place: Place, path: str) -> None:
    assert_refused(wide.send("POST", path, {"x-api-key": wide_place.key()}), 403, wide_place.inference.seen)
    assert wide.send("POST", path, {"x-api-key": wide_place.key("both", ("faces",))}).status == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models"),
        ("GET", "/v2/models"),
        ("POST", "/v2/models/digits/versions/2/infer"),
        ("POST", "/v2/models/digits/infer?x=1"),
        ("POST", "/v2/models/digits/generate"),
        ("GET", "/v2/models/digits/stats"),
        ("GET", "/v2/models/digits/config"),
        ("POST", "/v1/models/digits:explain"),
        ("POST", "/v1/models/digits%3Apredict"),
        ("POST", "/v2/repository/models/digits/load"),
        ("POST", "/v2/repository/index"),
        ("POST", "/v2/models/digits/load"),
    ],
)
def test_what_else_kserve_has_is_nowhere(wide: Gateway, wide_place: Place, method: str, path: str) -> None:
    reply = wide.send(method, path, {"x-api-key": wide_place.key()})
    assert_refused(reply, 404, wide_place.inference.seen)


def test_a_body_is_bounded_as_at_the_models_own_path(wide: Gateway, wide_place: Place) -> None:
    key = {"x-api-key": wide_place.key()}
    assert_refused(wide.send("POST", INFER[1], key, b"x" * 65 * 1024), 413, wide_place.inference.seen)
    assert wide.send("POST", INFER[1], key, b"x" * 64 * 1024).status == 200
