"""The stand-in for TensorFlow Serving answers as upstream does, with real SavedModels of every kind."""

import math
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest

from garrison.contract import parse_contract
from garrison.tensorflow.messages import messages
from standins.saved_models.catalogue import BY_NAME, PREDICT, SAMPLES, Ask
from standins.saved_models.requests import ask_over, grpc_request, read_outputs
from standins.starting import StandIn

ASKS = [
    pytest.param(sample.name, ask, id=f"{sample.name}-{ask.signature}") for sample in SAMPLES for ask in sample.asks
]


@pytest.fixture(scope="module")
def channel(stand_in: StandIn) -> Any:
    return stand_in.connect()


@pytest.fixture
def refusal(channel: Any) -> Callable[[Any], tuple[str, str]]:
    def ask(request: Any) -> tuple[str, str]:
        with pytest.raises(grpc.RpcError) as caught:
            ask_over(channel, request)
        return caught.value.code().name, caught.value.details()

    return ask


@pytest.mark.parametrize("name", BY_NAME)
def test_every_sample_has_a_contract_that_garrison_reads(name: str, saved_models: Any) -> None:
    contract = parse_contract((saved_models / name / "contract.yaml").read_bytes(), "contract.yaml")
    assert {signature.name for signature in contract.signatures} == set(BY_NAME[name].signatures)


@pytest.mark.parametrize(("name", "ask"), ASKS)
def test_every_request_of_the_catalogue_is_answered_as_its_contract_says(name: str, ask: Ask, channel: Any) -> None:
    response = ask_over(channel, grpc_request(name, ask))
    assert response.model_spec.name == name
    assert response.model_spec.version.value == 1
    if ask.method == PREDICT:
        promised = BY_NAME[name].signatures[ask.signature]["outputs"]
        outputs = read_outputs(response)
        assert {key: _name(array) for key, array in outputs.items()} == {k: v["dtype"] for k, v in promised.items()}
        rows = 0 if BY_NAME[name].signatures[ask.signature].get("batched") is False else 1
        for key, array in outputs.items():
            shape = promised[key]["shape"]
            assert len(array.shape[rows:]) == len(shape)
            assert all(wanted in (None, size) for size, wanted in zip(array.shape[rows:], shape, strict=True))


def _name(array: Any) -> str:
    return "string" if array.dtype == object else array.dtype.name


def test_the_numbers_are_the_models(channel: Any) -> None:
    def outputs(name: str, index: int = 0) -> dict[str, Any]:
        return read_outputs(ask_over(channel, grpc_request(name, BY_NAME[name].asks[index])))

    assert outputs("half_plus_two")["y"].tolist() == [2.5, 3.0, 4.5]
    assert outputs("calculator", 2)["result"].tolist() == [0.375, -16.0]
    assert outputs("loops")["fibonacci"].tolist() == [1, 55, 102334155]
    assert outputs("parsed")["sum"].tolist() == [44.0, 8.0]
    assert outputs("digests")["digest_bytes"].tolist() == [b"yranib\x80\xff\x00", b"x"]
    assert outputs("ragged")["words"].tolist() == [3, 1]
    assert outputs("shouting")["loud"].tolist() == [b"HELLO!", b"STRASSE!"]
    assert outputs("pictures")["size"].tolist() == [[12, 12], [12, 12]]
    assert outputs("whole")["norm"] == pytest.approx(math.sqrt(91))
    assert outputs("types")["out_uint64"].tolist() == [[2, 3, 4], [5, 6, 7]]
    assert outputs("constants")["y"].tolist() == [[3, 6, 9]]


def test_classes_and_values_come_as_their_messages(channel: Any) -> None:
    classified = ask_over(channel, grpc_request("census", BY_NAME["census"].asks[0])).result.classifications
    assert [[one.label for one in row.classes] for row in classified] == [["low", "high"]] * 2
    assert sum(one.score for one in classified[0].classes) == pytest.approx(1)
    values = ask_over(channel, grpc_request("census", BY_NAME["census"].asks[1])).result.regressions
    assert [value.value for value in values] == pytest.approx([2.42, 1.07])


HALF = "half_plus_two"
WRONG = {
    "another model": (
        lambda r: setattr(r.model_spec, "name", "nobody"),
        "NOT_FOUND",
        "Servable not found for request: Latest(nobody)",
    ),
    "another version": (
        lambda r: setattr(r.model_spec.version, "value", 9),
        "NOT_FOUND",
        "Servable not found for request: Specific(half_plus_two, 9)",
    ),
    "no name": (
        lambda r: setattr(r.model_spec, "name", ""),
        "INVALID_ARGUMENT",
        "ModelSpec has no name specified.",
    ),
    "no model_spec": (lambda r: r.ClearField("model_spec"), "INVALID_ARGUMENT", "Missing ModelSpec"),
    "unknown label": (
        lambda r: setattr(r.model_spec, "version_label", "new"),
        "INVALID_ARGUMENT",
        "Unrecognized servable version label: new",
    ),
    "unknown signature": (
        lambda r: setattr(r.model_spec, "signature_name", "nosuch"),
        "FAILED_PRECONDITION",
        'Serving signature key "nosuch" not found.',
    ),
    "missing input": (
        lambda r: r.inputs.clear(),
        "INVALID_ARGUMENT",
        "input size does not match signature: 0!=1 len({}) != len({x}). Sent extra: {}. Missing but required: {x}.",
    ),
    "unknown output": (
        lambda r: r.output_filter.append("z"),
        "INVALID_ARGUMENT",
        "output tensor alias not found in signature: z Outputs expected to be in the set {y}.",
    ),
    "an output twice": (
        lambda r: r.output_filter.extend(["y", "y"]),
        "INVALID_ARGUMENT",
        "duplicate output tensor alias: y",
    ),
    "wrong type": (
        lambda r: setattr(r.inputs["x"], "dtype", 3),
        "INVALID_ARGUMENT",
        "Expects arg[0] to be float but int32 is provided",
    ),
    "wrong signature's method": (
        lambda r: None,
        "INVALID_ARGUMENT",
        "Expected classification signature method_name to be tensorflow/serving/classify. "
        "Was: tensorflow/serving/predict",
    ),
}


@pytest.mark.parametrize(("change", "code", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_answered_in_upstreams_words(
    change: Callable[[Any], None], code: str, message: str, refusal: Callable[[Any], tuple[str, str]]
) -> None:
    request = grpc_request("half_plus_two", BY_NAME["half_plus_two"].asks[0])
    if "classification" in message:
        request = messages.ClassificationRequest(model_spec=request.model_spec)
        request.input.example_list.examples.add()
    change(request)
    assert refusal(request) == (code, message)


def test_a_small_message_can_make_it_allocate_whatever_dimensions_say(channel: Any) -> None:
    request = grpc_request("half_plus_two", Ask(inputs={"x": np.array([1, 2, 3], "f4")}))
    request.inputs["x"].Clear()
    request.inputs["x"].dtype = 1
    request.inputs["x"].tensor_shape.dim.add(size=1_000_000)
    request.inputs["x"].float_val.append(2)
    assert len(request.SerializeToString()) < 64
    assert read_outputs(ask_over(channel, request))["y"].shape == (1_000_000,)
