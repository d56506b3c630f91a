"""BMP: one header, one picture. Run-length compression is not read: its decoder is slow, and nobody sends it."""

import struct

from garrison.checks.formats.header import Header
from garrison.checks.reasons import broken_image, pixel_format

_CORE_HEADER_BYTES = 12
_HEADER_BYTES = (40, 52, 56, 64, 108, 124)
_COMPRESSIONS = (0, 3)  # none; none, with the place of each colour given
_BITS = (1, 4, 8, 16, 24, 32)
_MAX_COLOURS = 256


def read_header(data: bytes, max_frames: int) -> Header:
    """Read a BMP's size; it always has one frame, and no orientation."""
    (header_bytes,) = struct.unpack_from("<L", data, 14)
    if header_bytes == _CORE_HEADER_BYTES:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression, colours = 0, 0
    elif header_bytes in _HEADER_BYTES:
        width, height, _, bits, compression, colours = struct.unpack_from("<llHHL12xL", data, 18)
    else:
        raise broken_image("a header of an unknown length")
    if compression not in _COMPRESSIONS or bits not in _BITS:
        raise pixel_format(f"BMP with {bits} bits and compression {compression}")
    if colours > _MAX_COLOURS:
        raise broken_image("a palette of more than 256 colours")
    if width < 0:
        raise broken_image("a negative width")
    return Header((width, abs(height)), data)
