"""Tensors on the wire: a TensorProto enters, numpy's array leaves, and the other way round.

A tensor's values stand in `tensor_content`, or one by one in the one field of its type, never in both, and there are
exactly as many as its dimensions say: upstream repeats the last one instead, so that twelve bytes become a gigabyte.
Nothing of the size of the dimensions is made before that is checked.

Strings are arrays of `object` whose values are `bytes`; they stand in `string_val` alone. `tensor_content` is in the
order of bytes of a small machine, as everywhere in TensorFlow.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from garrison.checks.nested import out_of_range, wrong_dtype
from garrison.contract.tensor import MAX_RANK
from garrison.errors import RequestRefused
from garrison.guard.refusals import refuse_for
from garrison.tensorflow.dtypes import BY_NAME, BY_NUMBER, STRING, DType
from garrison.tensorflow.messages import messages

_DESCRIPTION = frozenset({"dtype", "tensor_shape"})
_INTEGERS_IN_INT_VAL = ("uint8", "int16", "int8", "uint16")
_BY_NUMPY = {dtype.numpy: dtype for dtype in BY_NUMBER.values() if dtype.numpy is not None}
_KEY, _VALUE, _CONTENT = b"\x0a", b"\x12", b"\x22"  # tags: of a map's entry, and of tensor_content
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


def read_tensor(message: Any) -> NDArray[Any]:
    """Return the array that a TensorProto stands for; one of numbers may share its memory, and is read-only then.

    Raises:
        Malformed: it does not hold exactly the values of its shape, in one field of its type.
        OutOfContract: it is of a type that no contract knows, or a value is beyond its type.
    """
    dtype, sizes = declare_tensor(message)
    held = {field.name: value for field, value in message.ListFields() if field.name not in _DESCRIPTION}
    if len(held) > 1:
        raise refuse_for("bad_tensor", "values in more than one field")
    count = math.prod(sizes)
    values: Any
    name, values = next(iter(held.items()), (dtype.field, ()))
    if name == "tensor_content" and dtype.numpy is not None:
        return _read_content(values, dtype, count).reshape(sizes)
    if name != dtype.field:
        raise refuse_for("bad_tensor", "values in the field of another type")
    if len(values) != count:
        raise refuse_for("bad_tensor", f"{len(values)} values where its shape says {count}")
    return _read_values(values, dtype).reshape(sizes)


def write_tensor(values: NDArray[Any]) -> list[bytes]:
    """Return the pieces that make up a TensorProto of an array, whose type is one that a contract knows."""
    if values.dtype.kind == "O":
        head = messages.TensorProto(dtype=BY_NAME[STRING].number, tensor_shape=_write_shape(values.shape))
        head.string_val.extend(values.ravel().tolist())
        return [head.SerializeToString()]
    head = messages.TensorProto(dtype=_BY_NUMPY[values.dtype].number, tensor_shape=_write_shape(values.shape))
    pieces: list[bytes] = [head.SerializeToString()]
    if values.nbytes:
        pieces += [_CONTENT, write_varint(values.nbytes), values.tobytes()]
    return pieces


def write_tensors(field: bytes, tensors: Mapping[str, NDArray[Any]]) -> list[bytes]:
    """Return the pieces of a map from names to tensors, in the order given; `field` is its tag."""
    pieces: list[bytes] = []
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


def _write_shape(sizes: tuple[int, ...]) -> Any:
    shape = messages.TensorShapeProto()
    for size in sizes:
        shape.dim.add(size=size)
    return shape


def _read_content(content: bytes, dtype: DType, count: int) -> NDArray[Any]:
    if dtype.numpy is None or len(content) != count * dtype.numpy.itemsize:
        raise refuse_for("bad_tensor", f"{len(content)} bytes of content where its shape says {count} values")
    if dtype.name == "bool" and content.translate(None, b"\0\1"):
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
