"""Reading JSON by a signature: whatever bytes come, arrays of exactly its types leave, or `RequestRefused`."""

import base64
import json
from typing import Any

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from garrison.errors import RequestRefused
from garrison.guard.rest.answers import write_columns, write_rows
from garrison.guard.rest.requests import name_signature, read_body, read_examples, read_inputs
from garrison.guard.tensors import make_strings
from garrison.tensorflow.messages import messages
from unit.guard.contracts import CLASSIFY, make_contract, make_signature

FLOATS, INTEGERS = (
    ("float16", "float32", "float64"),
    ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
)
NUMBERS = (*FLOATS, *INTEGERS, "bool")
ROWS, COLUMNS = 3, 2
INPUTS = {
    **{name: {"kind": "tensor", "dtype": name, "shape": [COLUMNS]} for name in NUMBERS},
    "blob_bytes": {"kind": "bytes", "max_bytes": 32, "shape": [COLUMNS]},
}
SCORES = {"scores": {"dtype": "float32", "shape": [2]}}
CONTRACT = make_contract(
    {
        "serving_default": make_signature(INPUTS, SCORES),
        "one": make_signature({"x": {"kind": "tensor", "dtype": "float32", "shape": [[1, 3], 2]}}, SCORES),
        "words": make_signature({"w": {"kind": "text", "max_bytes": 16, "max_characters": 8}}, SCORES),
        "whole": make_signature({"m": {"kind": "tensor", "dtype": "int32", "shape": [2]}}, SCORES, batched=False),
        "classes": CLASSIFY,
    }
)
SIGNATURES = {signature.name: signature for signature in CONTRACT.signatures}
GOOD = json.dumps({"signature_name": "one", "instances": [[[1.5, 2], [3, -4e2]]]}).encode()
FEW = settings(max_examples=60, deadline=None)


def read(payload: bytes) -> Any:
    """Read a request as the application does; a signature that is not there is refused there."""
    body = read_body(payload, CONTRACT)
    name = name_signature(body)
    if name not in SIGNATURES:
        return None
    if name == "classes":
        return read_examples(body, CONTRACT, SIGNATURES[name])
    tensors, _ = read_inputs(body, SIGNATURES[name])
    for item in SIGNATURES[name].inputs:
        assert tensors[item.name].dtype == np.dtype(getattr(item, "dtype", "O"))
    return tensors


def try_to_read(payload: bytes) -> None:
    try:
        read(payload)
    except RequestRefused as refusal:
        assert refusal.public_message
        assert refusal.reason == refusal.reason.lower()


JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.integers(-3, 300), st.floats(), st.text(max_size=5),
        st.binary(max_size=4).map(lambda value: {"b64": base64.b64encode(value).decode()}),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(["x", "w", "m", "b64", "age", "word", *NUMBERS]), inner, max_size=4),
    ),
    max_leaves=12,
)  # fmt: skip


@FEW
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_read(payload: bytes) -> None:
    try_to_read(payload)


@FEW
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "signature_name": st.one_of(st.sampled_from([*SIGNATURES, ""]), JSON),
            "instances": st.one_of(JSON, st.lists(JSON, max_size=5)),
            "inputs": JSON,
            "examples": st.one_of(JSON, st.lists(JSON, max_size=5)),
            "context": JSON,
        },
    )
)
def test_any_json_is_refused_or_read(body: dict[str, Any]) -> None:
    try_to_read(json.dumps(body).encode())


@FEW
@given(st.data())
def test_a_good_request_with_bytes_changed_is_refused_or_read(data: st.DataObject) -> None:
    payload = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try_to_read(bytes(payload))


def test_the_good_request_is_read() -> None:
    found = read(GOOD)["x"]
    assert (found.dtype, found.shape, found.tolist()) == (np.float32, (1, 2, 2), [[[1.5, 2], [3, -400]]])


def make_arrays(dtype: str) -> Any:
    finite = {"allow_nan": False, "allow_infinity": False} if dtype in FLOATS else {}
    values = st.lists(arrays.from_dtype(np.dtype(dtype), **finite), min_size=ROWS * COLUMNS, max_size=ROWS * COLUMNS)
    return values.map(lambda listed: np.array(listed, dtype).reshape(ROWS, COLUMNS))


TENSORS = st.fixed_dictionaries(
    {
        **{name: make_arrays(name) for name in NUMBERS},
        "blob_bytes": st.lists(st.binary(max_size=8), min_size=ROWS * COLUMNS, max_size=ROWS * COLUMNS).map(
            lambda values: make_strings(values).reshape(ROWS, COLUMNS)
        ),
    }
)


@settings(max_examples=40, deadline=None)
@given(TENSORS)
def test_what_is_written_is_read_as_the_same(tensors: dict[str, Any]) -> None:
    """An answer's JSON, sent back as a request, is the same arrays to the last bit, in columns and in rows."""
    columns = write_columns(tensors).replace('"outputs"', '"inputs"', 1)
    rows = write_rows(tensors).replace('"predictions"', '"instances"', 1)
    for text in (columns, rows):
        found = read(text.encode())
        for name, values in tensors.items():
            assert found[name].tolist() == values.tolist()
            assert values.dtype.kind != "f" or np.array_equal(np.signbit(found[name]), np.signbit(values))


def test_examples_are_written_by_the_contracts_types() -> None:
    body = {
        "signature_name": "classes",
        "context": {"word": "hi"},
        "examples": [{"age": [True]}, {"age": 7}, {"age": 150}],
    }
    found = [messages.Example.FromString(one).features.feature for one in read(json.dumps(body).encode())]
    assert [list(one["age"].int64_list.value) for one in found] == [[1], [7], [150]]
    assert [list(one["word"].bytes_list.value) for one in found] == [[b"hi"]] * 3


def ask_with_context(length: int) -> bytes:
    body = {"signature_name": "classes", "context": {"word": "x" * length}, "examples": [{"age": 1}] * 4}
    return json.dumps(body).encode()


def test_a_context_that_fits_is_copied_into_each_example() -> None:
    assert len(read(ask_with_context(150))) == 4


def test_a_context_that_does_not_fit_is_refused_with_the_first_example() -> None:
    with pytest.raises(RequestRefused) as refusal:
        read(ask_with_context(5000))
    assert refusal.value.reason == "too_many_bytes"
