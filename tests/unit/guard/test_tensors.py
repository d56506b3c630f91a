"""Tensors on the wire: what is written is read as it was, and what does not hold its shape's values is refused."""

from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from garrison.errors import RequestRefused
from garrison.guard import tensors
from garrison.guard.tensors import make_strings, read_tensor, receive_tensors, write_tensor, write_tensors
from garrison.tensorflow.dtypes import BY_NAME, DTYPES
from garrison.tensorflow.messages import messages

NUMBERS = [dtype for dtype in DTYPES if dtype.numpy is not None]
SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, max_side=5)
ANY_NUMBERS = st.sampled_from(NUMBERS).flatmap(lambda dtype: arrays.arrays(dtype.numpy, SHAPES))
ANY_STRINGS = SHAPES.flatmap(lambda shape: arrays.arrays(object, shape, elements=st.binary(max_size=20)))


def make_tensor(dtype: str | int = "float32", shape: Any = (2,), **values: Any) -> Any:
    number = BY_NAME[dtype].number if isinstance(dtype, str) else dtype
    tensor = messages.TensorProto(dtype=number, **values)
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    return tensor


@settings(max_examples=150, deadline=None)
@given(ANY_NUMBERS | ANY_STRINGS)
def test_what_is_written_is_read_as_it_was(values):
    written = messages.TensorProto.FromString(b"".join(write_tensor(values)))
    found = read_tensor(written)
    assert found.dtype == values.dtype
    assert found.shape == values.shape
    assert found.tobytes() == values.tobytes() if values.dtype != object else found.tolist() == values.tolist()


@pytest.mark.parametrize("dtype", NUMBERS, ids=lambda dtype: dtype.name)
def test_values_one_by_one_are_those_of_the_content(dtype):
    values = np.array([0, 1], dtype.numpy)
    listed = values.view("<u2").tolist() if dtype.name == "float16" else values.tolist()
    one_by_one = read_tensor(make_tensor(dtype.name, **{dtype.field: listed}))
    content = read_tensor(make_tensor(dtype.name, tensor_content=values.tobytes()))
    assert one_by_one.dtype == content.dtype == dtype.numpy
    assert one_by_one.tolist() == content.tolist() == values.tolist()


def test_strings_keep_zeros_at_their_end():
    assert read_tensor(make_tensor("string", string_val=[b"a\0", b"\0"])).tolist() == [b"a\0", b"\0"]


@pytest.mark.parametrize(
    "tensor",
    [
        pytest.param(make_tensor(shape=(300_000_000,), float_val=[1.0]), id="one-value-for-all"),
        pytest.param(make_tensor(float_val=[1.0]), id="too-few"),
        pytest.param(make_tensor(float_val=[1.0, 2.0, 3.0]), id="too-many"),
        pytest.param(make_tensor(), id="none"),
        pytest.param(make_tensor(tensor_content=bytes(7)), id="content-too-short"),
        pytest.param(make_tensor(tensor_content=bytes(9)), id="content-too-long"),
        pytest.param(make_tensor(tensor_content=bytes(8), float_val=[1.0, 2.0]), id="content-and-values"),
        pytest.param(make_tensor(int_val=[1, 2]), id="another-types-field"),
        pytest.param(make_tensor("string", tensor_content=b"ab"), id="strings-as-content"),
        pytest.param(make_tensor("bool", tensor_content=b"\0\2"), id="a-truth-value-of-two"),
        pytest.param(make_tensor(shape=(-1,), float_val=[1.0]), id="negative"),
        pytest.param(make_tensor(shape=(0, 2**62, 2**62)), id="no-values-and-no-such-array"),
        pytest.param(make_tensor(shape=(1,) * 9, float_val=[1.0]), id="nine-dimensions"),
        pytest.param(make_tensor(float_val=[1.0, 2.0], version_number=1), id="another-version"),
        pytest.param(make_tensor("float32", resource_handle_val=[messages.ResourceHandleProto()] * 2), id="handles"),
    ],
)
def test_a_tensor_that_does_not_hold_its_shapes_values_is_refused(tensor):
    with pytest.raises(RequestRefused) as refusal:
        read_tensor(tensor)
    assert refusal.value.reason == "bad_tensor"


def test_a_tensor_of_unknown_rank_is_refused():
    tensor = make_tensor(float_val=[1.0, 2.0])
    assert read_tensor(tensor).shape == (2,)
    tensor.tensor_shape.unknown_rank = True
    with pytest.raises(RequestRefused) as refusal:
        read_tensor(tensor)
    assert refusal.value.reason == "bad_tensor"


@pytest.mark.parametrize("number", [0, 8, 11, 14, 20, 21, 101, -1], ids=str)
def test_types_that_no_contract_knows_are_refused(number):
    with pytest.raises(RequestRefused) as refusal:
        read_tensor(make_tensor(number, float_val=[1.0, 2.0]))
    assert refusal.value.reason == "wrong_dtype"


@pytest.mark.parametrize(
    ("dtype", "good", "bad"),
    [("uint8", 255, 256), ("uint8", 0, -1), ("int8", -128, -129), ("int16", 32767, 32768), ("uint16", 65535, 65536)],
)
def test_numbers_beyond_their_type_are_refused_and_not_wrapped_around(dtype, good, bad):
    assert read_tensor(make_tensor(dtype, (1,), int_val=[good])).tolist() == [good]
    with pytest.raises(RequestRefused) as refusal:
        read_tensor(make_tensor(dtype, (1,), int_val=[bad]))
    assert refusal.value.reason == "value_out_of_range"


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80))
def test_random_bytes_are_an_array_or_refused(data):
    try:
        tensor = messages.TensorProto.FromString(data)
    except DecodeError:
        return
    try:
        assert isinstance(read_tensor(tensor), np.ndarray)
    except RequestRefused as refusal:
        assert refusal.reason


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(max_size=8), ANY_NUMBERS | ANY_STRINGS, max_size=4))
def test_a_long_message_is_read_as_a_short_one_is(given_tensors):
    spec = messages.PredictRequest(output_filter=["a"], model_spec=messages.ModelSpec(name="m")).SerializeToString()
    data = b"".join(write_tensors(b"\x12", given_tensors)) + spec
    short = receive_tensors(data, "PredictRequest", "inputs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensors, "_LONG", 0)
        long = receive_tensors(data, "PredictRequest", "inputs")
    assert (long[0].model_spec.name, list(long[0].output_filter)) == ("m", ["a"])
    assert short[1].keys() == long[1].keys() == given_tensors.keys()
    for name, one in short[1].items():
        read, other = one.read(), long[1][name].read()
        assert (read.dtype, read.shape, read.tolist()) == (other.dtype, other.shape, other.tolist()) or _has_nan(read)


def _has_nan(values: Any) -> bool:
    return values.dtype.kind == "f" and bool(np.isnan(values).any())


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param(b"\x12\x05\x0a\x01a\x12\x00" * 2, id="a-name"),
        pytest.param(b"\x12\x06\x0a\x01a\x0a\x01b", id="a-key"),
        pytest.param(b"\x12\x07\x0a\x01a\x12\x00\x12\x00", id="a-tensor"),
        pytest.param(b"\x12\x0a\x0a\x01a\x12\x05\x22\x01x\x22\x00", id="a-content"),
    ],
)
def test_a_long_message_that_says_something_twice_is_refused(monkeypatch, entries):
    receive_tensors(entries, "PredictRequest", "inputs")
    monkeypatch.setattr(tensors, "_LONG", 0)
    with pytest.raises(RequestRefused) as refusal:
        receive_tensors(entries, "PredictRequest", "inputs")
    assert refusal.value.reason == "bad_message"


def test_a_row_of_bytes_becomes_an_array_of_objects():
    assert make_strings([]).shape == (0,)
    assert make_strings([b"a", b"bc\0"]).tolist() == [b"a", b"bc\0"]
