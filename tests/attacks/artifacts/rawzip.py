"""Write zips that no archiver would: every field of both headers can lie."""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

STORED, DEFLATED = 0, 8
REGULAR = 0o100644


@dataclass(frozen=True)
class Part:
    """One member; whatever is None is told truthfully, `local_*` is what its own header says instead."""

    name: bytes
    data: bytes = b""
    method: int = STORED
    flags: int = 0
    mode: int = REGULAR
    crc: int | None = None
    size: int | None = None
    packed_size: int | None = None
    extra: bytes = b""
    comment: bytes = b""
    local_name: bytes | None = None
    local_size: int | None = None
    local_method: int | None = None
    hidden: bool = False  # it lies in the file, and is in no directory
    shares: int | None = None  # the directory points at another member's header


def write_zip(parts: Sequence[Part], *, before: bytes = b"", after: bytes = b"", **end: Any) -> bytes:
    """Return an archive; `end` may set the end record's `count`, `comment`, `disk`."""
    body, central, offsets = bytearray(before), bytearray(), list[int]()
    for part in parts:
        packed = _pack(part)
        offsets.append(len(body))
        crc = zlib.crc32(part.data) if part.crc is None else part.crc
        size = len(part.data) if part.size is None else part.size
        packed_size = len(packed) if part.packed_size is None else part.packed_size
        local_name = part.name if part.local_name is None else part.local_name
        local_size = size if part.local_size is None else part.local_size
        method = part.method if part.local_method is None else part.local_method
        sizes = (crc, packed_size, local_size, len(local_name), len(part.extra))
        body += struct.pack("<4s5H3L2H", b"PK\3\4", 20, part.flags, method, 0, 33, *sizes)
        body += local_name + part.extra + packed
        if part.hidden:
            continue
        offset = offsets[-1] if part.shares is None else offsets[part.shares]
        lengths = (len(part.name), len(part.extra), len(part.comment))
        central += struct.pack("<4s6H", b"PK\1\2", 3 << 8 | 20, 20, part.flags, part.method, 0, 33)
        central += struct.pack("<3L5H2L", crc, packed_size, size, *lengths, 0, 0, part.mode << 16, offset)
        central += part.name + part.extra + part.comment
    listed = sum(not part.hidden for part in parts)
    count, comment, disk = end.get("count", listed), end.get("comment", b""), end.get("disk", 0)
    record = struct.pack("<4s4H2LH", b"PK\5\6", disk, disk, count, count, len(central), len(body), len(comment))
    return bytes(body + central) + record + comment + after


def _pack(part: Part) -> bytes:
    if part.method != DEFLATED:
        return part.data
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(part.data) + packer.flush()
