"""`describe` tells a client of a SavedModel how to ask, by REST and gRPC, and what goes in and comes out."""

import json

import pytest

from garrison.contract import parse_contract
from garrison.describe import describe_contract, describe_in_words
from saved_models import make_contract

TENSOR = {"kind": "tensor", "dtype": "float32", "shape": [[1, 4], 2], "min": -10, "max": 10}
KINDS = {
    "tensor": (TENSOR, "float32, shape 1..4 x 2, at least -10, at most 10"),
    "text": (
        {"kind": "text", "max_bytes": "2KiB", "max_characters": 9, "shape": [3]},
        "text, shape 3, 1 to 9 characters, at most 2,048 bytes of UTF-8; becomes NFC",
    ),
    "image": (
        {
            "kind": "image",
            "formats": ["png", "jpeg"],
            "max_bytes": "2KiB",
            "min_side": 2,
            "max_side": 64,
            "max_pixels": 99,
        },
        "image, png or jpeg, at most 2,048 bytes",
    ),
    "bytes": ({"kind": "bytes", "min_bytes": 1, "max_bytes": 16}, "bytes, 1 to 16 bytes"),
    "example": (
        {"kind": "example", "max_bytes": 64, "features": {"age": {"kind": "tensor", "dtype": "int64", "shape": [1]}}},
        "age: int64, shape 1",
    ),
}
OUTPUTS = {"y": {"dtype": "float32", "shape": [2, None], "decimals": 4}}


def describe(**changes):
    contract = parse_contract(make_contract(**changes).encode(), "contract.yaml")
    values = describe_contract(contract)
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    return values, describe_in_words(contract)


def describe_signature(**changes):
    return describe(signatures={"serving_default": {"inputs": {"x": TENSOR}, "outputs": OUTPUTS, **changes}})


def test_a_client_is_told_where_to_ask():
    values, words = describe(version="7", version_labels=["stable"])
    assert values["request"]["paths"] == [
        "/v1/models/tiny_tf:predict",
        "/v1/models/tiny_tf/versions/7:predict",
        "/v1/models/tiny_tf/labels/stable:predict",
    ]
    for path in values["request"]["paths"]:
        assert f"POST {path}" in words or f"or {path}" in words
    assert "/tensorflow.serving.PredictionService/METHOD, model_spec.name tiny_tf" in words


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_input_is_described(kind):
    declared, sentence = KINDS[kind]
    values, words = describe_signature(inputs={"x": declared})
    assert values["signatures"]["serving_default"]["inputs"]["x"]["kind"] == kind
    assert sentence in words


def test_the_bounds_of_every_kind_are_among_the_values():
    inputs = {kind: declared for kind, (declared, _) in KINDS.items()}
    values, _ = describe_signature(inputs=inputs)
    found = values["signatures"]["serving_default"]["inputs"]
    assert found["tensor"] == {"kind": "tensor", "dtype": "float32", "shape": [[1, 4], [2, 2]], "min": -10, "max": 10}
    assert found["image"]["max_pixels"] == 99
    assert found["example"]["features"]["age"]["dtype"] == "int64"


def test_an_output_is_described():
    values, words = describe_signature()
    assert values["signatures"]["serving_default"]["outputs"]["y"] == {
        "dtype": "float32",
        "shape": [2, None],
        "decimals": 4,
    }
    assert "y: float32, shape 2 x any, 4 decimals" in words


@pytest.mark.parametrize(
    ("changes", "sentences"),
    [
        pytest.param(
            {},
            ['{"instances": [[...], ...]}, at most 8 row(s)', '{"inputs": {"x": [[...], ...]}}', '{"predictions": '],
            id="rows-and-columns",
        ),
        pytest.param(
            {"batched": False},
            ['{"inputs": {"x": [...]}}, each the whole tensor', '{"outputs": ...}'],
            id="the-whole-tensor",
        ),
        pytest.param(
            {"inputs": {"a": KINDS["bytes"][0], "b": KINDS["text"][0]}},
            ['{"instances": [{"a": {"b64": "..."}, "b": ["a text"]}, ...]}'],
            id="several-inputs",
        ),
        pytest.param(
            {"method": "classify", "inputs": {"inputs": KINDS["example"][0]}},
            ['{"examples": [{"age": [...]}, ...]}, at most 8 row(s)', '{"results": [[["label", score], ...], ...]}'],
            id="classify",
        ),
        pytest.param(
            {"method": "regress", "inputs": {"inputs": KINDS["example"][0]}},
            ["https://HOST/v1/models/tiny_tf:regress", '{"results": [number, ...]}'],
            id="regress",
        ),
    ],
)
def test_a_client_is_told_what_to_send_and_what_comes_back(changes, sentences):
    _, words = describe_signature(**changes)
    for sentence in sentences:
        assert sentence in words


def test_another_signature_than_the_default_one_has_to_be_named():
    _, words = describe(
        signatures={name: {"inputs": {"x": TENSOR}, "outputs": OUTPUTS} for name in ("serving_default", "other")}
    )
    assert '{"signature_name": "other", "instances": [[...], ...]}' in words
    assert words.index("serving_default: predict") < words.index("other: predict")


def test_the_example_s_body_is_json_but_for_its_values():
    for kind, (declared, _) in KINDS.items():
        _, words = describe_signature(inputs={"x": declared, "z": TENSOR})
        body = words.rpartition("curl --json '")[2].partition("' -H ")[0]
        assert json.loads(body.replace('"..."', '"x"').replace("...", "1")).keys() == {"instances"}, kind
