"""WebP (RFC 9649): chunks. Reads the canvas, before the decoder would allocate it, and counts frames.

What follows the length that the file declares for itself is cut off. EXIF and colour profiles stay in the file: they
are not looked at again.
"""

import struct

from garrison.checks.formats.exif import MAX_EXIF_BYTES, read_orientation
from garrison.checks.formats.header import Header
from garrison.checks.reasons import broken_image, too_many_parts

MAX_CHUNKS = 2_000  # one per frame and a few more

_FIRST_CHUNK = 12
_VP8_START = b"\x9d\x01\x2a"
_VP8L_START = 0x2F


def read_header(data: bytes, max_frames: int) -> Header:
    """Read a WebP's canvas and orientation, and count its frames."""
    end = 8 + struct.unpack_from("<L", data, 4)[0]
    if end > len(data):
        raise broken_image("shorter than it declares")
    size, frames, orientation, position, chunks = _read_canvas(data), 0, 1, _FIRST_CHUNK, 0
    while position < end and frames <= max_frames:
        kind, length = struct.unpack_from("<4sL", data, position)
        content = position + 8
        position = content + length + (length & 1)
        if content + length > end:
            raise broken_image("ends within a chunk")
        if kind == b"EXIF":
            orientation = read_orientation(data[content : content + min(length, MAX_EXIF_BYTES)])
        frames += kind == b"ANMF"
        chunks += 1
        if chunks > MAX_CHUNKS:
            raise too_many_parts("chunks", MAX_CHUNKS)
    return Header(size, data[:end], max(frames, 1), orientation)


def _read_canvas(data: bytes) -> tuple[int, int]:
    kind, content = data[_FIRST_CHUNK : _FIRST_CHUNK + 4], _FIRST_CHUNK + 8
    if kind == b"VP8X":
        wide_low, wide_high, high_low, high_high = struct.unpack_from("<HBHB", data, content + 4)
        return (wide_low | wide_high << 16) + 1, (high_low | high_high << 16) + 1
    if kind == b"VP8 " and data.startswith(_VP8_START, content + 3):
        width, height = struct.unpack_from("<HH", data, content + 6)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L" and data[content] == _VP8L_START:
        (bits,) = struct.unpack_from("<L", data, content + 1)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    raise broken_image("no picture at the start")
