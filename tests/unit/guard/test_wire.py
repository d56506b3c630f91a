"""The walk through a message's bytes: what protobuf may read, and what it is not asked to."""

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from garrison.errors import RequestRefused
from garrison.guard.wire import MAX_DEPTH, Shape, cut_out
from garrison.protobuf import compile_messages, has_unknown
from garrison.tensorflow.messages import messages

PREDICT = Shape(messages.PredictRequest)
TREE = compile_messages("package wire; message Tree { Tree tree = 1; }").Tree
NAMES = st.sampled_from(["", "a", "scores"])
TENSORS = st.builds(
    messages.TensorProto,
    dtype=st.integers(-5, 200),
    float_val=st.lists(st.floats(width=32), max_size=4),
    int64_val=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4),
    string_val=st.lists(st.binary(max_size=5), max_size=4),
    tensor_content=st.binary(max_size=20),
    tensor_shape=st.builds(
        messages.TensorShapeProto,
        dim=st.lists(st.builds(messages.TensorShapeProto_Dim, size=st.integers(-3, 2**40)), max_size=4),
    ),
)


def nest(depth: int) -> bytes:
    data = b""
    for _ in range(depth):
        data = b"\x0a" + bytes([len(data)]) + data
    return data


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(NAMES, TENSORS, max_size=3), st.lists(NAMES, max_size=3))
def test_what_protobuf_writes_passes(inputs, outputs):
    request = messages.PredictRequest(output_filter=outputs)
    for name, tensor in inputs.items():
        request.inputs[name].CopyFrom(tensor)
    PREDICT.check(request.SerializeToString(), 1000)


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=60) | st.binary(max_size=20).map(lambda data: b"\x12" + bytes([len(data)]) + data))
def test_random_bytes_that_pass_are_read_without_unknown_fields(data):
    try:
        PREDICT.check(data, 100)
    except RequestRefused:
        return
    try:
        message = messages.PredictRequest.FromString(data)
    except DecodeError:
        return  # a text that is not UTF-8, or a message of no wire kind inside a map
    assert not has_unknown(message)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"\x0a", "bad_message", id="no-length"),
        pytest.param(b"\x0a\x02\x0a", "bad_message", id="shorter-than-its-length"),
        pytest.param(b"\x12\x02\x12\x05", "bad_message", id="longer-than-what-it-is-in"),
        pytest.param(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "bad_message", id="a-number-of-eleven-bytes"),
        pytest.param(b"\x0b\x0c", "unknown_field", id="a-group"),
        pytest.param(b"\x08\x01", "unknown_field", id="a-message-as-a-number"),
        pytest.param(b"\x22\x00", "unknown_field", id="a-number-that-was-never-used"),
        pytest.param(b"\x00", "unknown_field", id="field-zero"),
    ],
)
def test_what_no_library_writes_is_refused(data, reason):
    with pytest.raises(RequestRefused) as refusal:
        PREDICT.check(data, 100)
    assert refusal.value.reason == reason


def test_fields_are_counted_those_inside_too():
    data = b"\x12\x02\x12\x00" * 10  # an entry, and a tensor in it
    PREDICT.check(data, 20)
    with pytest.raises(RequestRefused) as refusal:
        PREDICT.check(data, 19)
    assert refusal.value.reason == "too_many_fields"


def test_messages_in_messages_end_somewhere():
    Shape(TREE).check(nest(MAX_DEPTH), 100)
    with pytest.raises(RequestRefused) as refusal:
        Shape(TREE).check(nest(MAX_DEPTH + 1), 100)
    assert refusal.value.reason == "bad_message"


def test_fields_are_cut_out_where_they_lie():
    data = b"\x08\x05\x22\x03abc\x0d1234\x22\x00\x11" + bytes(8)
    rest, spans = cut_out(data, 0, len(data), 0x22)
    assert rest == b"\x08\x05\x0d1234\x11" + bytes(8)
    assert [data[start:end] for start, end in spans] == [b"abc", b""]
