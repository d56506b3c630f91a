"""Tensors on the wire: a TensorProto enters, numpy's array leaves, and the other way round.

A tensor's values stand in `tensor_content`, or one by one in the one field of its type, never in both, and there are
exactly as many as its dimensions say: upstream repeats the last one instead, so that twelve bytes become a gigabyte.
Nothing of the size of the dimensions is made before that is checked.

Strings are arrays of `object` whose values are `bytes`; they stand in `string_val` alone. `tensor_content` is in the
order of bytes of a small machine, as everywhere in TensorFlow.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from garrison.checks.nested import out_of_range, wrong_dtype
from garrison.contract.tensor import MAX_RANK
from garrison.errors import RequestRefused
from garrison.guard.refusals import refuse_for
from garrison.guard.wire import cut_out
from garrison.tensorflow.dtypes import BY_NAME, BY_NUMBER, STRING, DType
from garrison.tensorflow.messages import messages

_DESCRIPTION = frozenset({"dtype", "tensor_shape"})
_INTEGERS_IN_INT_VAL = ("uint8", "int16", "int8", "uint16")
_BY_NUMPY = {dtype.numpy: dtype for dtype in BY_NUMBER.values() if dtype.numpy is not None}
_KEY, _VALUE, _CONTENT = b"\x0a", b"\x12", b"\x22"  # tags: of a map's entry, and of tensor_content
_LONG = 16 * 1024  # bytes of a message from which on copying costs more than walking through it again
_HALF_MOST = 0xFFFF
_MOST_BESIDE_ZERO = 2**40


def declare_tensor(message: Any) -> tuple[DType, tuple[int, ...]]:
    """Return the type and the shape that a TensorProto claims; looks at no value.

    Raises:
        Malformed: the shape is unknown, negative or of more than 8 dimensions.
        OutOfContract: it is of a type that no contract knows.
    """
    dtype = BY_NUMBER.get(message.dtype)
    if dtype is None:
        raise _wrong_dtype()
    shape = message.tensor_shape
    dims = shape.dim
    if shape.unknown_rank or len(dims) > MAX_RANK:
        raise refuse_for("bad_tensor", "of unknown or too high rank")
    sizes = tuple(dim.size for dim in dims)
    if any(size < 0 for size in sizes):
        raise refuse_for("bad_tensor", "a negative dimension")
    if 0 in sizes and math.prod(size or 1 for size in sizes) > _MOST_BESIDE_ZERO:
        raise refuse_for("bad_tensor", "no values, and a dimension that no array can have")
    return dtype, sizes


def read_tensor(message: Any, content: memoryview | None = None) -> NDArray[Any]:
    """Return the array that a TensorProto stands for; one of numbers may share its memory, and is read-only then.

    `content` is its tensor_content, if that was cut out of it.

    Raises:
        Malformed: it does not hold exactly the values of its shape, in one field of its type.
        OutOfContract: it is of a type that no contract knows, or a value is beyond its type.
    """
    dtype, sizes = declare_tensor(message)
    held: dict[str, Any] = {
        field.name: value for field, value in message.ListFields() if field.name not in _DESCRIPTION
    }
    if content is not None:
        held["tensor_content"] = content
    if len(held) > 1:
        raise refuse_for("bad_tensor", "values in more than one field")
    count = math.prod(sizes)
    name = next(iter(held), dtype.field)
    values = held.get(name, ())
    if name == "tensor_content" and dtype.numpy is not None:
        return _read_content(values, dtype, count).reshape(sizes)
    if name != dtype.field:
        raise refuse_for("bad_tensor", "values in the field of another type")
    if len(values) != count:
        raise refuse_for("bad_tensor", f"{len(values)} values where its shape says {count}")
    return _read_values(values, dtype).reshape(sizes)


@dataclass(frozen=True)
class Received:
    """A tensor as it came: its TensorProto, and its content, where that was left in the message that it came in."""

    message: Any
    content: memoryview | None = None

    def read(self) -> NDArray[Any]:
        """Return the array; see `read_tensor`."""
        return read_tensor(self.message, self.content)


def receive_tensors(data: bytes, kind: str, field: str) -> tuple[Any, dict[str, Received]]:
    """Return a message of a kind that holds a map of tensors in `field`, and the tensors, whose values are not read.

    The message has passed `Shape.check`. In a long one the content of tensors is not copied, and the map is empty then.

    Raises:
        Malformed: it is not a message of this kind, or a long one that names a tensor twice.
    """
    made = getattr(messages, kind)
    try:
        if len(data) < _LONG:
            message = made.FromString(data)
            return message, {name: Received(tensor) for name, tensor in getattr(message, field).items()}
        rest, entries = cut_out(data, 0, len(data), _tag(made, field))
        found = dict(_receive_entry(data, *span) for span in entries)
        if len(found) < len(entries):
            raise refuse_for("bad_message", "a name twice")
        return made.FromString(rest), found
    except (DecodeError, UnicodeDecodeError) as error:
        raise refuse_for("bad_message") from error


def _receive_entry(data: bytes, start: int, end: int) -> tuple[str, Received]:
    """Read one entry of a map from names to tensors, whose name and tensor both may be missing."""
    rest, tensors = cut_out(data, start, end, _VALUE[0])
    _, names = cut_out(rest, 0, len(rest), _KEY[0])
    if len(tensors) > 1 or len(names) > 1:
        raise refuse_for("bad_message", "a part twice")
    name = rest[slice(*names[0])].decode() if names else ""
    place = tensors[0] if tensors else (end, end)
    described, contents = cut_out(data, *place, _CONTENT[0])
    if len(contents) > 1:
        raise refuse_for("bad_message", "a part twice")
    content = memoryview(data)[slice(*contents[0])] if contents and contents[0][0] < contents[0][1] else None
    return name, Received(messages.TensorProto.FromString(described), content)


def _tag(message: Any, field: str) -> int:
    return int(message.DESCRIPTOR.fields_by_name[field].number << 3 | 2)


def write_tensor(values: NDArray[Any]) -> list[bytes | memoryview]:
    """Return the pieces that make up a TensorProto of an array, whose type is one that a contract knows."""
    if values.dtype.kind == "O":
        head = messages.TensorProto(dtype=BY_NAME[STRING].number, tensor_shape=_write_shape(values.shape))
        head.string_val.extend(values.ravel().tolist())
        return [head.SerializeToString()]
    head = messages.TensorProto(dtype=_BY_NUMPY[values.dtype].number, tensor_shape=_write_shape(values.shape))
    pieces: list[bytes | memoryview] = [head.SerializeToString()]
    if values.nbytes:
        pieces += [_CONTENT, write_varint(values.nbytes), _look_at(values)]
    return pieces


def write_tensors(field: bytes, tensors: Mapping[str, NDArray[Any]]) -> list[bytes | memoryview]:
    """Return the pieces of a map from names to tensors, in the order given; `field` is its tag."""
    pieces: list[bytes | memoryview] = []
    for name, values in tensors.items():
        tensor = write_tensor(values)
        key, length = name.encode(), sum(map(len, tensor))
        inner = [_KEY, write_varint(len(key)), key, _VALUE, write_varint(length), *tensor]
        pieces += [field, write_varint(sum(map(len, inner))), *inner]
    return pieces


def write_varint(value: int) -> bytes:
    """Return a length as protobuf writes it."""
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def name_dtype(values: NDArray[Any]) -> str:
    """Return the contract's name for an array's type; nothing for one that no contract knows."""
    if values.dtype.kind == "O":
        return STRING
    found = _BY_NUMPY.get(values.dtype)
    return "" if found is None else found.name


def make_strings(values: Any) -> NDArray[Any]:
    """Return a row of bytes as an array of `object`, whatever they are: numpy itself would cut off trailing zeros."""
    found = list(values)
    strings = np.empty(len(found), dtype=object)
    strings[:] = found
    return strings


def _look_at(values: NDArray[Any]) -> memoryview:
    """Return an array's bytes, without a copy where they lie one after the other."""
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data


def _write_shape(sizes: tuple[int, ...]) -> Any:
    shape = messages.TensorShapeProto()
    for size in sizes:
        shape.dim.add(size=size)
    return shape


def _read_content(content: bytes | memoryview, dtype: DType, count: int) -> NDArray[Any]:
    if dtype.numpy is None or len(content) != count * dtype.numpy.itemsize:
        raise refuse_for("bad_tensor", f"{len(content)} bytes of content where its shape says {count} values")
    if dtype.name == "bool" and bytes(content).translate(None, b"\0\1"):
        raise refuse_for("bad_tensor", "a truth value that is neither 0 nor 1")
    return np.frombuffer(content, dtype.numpy)


def _read_values(values: Any, dtype: DType) -> NDArray[Any]:
    if dtype.numpy is None:
        return make_strings(values)
    if dtype.name == "float16":
        bits = np.fromiter(values, np.int32, len(values))
        if bits.size and (bits.min() < 0 or bits.max() > _HALF_MOST):
            raise _out_of_type()
        return bits.astype("<u2").view(dtype.numpy)
    if dtype.name in _INTEGERS_IN_INT_VAL:
        wide, limits = np.fromiter(values, np.int32, len(values)), np.iinfo(dtype.numpy)
        if wide.size and (wide.min() < limits.min or wide.max() > limits.max):
            raise _out_of_type()
        return wide.astype(dtype.numpy)
    return np.fromiter(values, dtype.numpy, len(values))


def _wrong_dtype() -> RequestRefused:
    return wrong_dtype("a type that no contract knows")


def _out_of_type() -> RequestRefused:
    return out_of_range("beyond the tensor's type")
