"""Every form of a request, what it becomes, and in which form its answer goes back."""

import base64
import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from garrison.checks import Request, present_answers, read_request
from garrison.contract import Batch, Column, Contract, ImageInput, Outputs, TableInput, TensorInput, TextInput, Workers
from garrison.contract.bounds import JSON_OVERHEAD_BYTES
from garrison.errors import Refused
from garrison.reasons import REASONS

Make = Callable[..., Any]
SEEDED = settings(derandomize=True, max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))


def save(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def write(value: Any) -> bytes:
    return json.dumps(value).encode()


def refusal(body: bytes, contract: Contract) -> str:
    with pytest.raises(Refused) as caught:
        read_request(body, contract)
    assert type(caught.value) is REASONS[caught.value.reason]
    return caught.value.reason


def entry(
    name: str = "input-0", shape: Any = (1,), datatype: Any = "BYTES", data: Any = (), **more: Any
) -> dict[str, Any]:
    return {"name": name, "shape": list(shape), "datatype": datatype, "data": list(data), **more}


def v2(*entries: Any, **more: Any) -> bytes:
    return write({**more, "inputs": entries})


PIXELS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
NUMBERS = np.arange(4, dtype=np.float32).reshape(2, 2)


@pytest.fixture
def png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "png")
    return file.getvalue()


@pytest.fixture
def image_contract(make_contract_of: Make, make_item: Make) -> Contract:
    return make_contract_of(make_item(exact=(2, 3, 3), forms=("raw", "json", "list"), max_bytes=300))


@pytest.fixture
def tensor_contract(make_contract_of: Make, make_tensor: Make) -> Contract:
    return make_contract_of(make_tensor())


@pytest.fixture
def text_contract(make_contract_of: Make, make_text: Make) -> Contract:
    return make_contract_of(make_text())


@pytest.fixture
def table_contract(make_contract_of: Make, make_table: Make) -> Contract:
    return make_contract_of(make_table())


@pytest.fixture
def pair_contract(make_contract_of: Make, make_item: Make, make_text: Make) -> Contract:
    return make_contract_of(make_item(exact=(2, 3, 3), max_bytes=300), make_text())


# --- what comes out of each form


WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "data": lambda x: {"data": x},
    "body": lambda x: {"body": x},
    "bare": lambda x: x,
    "v1": lambda x: {"instances": [x]},
    "v1 as stock wants it": lambda x: {"instances": [{"data": x}]},
    "v2": lambda x: {"inputs": [entry(data=[x])]},
}
KINDS = ("base64", "b64", "list", "npy", "tensor", "text", "row", "row list")
OBJECTS = ("b64", "npy", "row")  # bare, they would be mistaken for a wrapper


@pytest.mark.parametrize(
    ("kind", "form"), [(k, f) for k in KINDS for f in WRAPPERS if not (f == "bare" and k in OBJECTS)]
)
def test_a_value_is_the_same_in_every_form(
    make_contract_of: Make,
    make_item: Make,
    make_tensor: Make,
    make_text: Make,
    make_table: Make,
    png: bytes,
    kind: str,
    form: str,
) -> None:
    row = {"size": 1.5, "age": 30, "colour": "green", "weight": 2}
    image = make_item(exact=(2, 3, 3), forms=("raw", "json", "list"))
    value, item, expected = {
        "base64": (encode(png), image, PIXELS),
        "b64": ({"b64": encode(png)}, image, PIXELS),
        "list": (PIXELS.tolist(), image, PIXELS),
        "npy": ({"b64": encode(save(NUMBERS))}, make_tensor(), NUMBERS),
        "tensor": (NUMBERS.tolist(), make_tensor(), NUMBERS),
        "text": ("e\u0301, {[", make_text(forms=("json",)), "é, {["),
        "row": (row, make_table(), [1.5, 30, 1, 2]),
        "row list": (list(row.values()), make_table(), [1.5, 30, 1, 2]),
    }[kind]
    body = b" \r\n\t" + write(WRAPPERS[form](value)) + b"\n"
    (checked,) = read_request(body, make_contract_of(item)).items
    assert np.array_equal(checked.value, expected)


def test_raw_bodies_are_read(
    image_contract: Contract, tensor_contract: Contract, text_contract: Contract, png: bytes
) -> None:
    request = read_request(png, image_contract)
    assert (request.protocol, request.items[0].source_size) == ("plain", (3, 2))
    assert np.array_equal(request.items[0].value, PIXELS)
    assert np.array_equal(read_request(save(NUMBERS), tensor_contract).items[0].value, NUMBERS)
    assert read_request(b'"[text"', text_contract).items[0].value == '"[text"'


def test_a_text_that_may_come_as_json_must_if_it_begins_with_a_brace(make_contract_of: Make, make_text: Make) -> None:
    assert refusal(b"{text", make_contract_of(make_text())) == "bad_json"
    assert read_request(b"{text", make_contract_of(make_text(forms=("raw",)))).items[0].value == "{text"


def test_several_inputs_come_together(pair_contract: Contract, png: bytes) -> None:
    value = {"text": "hello", "image": {"b64": encode(png)}}
    for body in ({"data": value}, {"instances": [value]}, {"instances": [{"body": value}]}):
        (item,) = read_request(write(body), pair_contract).items
        assert list(item.values) == ["image", "text"]
        assert item.values["text"] == "hello"
        assert item.source_size == (3, 2)
    inputs = [entry("text", [2], data=["a", "b"]), entry("image", [2], data=[encode(png)] * 2)]
    assert [item.values["text"] for item in read_request(v2(*inputs), pair_contract).items] == ["a", "b"]


def test_the_only_value_of_several_inputs_does_not_exist(pair_contract: Contract, png: bytes) -> None:
    (item,) = read_request(write({"data": {"text": "hello", "image": encode(png)}}), pair_contract).items
    with pytest.raises(ValueError, match="too many"):
        _ = item.value


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        pytest.param({"text": "a"}, "missing_input", id="missing"),
        pytest.param({"text": "a", "image": "QUJD", "x": 1}, "unknown_input", id="unknown"),
        pytest.param({"text": "a", "image\0": "QUJD"}, "unknown_input", id="cut at NUL"),
        pytest.param({}, "missing_input", id="empty"),
        pytest.param(["a", "QUJD"], "bad_json", id="list"),
        pytest.param("a", "bad_json", id="text"),
    ],
)
def test_inputs_are_the_contracts_and_no_others(pair_contract: Contract, value: Any, reason: str) -> None:
    assert refusal(write({"data": value}), pair_contract) == reason
    assert refusal(write({"instances": [value]}), pair_contract) == reason


def test_one_raw_body_cannot_be_several_inputs(pair_contract: Contract, png: bytes) -> None:
    assert refusal(png, pair_contract) == "form_not_allowed"


def test_a_table_s_own_column_called_data_is_no_wrapper(make_contract_of: Make) -> None:
    contract = make_contract_of(TableInput("row", (Column("data", "float", 0, 9, (), None),)))
    for instance in ({"data": 7}, {"data": {"data": 7}}, {"data": [7]}, [7]):
        assert read_request(write({"instances": [instance]}), contract).items[0].value == [7]


# --- what is refused


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(b"", "empty_body", id="nothing"),
        pytest.param(b'{"data": ""}', "empty_body", id="empty text"),
        pytest.param(b'{"instances": []}', "empty_body", id="no instances"),
        pytest.param(b"{}", "bad_json", id="no key"),
        pytest.param(b'{"data": "QUJD"', "bad_json", id="cut off"),
        pytest.param(b'{"data": "QUJD"} x', "bad_json", id="bytes after the end"),
        pytest.param(b'{"data": "QUJD", "data": "QUJD"}', "bad_json", id="duplicate key"),
        pytest.param(b'{"data": "QUJD", "body": "QUJD"}', "bad_json", id="both keys"),
        pytest.param(b'{"data": "QUJD", "x": "y"}', "bad_json", id="unknown key beside"),
        pytest.param(b'{"data\\u0000": "QUJD"}', "bad_json", id="key cut at NUL"),
        pytest.param(b'{"image": "QUJD"}', "bad_json", id="input without a wrapper"),
        pytest.param(b'{"b64": "QUJD"}', "bad_json", id="b64 without a wrapper"),
        pytest.param(b'{"data": {"b64": "QUJD", "x": ""}}', "bad_json", id="unknown inner key"),
        pytest.param(b'{"data": {"data": "QUJD"}}', "bad_json", id="wrapped twice"),
        pytest.param(b'{"data": NaN}', "bad_json", id="NaN"),
        pytest.param(b'{"data": 7}', "bad_json", id="number"),
        pytest.param(b'{"data": 1e400}', "bad_json", id="overflowing number"),
        pytest.param(b'{"data": null}', "bad_json", id="null"),
        pytest.param(b'{"data": "\xff\xfe"}', "bad_json", id="not UTF-8"),
        pytest.param(b'{"data": "\\ud800"}', "bad_json", id="lone surrogate"),
        pytest.param('{"data": "QÜJD"}'.encode(), "bad_base64", id="not ASCII"),
        pytest.param(b'{"data": "QUI"}', "bad_base64", id="padding missing"),
        pytest.param(b'{"data": "QUI=QUI="}', "bad_base64", id="padding inside"),
        pytest.param(b'{"data": "QU\\nJD"}', "bad_base64", id="line break"),
        pytest.param(b'{"data": "_-_-"}', "bad_base64", id="URL alphabet"),
        pytest.param(b'{"data": "===="}', "bad_base64", id="only padding"),
        pytest.param(b'{"data": "QUJD"}', "unknown_format", id="no image"),
        pytest.param(b'{"instances": "QUJD"}', "bad_json", id="instances as text"),
        pytest.param(b'{"instances": {"0": "QUJD"}}', "bad_json", id="instances as object"),
        pytest.param(b'{"instances": ["QUJD"], "inputs": []}', "bad_json", id="both protocols"),
        pytest.param(b'{"instances": ["QUJD"], "signature_name": "x"}', "bad_json", id="key beside instances"),
        pytest.param(b'{"instances": [{"data": "QUJD", "target": 0}]}', "bad_json", id="key beside data"),
        pytest.param(b"[" * 50_000, "json_too_deep", id="50,000 brackets"),
        pytest.param(b'{"data":' + b"[" * 50_000, "json_too_deep", id="50,000 brackets as data"),
        pytest.param(b"[" + b"0," * 1_000, "too_many_values", id="a thousand values"),
    ],
)
def test_malformed_bodies_are_refused(make_contract_of: Make, make_item: Make, body: bytes, reason: str) -> None:
    contract = make_contract_of(make_item(exact=(2, 3, 3)))
    assert refusal(body, contract) == reason


def test_a_million_small_values_are_refused_before_they_are_parsed(make_contract_of: Make, make_tensor: Make) -> None:
    contract = make_contract_of(make_tensor(shape=((1, 100_000),)))
    assert refusal(b"[" + b"1," * 1_000_000 + b"1]", contract) == "too_many_values"


@pytest.mark.parametrize(
    ("forms", "body"),
    [
        pytest.param(("json",), b"\xff\xd8\xff", id="raw"),
        pytest.param(("raw",), b' {"data": "QUJD"}', id="json"),
        pytest.param(("raw", "json"), b'{"data": [[[0]]]}', id="list"),
        pytest.param(("list",), b'{"data": "QUJD"}', id="base64"),
        pytest.param(("json",), v2(entry(shape=[2, 3, 3], datatype="UINT8", data=[0] * 18)), id="v2 numbers"),
    ],
)
def test_a_form_that_the_contract_does_not_name_is_refused(
    make_contract_of: Make, make_item: Make, forms: tuple[str, ...], body: bytes
) -> None:
    assert refusal(body, make_contract_of(make_item(exact=(2, 3, 3), forms=forms))) == "form_not_allowed"


def test_a_row_cannot_come_raw_nor_a_text_as_numbers(table_contract: Contract, text_contract: Contract) -> None:
    assert refusal(b"1.5,30,red,2", table_contract) == "form_not_allowed"
    assert refusal(v2(entry(datatype="FP32", data=[1])), text_contract) == "form_not_allowed"


# --- limits


def test_decoded_bytes_at_the_limit_pass_and_one_more_is_refused(
    make_contract_of: Make, make_item: Make, png: bytes
) -> None:
    body = write({"data": encode(png)})
    for less in range(3):
        item = make_item(exact=(2, 3, 3), max_bytes=len(png) - less)
        reason = refusal(body, make_contract_of(item)) if less else read_request(body, make_contract_of(item)).protocol
        assert reason == ("too_many_bytes" if less else "plain")


def test_the_largest_body_passes_and_a_larger_one_is_refused(make_contract_of: Make, make_text: Make) -> None:
    contract = make_contract_of(make_text(max_bytes=100, max_characters=100), max_instances=2)
    body = b'{"instances":["' + b"\\u0061" * 100 + b'","' + b"\\u0061" * 100 + b'"]}'
    padded = body + b" " * (contract.max_body_bytes - len(body))
    assert len(padded) == 2 * (600 + JSON_OVERHEAD_BYTES)
    assert [item.value for item in read_request(padded, contract).items] == ["a" * 100] * 2
    assert refusal(padded + b" ", contract) == "too_many_bytes"


def test_instances_at_the_limit_pass_and_one_more_is_refused(
    text_contract: Contract, tensor_contract: Contract
) -> None:
    for count, reason in ((4, ""), (5, "too_many_instances")):
        texts, numbers = ["a"] * count, [0.5] * 4 * count
        bodies = [
            (write({"instances": texts}), text_contract),
            (v2(entry(shape=[count], data=texts)), text_contract),
            (v2(*[entry(data=["a"])] * count), text_contract),
            (v2(entry(shape=[count, 2, 2], datatype="FP32", data=numbers)), tensor_contract),
        ]
        for body, contract in bodies:
            if reason:
                assert refusal(body, contract) == reason
            else:
                assert len(read_request(body, contract).items) == count


def test_the_deepest_and_longest_request_of_each_protocol_passes(make_contract_of: Make, make_tensor: Make) -> None:
    sides = ((1, 2),) * 8
    contract = make_contract_of(make_tensor(shape=sides), make_tensor(name="other", shape=sides), max_instances=3)
    array = np.ones((2,) * 8)
    value = {"tensor": array.tolist(), "other": array.tolist()}
    batch = [array.tolist()] * 3
    inputs = [entry(name, (3, *array.shape), "FP32", batch, parameters={}) for name in ("tensor", "other")]
    for body in (write({"instances": [{"data": value}] * 3}), v2(*inputs, id="x", parameters={}, outputs=[])):
        assert len(read_request(body, contract).items) == 3


# --- KServe v2


@pytest.mark.parametrize("nested", [False, True], ids=["flat", "nested"])
@pytest.mark.parametrize("count", [None, 1, 3], ids=["no batch", "batch of one", "batch of three"])
def test_v2_numbers_become_items(
    tensor_contract: Contract, image_contract: Contract, nested: bool, count: int | None
) -> None:
    for array, datatype, contract in ((NUMBERS, "FP32", tensor_contract), (PIXELS, "UINT8", image_contract)):
        batch = array if count is None else np.stack([array + n for n in range(count)])
        data = (batch if nested else batch.ravel()).tolist()
        items = read_request(v2(entry(shape=batch.shape, datatype=datatype, data=data)), contract).items
        assert len(items) == (count or 1)
        assert all(np.array_equal(item.value, array + n) for n, item in enumerate(items))


def test_v2_numbers_become_rows(make_contract_of: Make) -> None:
    columns = tuple(Column(name, "float", 0, 9, (), None) for name in "abc")
    contract = make_contract_of(TableInput("row", columns))
    body = v2(entry(shape=[2, 3], datatype="FP64", data=[1, 2, 3, 4, 5, 6]))
    assert [list(item.value) for item in read_request(body, contract).items] == [[1, 2, 3], [4, 5, 6]]


GOOD = entry(shape=[2, 2], datatype="FP32", data=[1, 2, 3, 4])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"shape": [2, 2, 1]}, "wrong_shape", id="batch of other items"),
        pytest.param({"shape": [4]}, "wrong_shape", id="a dimension short"),
        pytest.param({"shape": [1, 1, 2, 2]}, "wrong_shape", id="two dimensions more"),
        pytest.param({"shape": [3, 2]}, "wrong_shape", id="more values than sent"),
        pytest.param({"shape": [16_777_216, 2, 2]}, "too_many_instances", id="many instances and few values"),
        pytest.param({"shape": [2**63, 2, 2]}, "wrong_shape", id="huge dimension"),
        pytest.param({"shape": [0, 2, 2]}, "wrong_shape", id="batch of none"),
        pytest.param({"shape": [-2, -2]}, "wrong_shape", id="negative dimensions"),
        pytest.param({"shape": [2.0, 2]}, "wrong_shape", id="dimension as a float"),
        pytest.param({"shape": [True, 2, 2]}, "wrong_shape", id="dimension as a truth value"),
        pytest.param({"shape": []}, "bad_json", id="no dimension"),
        pytest.param({"shape": [1] * 10}, "bad_json", id="ten dimensions"),
        pytest.param({"shape": 4}, "bad_json", id="shape as a number"),
        pytest.param({"datatype": "FP64"}, "wrong_dtype", id="other datatype"),
        pytest.param({"datatype": "float32"}, "wrong_dtype", id="unknown datatype"),
        pytest.param({"datatype": []}, "wrong_dtype", id="datatype as a list"),
        pytest.param({"datatype": "BYTES"}, "bad_json", id="numbers as bytes"),
        pytest.param({"data": []}, "bad_json", id="no data"),
        pytest.param({"data": "1234"}, "bad_json", id="data as text"),
        pytest.param({"data": [1, 2, 3]}, "wrong_shape", id="a value short"),
        pytest.param({"data": [1, 2, 3, 4, 5]}, "wrong_shape", id="a value more"),
        pytest.param({"data": [[1, 2], [3]]}, "ragged", id="ragged"),
        pytest.param({"data": [[1, 2, 3, 4]]}, "wrong_shape", id="nested otherwise than the shape says"),
        pytest.param({"data": [1, 2, 3, True]}, "wrong_dtype", id="true among floats"),
        pytest.param({"data": [1, 2, 3, [4]]}, "wrong_dtype", id="a list among numbers"),
        pytest.param({"name": ""}, "bad_json", id="no name"),
        pytest.param({"name": "a\0"}, "bad_json", id="NUL in the name"),
        pytest.param({"name": "a" * 65}, "bad_json", id="long name"),
        pytest.param({"name": 1}, "bad_json", id="name as a number"),
        pytest.param({"x": 1}, "bad_json", id="unknown key"),
        pytest.param({"parameters": {"binary_data_size": 4}}, "bad_json", id="parameters"),
    ],
)
def test_v2_inputs_that_say_something_else_are_refused(
    tensor_contract: Contract, change: dict[str, Any], reason: str
) -> None:
    assert len(read_request(v2(GOOD), tensor_contract).items) == 1
    if change == {"datatype": "BYTES"}:
        change = {"datatype": "BYTES", "shape": [4]}
    assert refusal(v2({**GOOD, **change}), tensor_contract) == reason


def test_1e400_is_refused_wherever_a_number_may_stand(tensor_contract: Contract, table_contract: Contract) -> None:
    for body in (b'{"data":[[1,1],[1,1e400]]}', v2(GOOD).replace(b"[1, 2, 3, 4]", b"[1, 2, 3, -1e400]")):
        assert refusal(body, tensor_contract) == "value_out_of_range"
    assert refusal(b'{"data":[1e400, 30, "red", 2]}', table_contract) == "value_out_of_range"


@pytest.mark.parametrize(
    "more",
    [
        {"id": 1},
        {"id": "a\n"},
        {"id": "é"},
        {"id": "a" * 129},
        {"parameters": {"a": 1}},
        {"parameters": {"binary_data_output": 1}},
        {"parameters": {"binary_data_output": True, "a": 1}},
        {"parameters": [1]},
        {"parameters": "x"},
        {"outputs": [{"name": "b"}]},
        {"outputs": [{"name": ["a"]}]},
        {"outputs": [{"name": {}}]},
        {"outputs": [{"name": GOOD["name"]}] * 2},
        {"outputs": {"name": GOOD["name"]}},
        {"outputs": [GOOD["name"]]},
        {"outputs": [{"name": GOOD["name"], "parameters": {"classification": 3}}]},
        {"outputs": [{"name": GOOD["name"], "parameters": {"binary_data": "no"}}]},
        {"outputs": [{"name": GOOD["name"], "shape": [1]}]},
        {"outputs": [{}]},
        {"x": 1},
    ],
    ids=str,
)
def test_v2_envelopes_that_say_something_else_are_refused(tensor_contract: Contract, more: dict[str, Any]) -> None:
    assert refusal(v2(GOOD, **more), tensor_contract) == "bad_json"


@pytest.mark.parametrize(
    "more",
    [
        {"parameters": {"binary_data_output": True}},
        {"parameters": {"binary_data_output": False}},
        {"outputs": [{"name": GOOD["name"]}]},
        {"outputs": [{"name": GOOD["name"], "parameters": {"binary_data": False}}]},
        {"outputs": [{"name": GOOD["name"], "parameters": {}}], "parameters": {}},
    ],
    ids=str,
)
def test_v2_what_tritons_clients_add_changes_nothing(tensor_contract: Contract, more: dict[str, Any]) -> None:
    assert str(read_request(v2(GOOD, **more), tensor_contract)) == str(read_request(v2(GOOD), tensor_contract))


def test_v2_outputs_of_several_entries(tensor_contract: Contract) -> None:
    first, second = {**GOOD, "name": "first"}, {**GOOD, "name": "second"}
    both = [{"name": "second"}, {"name": "first"}]
    assert len(read_request(v2(first, second, outputs=both), tensor_contract).items) == 2
    for outputs in ([{"name": "first"}], [{"name": "first"}] * 2):
        assert refusal(v2(first, second, outputs=outputs), tensor_contract) == "bad_json"


@pytest.mark.parametrize("inputs", [[], {}, "a", None, [1], [[]], [{}]], ids=str)
def test_v2_without_inputs_is_refused(tensor_contract: Contract, inputs: Any) -> None:
    assert refusal(write({"inputs": inputs}), tensor_contract) == "bad_json"


@pytest.mark.parametrize(
    ("names", "counts", "reason"),
    [
        pytest.param(("text", "image", "x"), (1, 1, 1), "unknown_input", id="unknown"),
        pytest.param(("text",), (1,), "missing_input", id="missing"),
        pytest.param(("text", "text"), (1, 1), "bad_json", id="twice"),
        pytest.param(("text", "image"), (2, 1), "wrong_shape", id="different numbers of items"),
    ],
)
def test_v2_of_several_inputs_names_each_once(
    pair_contract: Contract, png: bytes, names: tuple[str, ...], counts: tuple[int, ...], reason: str
) -> None:
    entries = [entry(name, [count], data=[encode(png)] * count) for name, count in zip(names, counts, strict=True)]
    assert refusal(v2(*entries), pair_contract) == reason


# --- answers


def test_plain_and_v1_answers(text_contract: Contract) -> None:
    plain = read_request(b"hello", text_contract)
    assert present_answers(plain, [{"a": 0.5}], text_contract) == {"a": 0.5}
    v1 = read_request(write({"instances": ["a", "b"]}), text_contract)
    assert present_answers(v1, [1, 2], text_contract) == {"predictions": [1, 2]}


@pytest.mark.parametrize(
    ("answers", "datatype", "shape", "data"),
    [
        pytest.param([{"a": 0.5}], "BYTES", [1], [{"a": 0.5}], id="scores"),
        pytest.param(["cat"], "BYTES", [1], ["cat"], id="a label"),
        pytest.param([[{"a": 1}, {"b": 2}]], "BYTES", [2], [{"a": 1}, {"b": 2}], id="detections"),
        pytest.param([[]], "FP64", [0], [], id="no detections"),
        pytest.param([[[0.5, 1.0], [2.0, 3.0]]], "FP64", [4], [0.5, 1.0, 2.0, 3.0], id="nested numbers"),
        pytest.param([7], "INT64", [1], [7], id="a number"),
        pytest.param([True], "BOOL", [1], [True], id="a truth value"),
        pytest.param([[1, "a"]], "BYTES", [2], [1, "a"], id="numbers and text"),
        pytest.param([[0.5, 1.5], [2.5, 3.5]], "FP64", [2, 2], [0.5, 1.5, 2.5, 3.5], id="two items of numbers"),
        pytest.param([[1], [2, 3]], "BYTES", [2], [[1], [2, 3]], id="two items of different length"),
        pytest.param([{"a": 1}, {"b": 1}], "BYTES", [2], [{"a": 1}, {"b": 1}], id="two items of scores"),
    ],
)
def test_v2_answers(text_contract: Contract, answers: list[Any], datatype: str, shape: list[int], data: Any) -> None:
    request = Request(
        read_request(b"x", text_contract).items * len(answers), "v2", "id-7", (("input-0", len(answers)),)
    )
    assert present_answers(request, answers, text_contract) == {
        "id": "id-7",
        "model_name": "tiny",
        "model_version": "3",
        "outputs": [{"name": "input-0", "datatype": datatype, "data": data, "shape": shape}],
    }


def test_v2_answers_each_entry_under_its_name(text_contract: Contract) -> None:
    request = read_request(v2(entry("a", [2], data=["x", "y"]), entry("b", data=["z"])), text_contract)
    assert [item.value for item in request.items] == ["x", "y", "z"]
    response = present_answers(request, [1, 2, 3], text_contract)
    assert "id" not in response
    assert [(output["name"], output["data"]) for output in response["outputs"]] == [("a", [1, 2]), ("b", [3])]


def test_v2_of_several_inputs_has_one_output(pair_contract: Contract, png: bytes) -> None:
    inputs = [entry("text", [2], data=["a", "b"]), entry("image", [2], data=[encode(png)] * 2)]
    response = present_answers(read_request(v2(*inputs), pair_contract), [0.5, 1.5], pair_contract)
    assert response["outputs"] == [{"name": "output", "datatype": "FP64", "data": [0.5, 1.5], "shape": [2, 1]}]


def test_no_refusal_repeats_what_the_client_sent(image_contract: Contract, table_contract: Contract) -> None:
    for contract in (image_contract, table_contract):
        for body in ({"<script>": 1}, {"data": {"<script>": 1}}, {"data": "<script>"}, {"data": [1, 1, "<script>", 1]}):
            with pytest.raises(Refused) as caught:
                read_request(write(body), contract)
            assert "script" not in caught.value.public_message + caught.value.detail


# --- whatever comes

INPUTS = (
    ImageInput("image", ("png",), ("raw", "json", "list"), 300, 1, 9, 99, 1, "rgb", None, (2, 3, 3), (0.0,), (1.0,)),
    TensorInput("tensor", ("raw", "json"), "uint8", ((1, 3), (2, 2)), None, 200.0),
    TextInput("text", ("raw", "json"), 100, 1, 20, 10, "NFKC"),
    TableInput("row", (Column("a", "float", -1, 1, (), None), Column("data", "category", 0, 0, ("x",), 9.0))),
)
CONTRACTS = [
    Contract("fuzz", "1", "custom", inputs, Batch(8, 5, 2**20, 2), Workers(1, 1, 1), Outputs("", 1, 4, 0, False, 2**20))
    for inputs in [*[(item,) for item in INPUTS], INPUTS]
]
SHAPES = {"image": (2, 3, 3), "row": (2,)}


def check(body: bytes, contract: Contract) -> None:
    try:
        request = read_request(body, contract)
    except Refused as refused:
        assert type(refused) is REASONS[refused.reason]
        return
    assert 1 <= len(request.items) <= 2
    for item in request.items:
        assert list(item.values) == [known.name for known in contract.inputs]
        for name, value in item.values.items():
            assert isinstance(value, str) == (name == "text")
            assert name not in SHAPES or value.shape == SHAPES[name]  # type: ignore[union-attr]
    assert json.dumps(present_answers(request, [0.5] * len(request.items), contract), allow_nan=False)


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from(
        ["x", "QUJD", encode(save(np.ones((1, 2), np.uint8))), [[1, 2]], [0.5, "x"], PIXELS.tolist(), 10**400]
    )
)
KEYS = st.sampled_from(["data", "body", "b64", "instances", "inputs", "a", "x", *(item.name for item in INPUTS)])
VALUES: st.SearchStrategy[Any] = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=8
)
ENTRIES = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["input-0", *(item.name for item in INPUTS)]),
        "shape": st.lists(st.integers(-1, 4), max_size=4) | st.sampled_from([[1], [1, 2], [2, 1, 2], [2, 3, 3], [2]]),
        "datatype": st.sampled_from(["BYTES", "UINT8", "FP32", "INT64", "FP8"]),
        "data": st.lists(VALUES, max_size=4) | st.lists(st.integers(0, 300), max_size=18),
    },
    optional={"parameters": st.just({}) | VALUES},
)
REQUESTS = (
    VALUES
    | st.fixed_dictionaries({"instances": st.lists(VALUES, max_size=3)})
    | st.fixed_dictionaries(
        {"inputs": st.lists(ENTRIES, max_size=3)},
        optional={"id": st.text(max_size=3), "parameters": VALUES, "outputs": VALUES},
    )
)


@SEEDED
@given(contract=st.sampled_from(CONTRACTS), body=st.binary(max_size=200))
def test_any_bytes_leave_items_or_a_refusal(contract: Contract, body: bytes) -> None:
    check(body, contract)


@settings(SEEDED, max_examples=1_500)
@given(contract=st.sampled_from(CONTRACTS), value=REQUESTS)
def test_any_json_leaves_items_or_a_refusal(contract: Contract, value: Any) -> None:
    check(json.dumps(value).encode(), contract)


PIECES = [
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b":",
    b",",
    b'"data"',
    b'"instances"',
    b"QUJD",
    b"1",
    b"1e400",
    b"\\u",
    b"\xff",
    b"\0",
]


@SEEDED
@given(contract=st.sampled_from(CONTRACTS), parts=st.lists(st.sampled_from(PIECES)))
def test_any_pieces_of_json_leave_items_or_a_refusal(contract: Contract, parts: list[bytes]) -> None:
    check(b"".join(parts), contract)
