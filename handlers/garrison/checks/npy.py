"""Read a NumPy .npy file without NumPy's reader: bytes enter, an array of the contract's dtype and shape leaves.

Only what `numpy.save` writes for a plain array is read: version 1.0, its header's keys in their order. The header is
matched as a whole, never evaluated; dtype and shape are compared with the contract before anything is allocated, and
the bytes that follow must be exactly those of that shape. Pickled objects, records, strings, dates and other byte
orders are refused because they are not the contract's dtype.

An array in Fortran order (`numpy.save` of a transposed one) is read as what it says; it leaves in C order.
"""

import math
import re
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from garrison.checks.nested import check_shape, out_of_range, wrong_dtype
from garrison.checks.reasons import refuse
from garrison.contract import TensorInput
from garrison.contract.tensor import NPY_HEADER_BYTES
from garrison.errors import RequestRefused

_MAGIC = b"\x93NUMPY\x01\x00"
_START_BYTES = len(_MAGIC) + 2
_HEADER = re.compile(
    rb"\{'descr': '([^']{1,16})', 'fortran_order': (True|False), "
    rb"'shape': \(((?:[0-9]{1,8},|[0-9]{1,8}(?:, [0-9]{1,8}){1,7})?)\), \} *\n"
)


def read_npy(data: bytes, item: TensorInput) -> NDArray[Any]:
    """Return the array of a .npy file, in C order and this machine's memory.

    Raises:
        RequestRefused: it is not such a file, or not of the contract's dtype and shape.
    """
    if not data.startswith(_MAGIC):
        raise refuse("unknown_format", "This is not a .npy file of version 1.0.")
    dtype = np.dtype(item.dtype)
    descr, fortran_order, shape, start = _read_header(data)
    if descr != dtype.str:
        raise wrong_dtype(f"the file does not hold {dtype.str}")
    check_shape(shape, item.shape)
    if len(data) - start != math.prod(shape) * dtype.itemsize:
        raise _bad_npy(f"{len(data) - start} bytes of values for {math.prod(shape)} values")
    if dtype.kind == "b" and np.frombuffer(data, np.uint8, offset=start).max() > 1:
        raise out_of_range("a truth value that is neither 0 nor 1")
    values = np.frombuffer(data, dtype, offset=start).reshape(shape, order="F" if fortran_order else "C")
    return np.array(values, order="C")


def _read_header(data: bytes) -> tuple[str, bool, tuple[int, ...], int]:
    if len(data) < _START_BYTES:
        raise _bad_npy("ends before its header")
    (length,) = struct.unpack_from("<H", data, len(_MAGIC))
    end = _START_BYTES + length
    if end > min(NPY_HEADER_BYTES, len(data)):
        raise _bad_npy("a header that is longer than NumPy writes, or than the file")
    match = _HEADER.fullmatch(data, _START_BYTES, end)
    if match is None:
        raise _bad_npy("a header that NumPy does not write for plain numbers")
    shape = tuple(int(size) for size in match[3].split(b",") if size)
    return match[1].decode("latin-1"), match[2] == b"True", shape, end


def _bad_npy(detail: str) -> RequestRefused:
    return refuse("bad_npy", "The .npy file is damaged, incomplete or of an unusual kind.", detail)
