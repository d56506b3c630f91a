"""PNG and APNG (W3C PNG, third edition): chunks. Keeps header, palette and the default image; drops all others.

Dropped with the rest: colour profiles and compressed text, which a decoder would inflate, transparency, which the
result does not have, and an animation's later frames. Bytes after the last chunk are refused.
"""

import struct
import zlib

from garrison.checks.formats.exif import MAX_EXIF_BYTES, read_orientation
from garrison.checks.formats.header import Header
from garrison.checks.reasons import broken_image, refuse, too_many_parts

MAX_CHUNKS = 10_000  # encoders write 8 KiB or more at a time: room for 80 MB

_SIGNATURE_BYTES = 8
_COLOUR_TYPE_AT = 25
_PALETTE_COLOUR = 3
_FRAME_BYTES = 12  # length, name and checksum around each chunk's content


def read_header(data: bytes, max_frames: int) -> Header:
    """Read a PNG's size, frames and orientation; an animation's frames are those it declares or has, if more."""
    position = _SIGNATURE_BYTES
    kept, counts, declared, orientation = [data[:position]], dict[bytes, int](), 1, 1
    last = b""
    for _ in range(MAX_CHUNKS):
        length, kind = struct.unpack_from(">L4s", data, position)
        start, end = position, position + _FRAME_BYTES + length
        if end > len(data):
            raise broken_image("ends within a chunk")
        counts[kind] = counts.get(kind, 0) + 1
        _check_place(kind, last, length, counts)
        if kind in (b"IHDR", b"PLTE", b"IDAT", b"IEND"):
            _check_sum(data, start, end)
            kept.append(data[start:end])
        elif kind == b"acTL":
            (declared,) = struct.unpack_from(">L", data, start + 8)
        elif kind == b"eXIf":
            orientation = read_orientation(data[start + 8 : min(end - 4, start + 8 + MAX_EXIF_BYTES)])
        position, last = end, kind
        if kind == b"IEND":
            break
    else:
        raise too_many_parts("chunks", MAX_CHUNKS)
    if position != len(data):
        raise refuse("trailing_bytes", f"{len(data) - position} bytes follow the end of the image.")
    if b"IDAT" not in counts:
        raise broken_image("no picture before the end")
    if data[_COLOUR_TYPE_AT] == _PALETTE_COLOUR and b"PLTE" not in counts:
        raise broken_image("no palette for its pixels")
    width, height = struct.unpack_from(">LL", data, _SIGNATURE_BYTES + 8)
    return Header((width, height), b"".join(kept), max(declared, counts.get(b"fcTL", 0), 1), orientation)


def _check_sum(data: bytes, start: int, end: int) -> None:
    (told,) = struct.unpack_from(">L", data, end - 4)
    if zlib.crc32(memoryview(data)[start + 4 : end - 4]) != told:
        raise broken_image("a chunk's checksum is wrong")


def _check_place(kind: bytes, last: bytes, length: int, counts: dict[bytes, int]) -> None:
    if (kind == b"IHDR") != (last == b"") or (kind == b"IHDR" and length != 13):
        raise broken_image("must begin with its one header")
    if kind in (b"PLTE", b"acTL", b"eXIf") and counts[kind] > 1:
        raise broken_image("a chunk that may stand once stands twice")
    if kind == b"IDAT" and counts[kind] > 1 and last != b"IDAT":
        raise broken_image("its pixels are interrupted by another chunk")
    if kind[0] < ord("a") and kind not in (b"IHDR", b"PLTE", b"IDAT", b"IEND"):
        raise broken_image("an unknown chunk that is needed to show the image")
