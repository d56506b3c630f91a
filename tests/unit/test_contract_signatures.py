"""Contracts of SavedModels: signatures instead of inputs, read into frozen values or refused with every problem."""

import copy
import json
from typing import Any

import pytest

from garrison.contract import (
    BytesElement,
    Contract,
    ExampleElement,
    ImageElement,
    StringInput,
    TensorInput,
    TextElement,
    parse_contract,
)
from garrison.errors import ConfigError

MIB = 2**20
TENSOR = {"kind": "tensor", "dtype": "float32", "shape": [4]}
TEXT = {"kind": "text", "max_bytes": 64, "max_characters": 32}
IMAGE = {"kind": "image", "formats": ["png"], "max_bytes": 1024, "min_side": 1, "max_side": 8, "max_pixels": 64}
BYTES = {"kind": "bytes", "max_bytes": 16}
EXAMPLE = {"kind": "example", "max_bytes": 256, "features": {"age": {"kind": "tensor", "dtype": "int64", "shape": []}}}
KINDS = {"tensor": TENSOR, "text": TEXT, "image": IMAGE, "bytes": BYTES, "example": EXAMPLE}
SIGNATURE = {"inputs": {"x": TENSOR}, "outputs": {"y": {"dtype": "float32", "shape": [3]}}}
CONTRACT = {
    "garrison": 1,
    "model": "tiny",
    "version": "3",
    "task": "tensorflow",
    "signatures": {"serving_default": SIGNATURE},
    "batch": {"max_items": 8, "max_delay_ms": 1, "max_bytes": "1GiB", "max_instances": 8},
    "workers": {"count": 1, "queue": 8, "timeout_s": 5},
}


def contract_with(**changes: Any) -> dict[str, Any]:
    """Return the contract's values; `batch__max_items` changes that key, `...` takes it out."""
    values = copy.deepcopy(CONTRACT)
    for name, value in changes.items():
        *path, key = name.split("__")
        section: dict[str, Any] = values
        for part in path:
            section = section[part]
        if value is ...:
            del section[key]
        else:
            section[key] = value
    return values


def signature_with(**changes: Any) -> dict[str, Any]:
    return contract_with(signatures={"serving_default": {**copy.deepcopy(SIGNATURE), **changes}})


def input_with(kind: str, **changes: Any) -> dict[str, Any]:
    values = {key: value for key, value in {**KINDS[kind], **changes}.items() if value is not ...}
    return signature_with(inputs={"x": values})


def output_with(**changes: Any) -> dict[str, Any]:
    return signature_with(outputs={"y": {"dtype": "float32", "shape": [3], **changes}})


def read(values: dict[str, Any]) -> Contract:
    return parse_contract(json.dumps(values).encode(), "contract.yaml")


def read_input(kind: str, **changes: Any) -> Any:
    return read(input_with(kind, **changes)).signatures[0].inputs[0]


def problems_of(values: dict[str, Any]) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        read(values)
    return caught.value.problems


def test_a_contract_of_a_saved_model_is_for_tensorflow_serving():
    contract = read(contract_with(version_labels=["stable"]))
    assert (contract.server, contract.inputs, contract.version_labels) == ("tfserving", (), ("stable",))
    assert contract.outputs.max_bytes == MIB


def test_a_signature_is_asked_by_predict_in_rows_unless_it_says_otherwise():
    (signature,) = read(contract_with()).signatures
    assert (signature.name, signature.method, signature.batched) == ("serving_default", "predict", True)


def test_every_kind_of_input_is_read_into_its_values():
    kinds = {
        "tensor": TensorInput("x", ("json",), "float32", ((4, 4),), None, None),
        "text": StringInput("x", (), TextElement(64, 1, 32, "NFC")),
        "image": StringInput("x", (), ImageElement(("png",), 1024, 1, 8, 64, 1)),
        "bytes": StringInput("x", (), BytesElement(0, 16)),
        "example": StringInput("x", (), ExampleElement(256, (TensorInput("age", ("json",), "int64", (), None, None),))),
    }
    assert {kind: read_input(kind) for kind in KINDS} == kinds


@pytest.mark.parametrize("kind", ["text", "image", "bytes"])
def test_a_feature_of_an_example_may_be_of_any_kind_but_an_example(kind):
    features = {"f": KINDS[kind]}
    assert read_input("example", features=features).element.features[0].name == "f"
    assert "example" in str(problems_of(input_with("example", features={"f": EXAMPLE})))


@pytest.mark.parametrize("dtype", ["float64", "int32", "bool", "string"])
def test_a_feature_has_one_of_the_two_numbers_that_examples_know(dtype):
    features = {"f": {"kind": "tensor", "dtype": dtype, "shape": [1]}}
    (problem,) = problems_of(input_with("example", features=features))
    assert "is not one of float32, int64" in problem


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "uint64", "float16", "bool"])
def test_tensors_have_the_types_that_tensorflow_has_besides(dtype):
    assert read_input("tensor", dtype=dtype).dtype == dtype


@pytest.mark.parametrize("dtype", ["string", "complex64", "bfloat16", "resource", "DT_FLOAT", 1], ids=repr)
def test_what_is_no_number_is_no_dtype_of_a_tensor(dtype):
    (problem,) = problems_of(input_with("tensor", dtype=dtype))
    assert problem.startswith("contract.yaml: signatures.serving_default.inputs.x.dtype: ")


@pytest.mark.parametrize("kind", KINDS)
def test_no_input_has_forms_because_a_message_has_one(kind):
    (problem,) = problems_of(input_with(kind, forms=["json"]))
    assert "inputs.x.forms: unknown key" in problem


@pytest.mark.parametrize(
    ("kind", "key", "least", "most"),
    [
        pytest.param("text", "max_bytes", 1, 64 * MIB // 6, id="bytes-of-a-text"),
        pytest.param("text", "max_characters", 1, 10_000_000, id="characters"),
        pytest.param("image", "max_bytes", 1, 64 * MIB, id="bytes-of-an-image"),
        pytest.param("image", "max_side", 1, 65_535, id="longest-side"),
        pytest.param("image", "max_pixels", 1, 65_535**2, id="pixels"),
        pytest.param("image", "max_frames", 1, 1000, id="frames"),
        pytest.param("bytes", "max_bytes", 1, 64 * MIB, id="bytes"),
        pytest.param("example", "max_bytes", 1, 64 * MIB, id="bytes-of-an-example"),
    ],
)
def test_a_limit_holds_at_both_its_ends_and_not_beyond(kind, key, least, most):
    read(input_with(kind, **{key: least}))
    read(input_with(kind, **{key: most}))
    for value in (least - 1, most + 1):
        (problem,) = problems_of(input_with(kind, **{key: value}))
        assert problem.startswith(f"contract.yaml: signatures.serving_default.inputs.x.{key}: ")


@pytest.mark.parametrize(
    ("kind", "key", "values"),
    [
        pytest.param("bytes", "min_bytes", (0, 16, 17, -1), id="min-bytes-up-to-max-bytes"),
        pytest.param("text", "min_characters", (1, 32, 33, 0), id="min-characters-up-to-max-characters"),
        pytest.param("image", "min_side", (1, 8, 9, 0), id="min-side-up-to-max-side"),
    ],
)
def test_the_smallest_is_at_most_the_largest(kind, key, values):
    low, high, over, under = values
    read(input_with(kind, **{key: low}))
    read(input_with(kind, **{key: high}))
    for value in (over, under):
        assert problems_of(input_with(kind, **{key: value}))[0].startswith(
            f"contract.yaml: signatures.serving_default.inputs.x.{key}: "
        )


@pytest.mark.parametrize("kind", KINDS)
def test_a_limit_that_is_missing_is_named(kind):
    optional = {"kind"}
    for key in KINDS[kind].keys() - optional:
        (problem,) = problems_of(input_with(kind, **{key: ...}))
        assert problem.startswith(f"contract.yaml: signatures.serving_default.inputs.x.{key}: missing; write ")


def test_a_tensor_of_strings_has_a_bounded_number_of_them():
    assert read_input("bytes", max_bytes=1, shape=[[1, 2**20]]).max_values == 2**20
    (problem,) = problems_of(input_with("bytes", max_bytes=1, shape=[[1, 2**20 + 1]]))
    assert "1048577 strings are more than 1048576" in problem


def test_the_strings_of_a_row_have_at_most_64_mib_together():
    assert read_input("bytes", max_bytes=2**20, shape=[64]).item_bytes == 64 * MIB
    (problem,) = problems_of(input_with("bytes", max_bytes=2**20, shape=[65]))
    assert "a row would have 68157440 bytes; 67108864 are possible" in problem


def test_a_tensor_has_at_most_64_mib():
    assert read_input("tensor", dtype="uint64", shape=[8, 2**20]).item_bytes == 64 * MIB
    (problem,) = problems_of(input_with("tensor", dtype="uint64", shape=[8, 2**20 + 1]))
    assert "at most 67108864 are possible" in problem


@pytest.mark.parametrize(
    ("shape", "fits"),
    [
        pytest.param([], True, id="one-value"),
        pytest.param([1] * 8, True, id="eight-dimensions"),
        pytest.param([1] * 9, False, id="nine-dimensions"),
        pytest.param([[1, 5]], True, id="a-range"),
        pytest.param([[5, 1]], False, id="a-range-the-wrong-way-round"),
        pytest.param([0], False, id="nothing"),
        pytest.param([None], False, id="any-size"),
        pytest.param([-1], False, id="tensorflow-s-any-size"),
        pytest.param(4, False, id="no-list"),
    ],
)
def test_the_shape_of_a_row_is_bounded(shape, fits):
    if fits:
        assert len(read_input("tensor", shape=shape).shape) == len(shape)
    else:
        (problem,) = problems_of(input_with("tensor", shape=shape))
        assert problem.startswith("contract.yaml: signatures.serving_default.inputs.x.shape: ")


@pytest.mark.parametrize(
    ("changes", "shape"),
    [
        pytest.param({"shape": []}, (), id="one-value"),
        pytest.param({"shape": [None, 4]}, (None, 4), id="a-size-that-depends-on-the-input"),
        pytest.param({"dtype": "string", "shape": [3], "max_bytes": 8}, (3,), id="strings"),
    ],
)
def test_an_output_has_a_dtype_and_a_shape(changes, shape):
    assert read(output_with(**changes)).signatures[0].outputs[0].shape == shape


@pytest.mark.parametrize(("decimals", "fits"), [(0, True), (15, True), (16, False), (-1, False)])
def test_an_output_s_decimals_are_bounded(decimals, fits):
    if fits:
        assert read(output_with(decimals=decimals)).signatures[0].outputs[0].decimals == decimals
    else:
        assert "outputs.y.decimals" in str(problems_of(output_with(decimals=decimals)))


@pytest.mark.parametrize("method", ["classify", "regress"])
def test_classifying_and_regressing_take_one_example_for_each_row(method):
    fitting = {"method": method, "inputs": {"examples": EXAMPLE}}
    assert read(signature_with(**fitting)).signatures[0].method == method
    others = [
        {"inputs": {"x": TENSOR}},
        {"inputs": {"a": EXAMPLE, "b": EXAMPLE}},
        {"inputs": {"x": {**EXAMPLE, "shape": [2]}}},
        {"batched": False},
    ]
    for other in others:
        (problem,) = problems_of(signature_with(**{**fitting, **other}))
        assert f"{method} takes one input of kind example, one for each row" in problem


@pytest.mark.parametrize("key", ["inputs", "outputs"])
def test_a_signature_has_1_to_32_tensors_each_way(key):
    one = SIGNATURE[key]["x" if key == "inputs" else "y"]
    read(signature_with(**{key: {f"t{index}": one for index in range(32)}}))
    for count in (0, 33):
        (problem,) = problems_of(signature_with(**{key: {f"t{index}": one for index in range(count)}}))
        assert problem == f"contract.yaml: signatures.serving_default.{key}: write 1 to 32 of them"


def test_an_example_has_1_to_32_features():
    one = EXAMPLE["features"]["age"]
    read(input_with("example", features={f"f{index}": one for index in range(32)}))
    for count in (0, 33):
        (problem,) = problems_of(input_with("example", features={f"f{index}": one for index in range(count)}))
        assert problem.endswith("features: write 1 to 32 features")


def test_a_contract_has_1_to_16_signatures():
    assert len(read(contract_with(signatures={f"s{index}": SIGNATURE for index in range(16)})).signatures) == 16
    for count in (0, 17):
        (problem,) = problems_of(contract_with(signatures={f"s{index}": SIGNATURE for index in range(count)}))
        assert problem == "contract.yaml: signatures: write 1 to 16 signatures"


@pytest.mark.parametrize("name", ["x", "a b/c.d:0-E", "_", "a" * 128])
def test_names_are_those_that_authors_give_in_tensorflow(name):
    assert read(signature_with(inputs={name: TENSOR})).signatures[0].inputs[0].name == name


@pytest.mark.parametrize("name", ["", "a" * 129, "-a", "/a", "a\n", "ä", "a\0"], ids=repr)
def test_names_that_hide_something_are_refused(name):
    assert "is not an input's name" in str(problems_of(signature_with(inputs={name: TENSOR})))


@pytest.mark.parametrize(("version", "fits"), [("1", True), ("999999", True), ("1000000", False), ("0", False)])
def test_a_version_is_a_whole_number_from_1(version, fits):
    if fits:
        assert read(contract_with(version=version)).version == version
    else:
        assert "a whole number" in str(problems_of(contract_with(version=version)))


@pytest.mark.parametrize("version", ["1.2", "01", "v1", 3, "3\n"], ids=repr)
def test_a_version_that_tensorflow_serving_would_not_count_is_refused(version):
    assert "version" in str(problems_of(contract_with(version=version)))


@pytest.mark.parametrize("labels", [[], ["a"], ["stable", "x" * 64], ["A-b_9.c"]], ids=repr)
def test_version_labels_are_read(labels):
    assert read(contract_with(version_labels=labels)).version_labels == tuple(labels)


@pytest.mark.parametrize("labels", [["a", "a"], ["x" * 65], ["a/b"], ["a:b"], [""], ["a\n"], "stable"], ids=repr)
def test_version_labels_that_would_not_stand_in_a_path_are_refused(labels):
    (problem,) = problems_of(contract_with(version_labels=labels))
    assert problem.startswith("contract.yaml: version_labels: ")


def test_a_request_brings_at_most_as_many_rows_as_the_model_takes_at_once():
    read(contract_with(batch__max_instances=8))
    (problem,) = problems_of(contract_with(batch__max_instances=9))
    assert problem.startswith("contract.yaml: batch.max_instances: ")


def test_a_batch_holds_at_least_one_row_of_the_largest_signature():
    larger = {**SIGNATURE, "inputs": {"x": TENSOR, "y": BYTES}}
    signatures = {"small": SIGNATURE, "large": larger}
    read(contract_with(signatures=signatures, batch__max_bytes=32))
    (problem,) = problems_of(contract_with(signatures=signatures, batch__max_bytes=31))
    assert problem == "contract.yaml: batch.max_bytes: one item needs 32 bytes; write at least that"


@pytest.mark.parametrize(("most", "fits"), [(16 * MIB, True), (16 * MIB + 1, False), (0, False)])
def test_the_size_of_an_answer_is_bounded(most, fits):
    if fits:
        assert read(contract_with(outputs={"max_bytes": most})).outputs.max_bytes == most
    else:
        assert "outputs.max_bytes" in str(problems_of(contract_with(outputs={"max_bytes": most})))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        pytest.param("inputs", {"x": TENSOR}, id="inputs-beside-signatures"),
        pytest.param("explanations", {"method": "feature-ablation", "max_evaluations": 2}, id="explanations"),
        pytest.param("outputs", {"decimals": 3}, id="decimals-for-all-outputs"),
        pytest.param("outputs", {"labels": "labels.json"}, id="labels"),
    ],
)
def test_what_only_torchserve_s_models_have_is_an_unknown_key(key, value):
    (problem,) = problems_of(contract_with(**{key: value}))
    assert "unknown key" in problem


@pytest.mark.parametrize("key", ["signatures", "version_labels"])
def test_what_only_saved_models_have_is_an_unknown_key_elsewhere(make_contract, key):
    with pytest.raises(ConfigError) as caught:
        parse_contract(make_contract(**{key: CONTRACT.get(key, ["stable"])}).encode(), "contract.yaml")
    assert [f"contract.yaml: {key}: unknown key" in problem for problem in caught.value.problems] == [True]


def test_every_problem_is_told_at_once_with_its_place():
    values = contract_with(
        version="1.2",
        signatures={
            "serving_default": {
                "method": "train",
                "inputs": {"x": {"kind": "tensor", "dtype": "float3", "shape": [0]}, "y": {"kind": "table"}},
                "outputs": {"z": {"dtype": "float32"}},
                "extra": 1,
            }
        },
        workers=...,
    )
    at = "signatures.serving_default"
    assert [problem.split(": ")[1] for problem in problems_of(values)] == [
        *("version", "workers", f"{at}.method", f"{at}.inputs.x.dtype", f"{at}.inputs.x.shape", f"{at}.inputs.y.kind"),
        *(f"{at}.inputs.y.dtype", f"{at}.inputs.y.shape", f"{at}.outputs.z.shape", f"{at}.extra"),
    ]


def test_a_body_may_have_as_many_rows_of_the_largest_signature_as_a_request_may_bring():
    one, eight = read(contract_with(batch__max_instances=1)), read(contract_with())
    assert eight.max_body_bytes == 8 * one.max_body_bytes
    more = read(contract_with(signatures={"a": SIGNATURE, "b": {**SIGNATURE, "inputs": {"x": TENSOR, "y": TEXT}}}))
    assert more.max_body_bytes > eight.max_body_bytes
