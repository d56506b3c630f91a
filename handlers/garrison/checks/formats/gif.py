"""GIF (87a and 89a): blocks. Keeps the first frame, on a screen large enough for it.

Comments and other extensions, and all later frames, are dropped. A missing trailer means that the file is incomplete.
"""

import struct

from garrison.checks.formats.header import Header
from garrison.checks.reasons import broken_image, too_many_parts

MAX_BLOCKS = 100_000  # encoders fill blocks with 255 bytes: room for 25 MB before the last frame that is looked at

_SCREEN_BYTES = 13
_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, 0x3B


def read_header(data: bytes, max_frames: int) -> Header:
    """Read a GIF's size and count its frames, up to one more than `max_frames`."""
    position = _SCREEN_BYTES + _palette_bytes(data[10])
    screen = data[:position]
    size, picture, frames, blocks = struct.unpack_from("<HH", data, 6), b"", 0, 0
    while data[position] != _TRAILER and frames <= max_frames:
        start = position
        if data[start] == _EXTENSION:
            position, blocks = _skip_blocks(data, start + 2, blocks)
        elif data[start] == _IMAGE:
            frames += 1
            position, blocks = _skip_blocks(data, start + 11 + _palette_bytes(data[start + 9]), blocks)
            if frames == 1:
                picture, size = data[start:position], _enclose(size, data, start)
        else:
            raise broken_image("an unknown block")
    if frames == 0:
        raise broken_image("no picture before the end")
    screen = screen[:6] + struct.pack("<HH", *size) + screen[10:]
    return Header((size[0], size[1]), b"".join([screen, picture, bytes([_TRAILER])]), frames)


def _palette_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _skip_blocks(data: bytes, position: int, blocks: int) -> tuple[int, int]:
    """Go past a chain of blocks, each led by its length, to behind the empty one that ends it."""
    length = -1
    while length != 0:
        length = data[position]
        position += length + 1
        blocks += 1
        if blocks > MAX_BLOCKS:
            raise too_many_parts("blocks", MAX_BLOCKS)
    return position, blocks


def _enclose(size: tuple[int, ...], data: bytes, start: int) -> tuple[int, ...]:
    left, top, width, height = struct.unpack_from("<HHHH", data, start + 1)
    if 0 in (width, height):
        raise broken_image("a frame of zero pixels")
    wide, high = max(size[0], left + width), max(size[1], top + height)
    if max(wide, high) > 0xFFFF:
        raise broken_image("a frame that reaches outside the largest screen")
    return wide, high
