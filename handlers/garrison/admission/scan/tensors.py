"""Check the files that hold tensors and nothing else: safetensors and NumPy's .npy.

An open file enters, findings leave. Only headers are read; every byte behind them must belong to a tensor.
"""

import json
import math
import re
import struct
from typing import Any, BinaryIO

from garrison.admission.findings import Finding

MAX_HEADER_BYTES = 32 * 2**20  # a transformer of a thousand layers has one of 2 MB
MAX_NPY_HEADER_BYTES = 64 * 2**10
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E5M2FNUZ": 8, "F8_E4M3FNUZ": 8,
    "U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32,
    "U64": 64, "I64": 64, "F64": 64, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
_NPY_MAGIC = b"\x93NUMPY"
_NPY_HEADER = re.compile(
    rb"\{'descr': '([<>|=])([biufcSUmM?])([0-9]{1,6})(?:\[[0-9]{0,4}[a-zA-Z]{1,2}\])?', "
    rb"'fortran_order': (?:True|False), "
    rb"'shape': \(((?:[0-9]{1,18},|[0-9]{1,18}(?:, [0-9]{1,18}){1,31})?)\), \} *\n"
)


def looks_like_safetensors(start: bytes, size: int) -> bool:
    """Say whether a file begins as safetensors do: the header's length, and a brace."""
    return len(start) > 8 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= size - 8


def check_safetensors(file: BinaryIO, size: int, name: str) -> list[Finding]:
    """Return what speaks against a safetensors file of `size` bytes."""
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if length > min(MAX_HEADER_BYTES, size - 8):
        return [_fault(name, f"a header of {length} bytes")]
    try:
        header = json.loads(file.read(length).decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
        _check_entries(header, size - 8 - length)
    except (ValueError, RecursionError) as error:
        return [_fault(name, f"{error}")]
    return []


def looks_like_npy(start: bytes) -> bool:
    """Say whether a file begins as NumPy's do."""
    return start.startswith(_NPY_MAGIC)


def check_npy(file: BinaryIO, size: int, name: str) -> list[Finding]:
    """Return what speaks against a .npy file of `size` bytes: objects, which are pickled, and a length that differs."""
    file.seek(0)
    start = file.read(12)
    if len(start) < 12 or start[6:8] not in (b"\1\0", b"\2\0", b"\3\0"):
        return [_fault(name, "not a .npy file of a version that is known")]
    length, begin = (
        (struct.unpack_from("<H", start, 8)[0], 10) if start[6] == 1 else (struct.unpack_from("<L", start, 8)[0], 12)
    )
    if length > MAX_NPY_HEADER_BYTES:
        return [_fault(name, f"a header of {length} bytes")]
    file.seek(begin)
    match = _NPY_HEADER.fullmatch(file.read(length))
    if match is None:
        return [
            _fault(name, "objects, records or another header than NumPy writes for plain values; objects are pickled")
        ]
    item = int(match[3]) * (4 if match[2] == b"U" else 1)
    expected = item * math.prod(int(number) for number in match[4].split(b",") if number.strip())
    if size != begin + length + expected:
        return [_fault(name, f"{size - begin - length} bytes of values where its header says {expected}")]
    return []


def _check_entries(header: Any, room: int) -> None:
    if not isinstance(header, dict):
        raise ValueError("the header is no JSON object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("__metadata__ is no mapping of texts")
    position = 0
    for begin, end in sorted(_check_entry(name, entry) for name, entry in header.items()):
        if begin != position:
            raise ValueError(f"the tensors leave out or share the bytes from {min(begin, position)}")
        position = end
    if position != room:
        raise ValueError(f"{room - position} bytes belong to no tensor, or are missing")


def _check_entry(name: str, entry: Any) -> tuple[int, int]:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name[:80]!r} is not described as dtype, shape and data_offsets")
    shape, offsets, bits = entry["shape"], entry["data_offsets"], _BITS.get(str(entry["dtype"]))
    if bits is None or not _are_counts(shape) or len(shape) > 32 or not _are_counts(offsets) or len(offsets) != 2:
        raise ValueError(f"{name[:80]!r} has a dtype, a shape or offsets that do not exist")
    if (offsets[1] - offsets[0]) * 8 != math.prod(shape) * bits:
        raise ValueError(f"{name[:80]!r} has another number of bytes than its shape needs")
    return offsets[0], offsets[1]


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 2**62 for value in values)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in the header")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} in the header")


def _fault(name: str, what: str) -> Finding:
    return Finding(name, "weight_format", f"{what}; write it again with safetensors or numpy.save")
