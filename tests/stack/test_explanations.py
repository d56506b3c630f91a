"""Explanations through real servers: there for the model whose contract has them, nowhere for the others."""

import base64
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from garrison.unix_http import send_request
from stack.running import MODELS, Answer, RunningStack, Target, pack_sample

EXPLAINED = {
    "digits": "explanations: {method: integrated-gradients, max_evaluations: 32, grid: 8}",
    "languages": "explanations: {method: feature-ablation, max_evaluations: 12}",
}
SEVEN = (MODELS / "digits/samples/7.jpg").read_bytes()
SETTINGS = "protocols: [torchserve, kserve-v1]\n"
TUMOUR = (MODELS / "tumours/samples/benign.json").read_bytes()
LONG = b"one two three four five six seven eight nine ten eleven twelve"
OCTETS = {"content-type": "application/octet-stream"}


@pytest.fixture(scope="module")
def explained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Pictures by gradients, texts by leaving out, and a table whose contract has no explanations."""
    models = tmp_path_factory.mktemp("explained") / "models"
    for model in ("digits", "languages", "tumours"):
        section = EXPLAINED.get(model)
        pack_sample(model, models, {"\noutputs:\n": f"\n{section}\n\noutputs:\n"} if section else None)
    with RunningStack(models, served=("digits", "languages", "tumours"), settings=SETTINGS) as stack:
        yield stack


@pytest.fixture
def target(explained: RunningStack) -> Target:
    return explained.target


def explain(target: Target, model: str, body: bytes, key: str | None = "demo", method: str = "POST") -> Answer:
    return target.send(method, f"/explanations/{model}", body, key=key)


def test_a_picture_is_explained_in_cells(target: Target) -> None:
    answer = explain(target, "digits", SEVEN)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json["label"] == "seven"
    assert answer.json["score"] == target.send(body=SEVEN).json["seven"]
    assert [len(row) for row in answer.json["attributions"]] == [8] * 8
    assert max(map(max, answer.json["attributions"])) > 0


def test_and_at_the_path_of_kserve(target: Target) -> None:
    own = explain(target, "digits", SEVEN)
    wrapped = json.dumps({"instances": [base64.b64encode(SEVEN).decode()]}).encode()
    answer = target.send(path="/v1/models/digits:explain", body=wrapped)
    assert (answer.status, answer.json) == (200, {"explanations": [own.json]})
    assert target.send(path="/v1/models/tumours:explain", body=wrapped).status == 404  # its contract has none


def test_a_text_is_explained_by_its_tokens(target: Target) -> None:
    answer = explain(target, "languages", b"Wo ist der Bahnhof?")
    assert answer.json["label"] == "German"
    assert [token for token, _ in answer.json["attributions"]] == ["wo", "ist", "der", "bahnhof", "?"]


def test_a_text_that_would_cost_too_much_is_answered_only(target: Target) -> None:
    answer = explain(target, "languages", LONG)
    assert (answer.status, answer.reason) == (413, "too_many_evaluations")
    assert target.send(path="/predictions/languages", body=LONG).status == 200


def test_a_model_without_explanations_has_no_such_route(target: Target) -> None:
    answer = explain(target, "tumours", TUMOUR)
    assert (answer.status, answer.reason) == (404, "not_found")
    assert target.send(path="/predictions/tumours", body=TUMOUR).status == 200


@pytest.mark.parametrize("model", ["digits", "tumours", "nosuch"])
@pytest.mark.parametrize("key", [None, "stranger", "expired", "forged"])
def test_who_may_not_ask_learns_nothing_of_explanations(target: Target, model: str, key: str | None) -> None:
    asked = explain(target, model, b"x", key)
    other = target.send(path=f"/predictions/{model}", body=b"x", key=key)
    assert (asked.status, asked.reason) == (other.status, other.reason)
    assert asked.status == (403 if key == "stranger" else 401)


@pytest.mark.parametrize(("model", "status"), [("digits", 403), ("tumours", 404), ("nosuch", 404)])
def test_a_key_for_another_model_explains_nothing(target: Target, model: str, status: int) -> None:
    assert explain(target, model, b"x", "neighbour").status == status


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/explanations/digits", {}, 404),
        ("POST", "/explanations/digits?target=3", {}, 404),
        ("POST", "/explanations/digits/1", {}, 404),
        ("POST", "/explanations/", {}, 404),
        ("POST", "/explanations%2Fdigits", {}, 400),
        ("POST", "/explanations/digits", {"content-type": "multipart/form-data; boundary=x"}, 415),
        ("POST", "/explanations/digits", {"content-encoding": "gzip"}, 415),
    ],
)
def test_the_route_is_as_narrow_as_that_of_predictions(
    target: Target, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    assert target.send(method, path, SEVEN if method == "POST" else b"", headers).status == status


def test_the_body_is_bounded_by_the_contract(target: Target) -> None:
    answer = explain(target, "digits", bytes(6 * 2**20))
    assert (answer.status, answer.reason) == (413, "too_many_bytes")


def test_a_refused_picture_is_refused(target: Target) -> None:
    asked, other = explain(target, "digits", SEVEN[:300]), target.send(body=SEVEN[:300])
    assert (asked.status, asked.json) == (other.status, other.json)


def test_a_client_s_own_header_changes_nothing(target: Target) -> None:
    for path, body in (("/predictions/digits", SEVEN), ("/predictions/tumours", TUMOUR)):
        plain = target.send(path=path, body=body)
        for headers in ({"explain": "True"}, {"Explain": "True", "describe": "False"}):
            answer = target.send(path=path, body=body, headers=headers)
            assert (answer.status, answer.body) == (200, plain.body)


def test_behind_the_gateway_a_worker_still_refuses_what_its_contract_does_not_have(explained: RunningStack) -> None:
    inference = explained.run_directory / "inference.sock"
    answer = send_request(inference, "POST", "/explanations/tumours", 30, TUMOUR, OCTETS)
    assert (answer.status, json.loads(answer.body)["reason"]) == (415, "no_explanations")


@pytest.mark.parametrize("name", ["explain", "Explain"])
def test_behind_the_gateway_a_client_s_own_header_explains_nothing(explained: RunningStack, name: str) -> None:
    """TorchServe itself decides by the path; the worker would be safe if it did not."""
    inference = explained.run_directory / "inference.sock"
    answer = send_request(inference, "POST", "/predictions/digits", 30, SEVEN, {**OCTETS, name: "True"})
    assert (answer.status, next(iter(json.loads(answer.body)))) == (200, "seven")


def test_predictions_and_explanations_in_one_batch_are_answered_as_alone(target: Target) -> None:
    wanted = [target.send(body=SEVEN).body, explain(target, "digits", SEVEN).body]
    with ThreadPoolExecutor(16) as pool:
        paths = ["/predictions/digits", "/explanations/digits"] * 24
        answers = list(pool.map(lambda path: target.send(path=path, body=SEVEN), paths))
    assert [answer.body for answer in answers] == wanted * 24


def test_an_explanation_is_told_in_the_log_and_counted(explained: RunningStack) -> None:
    request_id = explain(explained.target, "digits", SEVEN).headers["x-request-id"]
    deadline = time.monotonic() + 10
    while not (lines := [event for event in explained.events() if event.get("request_id") == request_id]):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert [(line["path"], line["model"], line["client"]) for line in lines] == [
        ("/explanations/digits", "digits", "demo")
    ]
    _, metrics = explained.ask_metrics()
    assert 'garrison_contract_step_seconds_count{model="digits",step="explain"}' in metrics
    assert 'garrison_contract_step_seconds_count{model="tumours",step="explain"} 0.0' in metrics
