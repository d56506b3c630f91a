"""JPEG (ITU T.81): markers, scans, end. Keeps tables, frame and scans; drops everything that only describes.

Read: baseline, extended and progressive, Huffman-coded, 8 bits. Not read: lossless, hierarchical, arithmetic-coded and
12-bit files, which no camera or browser writes. A file without its end mark is incomplete. What follows the end mark
(further pictures of a phone, films, gain maps) is cut off.
"""

import re
import struct
from collections.abc import Iterator

from garrison.checks.formats.exif import read_orientation
from garrison.checks.formats.header import Header
from garrison.checks.reasons import broken_image, pixel_format, too_many_parts

MAX_SEGMENTS = 2_000  # 64 KiB each: room for 120 MB of a phone's metadata
MAX_SCANS = 20  # encoders write 1 to 18; each costs a pass over the whole image, however few bytes it has

# A marker is FF and a byte; FF 00, fill bytes (FF FF) and restart marks (FF D0..D7) are part of the data.
_MARKER = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]")
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_FRAMES = {0xC0, 0xC1, 0xC2}
_FOREIGN_FRAMES = {0xC3, 0xC5, 0xC6, 0xC7, 0xC8, 0xC9, 0xCA, 0xCB, 0xCC, 0xCD, 0xCE, 0xCF}
_TABLES = {0xC4, 0xDB, 0xDD}  # Huffman, quantisation, restart interval
_EXIF = 0xE1
_COLOUR_MARKS = {0xE0: b"JFIF\0", 0xEE: b"Adobe"}  # these two decide how colours are stored


def read_header(data: bytes, max_frames: int) -> Header:
    """Read a JPEG's frame header and orientation; it always has one frame."""
    kept, size, orientation, scans = [b"\xff\xd8"], None, None, 0
    for kind, start, end in _walk_segments(data):
        if kind in _FRAMES:
            if size is not None:
                raise broken_image("two frame headers")
            size = _read_size(data, start)
        elif kind == _EXIF and orientation is None and data.startswith(b"Exif\0\0", start + 4):
            orientation = read_orientation(data[start + 4 : end])
        elif kind == _SOS:
            scans += 1
        if scans > MAX_SCANS:
            raise too_many_parts("scans", MAX_SCANS)
        if _is_kept(kind, data, start):
            kept.append(data[start:end])
    if size is None or scans == 0:
        raise broken_image("no picture before the end mark")
    return Header(size, b"".join([*kept, b"\xff\xd9"]), orientation=orientation or 1)


def _walk_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield kind, start and end of each segment up to the end mark; a scan's segment includes its pixels."""
    position = 2
    for _ in range(MAX_SEGMENTS):
        start = _find_marker(data, position)
        kind = data[start + 1]
        if kind == _EOI:
            return
        if kind == _SOI:
            raise broken_image("a second image inside the first")
        if kind in _FOREIGN_FRAMES:
            raise pixel_format(f"JPEG frame type {kind:#x}")
        position = start + 2 + struct.unpack_from(">H", data, start + 2)[0]
        if kind == _SOS:
            position = _find_marker(data, position)
        yield kind, start, position
    raise too_many_parts("segments", MAX_SEGMENTS)


def _find_marker(data: bytes, position: int) -> int:
    mark = _MARKER.search(data, position)
    if mark is None:
        raise broken_image("no end mark")
    return mark.start()


def _read_size(data: bytes, start: int) -> tuple[int, int]:
    bits, height, width, components = struct.unpack_from(">BHHB", data, start + 4)
    if bits != 8 or components not in (1, 3, 4):
        raise pixel_format(f"JPEG with {components} components of {bits} bits")
    return width, height


def _is_kept(kind: int, data: bytes, start: int) -> bool:
    if kind in _COLOUR_MARKS:
        return data.startswith(_COLOUR_MARKS[kind], start + 4)
    return kind in _FRAMES or kind in _TABLES or kind == _SOS
