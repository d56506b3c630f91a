"""KServe's protocols with TorchServe behind the gateway: the paths, bodies and answers that its clients know."""

import json
import math
from typing import Any

import pytest

from attacks.catalogue import as_json, sample_digit
from stack.running import Answer, Target

NUMBERS = [[1, 2, 3], [4, 5, 6]]
JSON = {"content-type": "application/json"}


def ask(target: Target, path: str, body: Any = None) -> Answer:
    """Ask as KServe's clients do."""
    sent = b"" if body is None else json.dumps(body).encode()
    return target.send("GET" if body is None else "POST", path, sent, JSON)


def infer_request(**more: Any) -> dict[str, Any]:
    values = [value for row in NUMBERS for value in row]
    entry = {"name": "numbers", "datatype": "FP32", "shape": [1, 2, 3], "data": values}
    return {"id": "a-1", "inputs": [entry], **more}


def test_v1_predicts_several_instances(all_models: Target) -> None:
    answer = ask(all_models, "/v1/models/sums:predict", {"instances": [NUMBERS, NUMBERS[:1]]})
    assert (answer.status, answer.json) == (200, {"predictions": [[6.0, 15.0], [6.0]]})


def test_v1_predicts_a_picture_in_base64(all_models: Target) -> None:
    encoded = json.loads(as_json(sample_digit()))
    answer = ask(all_models, "/v1/models/digits:predict", {"instances": [encoded]})
    assert (answer.status, next(iter(answer.json["predictions"][0]))) == (200, "seven")


@pytest.mark.parametrize("path", ["/v2/models/sums/infer", "/v2/models/sums/versions/1/infer"])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"parameters": {"binary_data_output": True}},  # Triton's client, with no outputs named
        {"outputs": [{"name": "numbers", "parameters": {"binary_data": False}}]},  # and with one
    ],
    ids=str,
)
def test_v2_infers(all_models: Target, path: str, more: dict[str, Any]) -> None:
    answer = ask(all_models, path, infer_request(**more))
    output = {"name": "numbers", "datatype": "FP64", "shape": [2], "data": [6.0, 15.0]}
    assert (answer.status, answer.json) == (
        200, {"id": "a-1", "model_name": "sums", "model_version": "1", "outputs": [output]},
    )  # fmt: skip


def test_v2_what_the_metadata_says_is_accepted(all_models: Target) -> None:
    """As a client does that knows nothing but the address: read what goes in, and send that."""
    told = ask(all_models, "/v2/models/sums").json
    (described,) = told["inputs"]
    shape = [1 if size == -1 else size for size in described["shape"]]
    entry = {"name": described["name"], "datatype": described["datatype"], "shape": shape}
    entry["data"] = [0.5] * math.prod(shape)
    answer = ask(all_models, f"/v2/models/sums/versions/{told['versions'][0]}/infer", {"inputs": [entry]})
    (output,) = answer.json["outputs"]
    (promised,) = told["outputs"]
    assert (answer.status, output["data"]) == (200, [1.5])
    assert (output["name"], output["datatype"]) == (promised["name"], promised["datatype"])


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/v1/models/sums", {"name": "sums", "ready": True}),
        ("/v2/models/sums/ready", {"name": "sums", "ready": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/health/live", {"live": True}),
    ],
)
def test_readiness(all_models: Target, path: str, told: dict[str, Any]) -> None:
    answer = ask(all_models, path)
    assert (answer.status, answer.json) == (200, told)


def test_a_refusal_is_the_handlers(all_models: Target) -> None:
    wrong = infer_request()
    wrong["inputs"][0]["datatype"] = "FP64"
    answer = ask(all_models, "/v2/models/sums/infer", wrong)
    assert (answer.status, answer.reason) == (422, "wrong_dtype")
