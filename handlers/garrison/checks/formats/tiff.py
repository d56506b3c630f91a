"""TIFF 6.0: directories of tags. Writes a new one for the first page, with the tags that its pixels need, no others.

Read: whole-number samples, uncompressed or compressed by LZW, deflate or PackBits, in strips or tiles. Not read:
BigTIFF, fax, JPEG and all other compressions inside TIFF, which would bring further decoders within a client's reach.
libtiff writes a line of its own to standard error about a broken strip; a server that accepts TIFF bounds that stream.
"""

import struct
from dataclasses import dataclass

from garrison.checks.formats.header import Header
from garrison.checks.reasons import broken_image, pixel_format, too_many_parts

MAX_TAGS = 1_000
MAX_STRIPS = 8_192  # strips or tiles; each costs the decoder a step of its own
MAX_TILE_SIDE = 4_096  # the decoder allocates a whole tile, however small the image

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _SAMPLES, _PLANAR = 256, 257, 258, 259, 277, 284
_STRIP_OFFSETS, _ROWS_PER_STRIP, _STRIP_BYTES = 273, 278, 279
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES = 322, 323, 324, 325
_SAMPLE_FORMAT = 339
_ORIENTATION = 274  # read, but not kept: it is applied by us
_KEPT = (
    {_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _SAMPLES, _PLANAR, _STRIP_OFFSETS, _ROWS_PER_STRIP, _STRIP_BYTES}
    | {_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES, _SAMPLE_FORMAT}
    | {262, 266, 317, 320, 338}  # photometric interpretation, fill order, predictor, palette, extra samples
)
_COMPRESSIONS = (1, 5, 8, 32773, 32946)
_SHORT, _LONG = 3, 4


@dataclass(frozen=True)
class _Tag:
    kind: int
    count: int
    value: int  # of the first item; meaningless where the items lie elsewhere
    entry: bytes


def read_header(data: bytes, max_frames: int) -> Header:
    """Read a TIFF's first directory, and count its pages up to one more than `max_frames`."""
    order = "<" if data[:2] == b"II" else ">"
    (start,) = struct.unpack_from(f"{order}L", data, 4)
    tags = _read_tags(data, order, start)
    width, height = _number(tags, _WIDTH, 0), _number(tags, _HEIGHT, 0)
    if min(width, height) < 1:
        raise broken_image("a side of zero pixels")
    _check_pixels(tags)
    _check_parts(tags, width, height)
    orientation = _number(tags, _ORIENTATION, 1)
    return Header(
        size=(width, height),
        content=_rewrite(data, order, tags),
        frames=_count_pages(data, order, start, max_frames),
        orientation=orientation if 1 <= orientation <= 8 else 1,
    )


def _read_tags(data: bytes, order: str, start: int) -> dict[int, _Tag]:
    (count,) = struct.unpack_from(f"{order}H", data, start)
    if count > MAX_TAGS:
        raise too_many_parts("tags", MAX_TAGS)
    tags: dict[int, _Tag] = {}
    for position in range(start + 2, start + 2 + count * 12, 12):
        tag, kind, items = struct.unpack_from(f"{order}HHL", data, position)
        if tag not in _KEPT and tag != _ORIENTATION:
            continue
        if tag in tags or kind not in (_SHORT, _LONG):
            raise broken_image(f"tag {tag} stands twice or is not a number")
        if items > MAX_STRIPS:
            raise too_many_parts("strips, tiles or samples", MAX_STRIPS)
        (value,) = struct.unpack_from(f"{order}{'H' if kind == _SHORT else 'L'}", data, position + 8)
        _check_inside(data, order, position, items * (2 if kind == _SHORT else 4))
        tags[tag] = _Tag(kind, items, value, data[position : position + 12])
    return tags


def _check_inside(data: bytes, order: str, position: int, size: int) -> None:
    """Check that a tag's items, if they do not fit into its entry, lie inside the file."""
    if size > 4 and struct.unpack_from(f"{order}L", data, position + 8)[0] + size > len(data):
        raise broken_image("a tag that points outside the file")


def _number(tags: dict[int, _Tag], tag: int, default: int) -> int:
    if tag not in tags:
        return default
    if tags[tag].count != 1:
        raise broken_image(f"tag {tag} must have one value")
    return tags[tag].value


def _check_pixels(tags: dict[int, _Tag]) -> None:
    if _number(tags, _COMPRESSION, 1) not in _COMPRESSIONS:
        raise pixel_format(f"TIFF compression {_number(tags, _COMPRESSION, 1)}")
    if not 1 <= _number(tags, _SAMPLES, 1) <= 5 or _number(tags, _PLANAR, 1) not in (1, 2):
        raise pixel_format("TIFF with more than five samples")
    if _BITS in tags and tags[_BITS].count not in (1, _number(tags, _SAMPLES, 1)):
        raise broken_image("the number of samples contradicts itself")


def _check_parts(tags: dict[int, _Tag], width: int, height: int) -> None:
    """Compare the number of strips or tiles with the one that the size asks for; extra ones would be decoded too."""
    if _TILE_OFFSETS in tags:
        wide, high = _number(tags, _TILE_WIDTH, 0), _number(tags, _TILE_HEIGHT, 0)
        offsets, sizes = tags[_TILE_OFFSETS].count, _count(tags, _TILE_BYTES)
        if max(wide, high) > MAX_TILE_SIDE:
            raise pixel_format("TIFF with huge tiles")
    else:
        wide, high = width, min(_number(tags, _ROWS_PER_STRIP, height), height)
        offsets, sizes = _count(tags, _STRIP_OFFSETS), _count(tags, _STRIP_BYTES)
    if min(wide, high) < 1 or (_TILE_OFFSETS in tags and _STRIP_OFFSETS in tags):
        raise broken_image("strips or tiles of no size, or both at once")
    planes = _number(tags, _SAMPLES, 1) if _number(tags, _PLANAR, 1) == 2 else 1
    if not offsets == sizes == -(-width // wide) * -(-height // high) * planes:
        raise broken_image("the number of strips or tiles does not fit the size")


def _count(tags: dict[int, _Tag], tag: int) -> int:
    return tags[tag].count if tag in tags else 0


def _count_pages(data: bytes, order: str, start: int, max_frames: int) -> int:
    pages = 0
    while start and pages <= max_frames:
        (count,) = struct.unpack_from(f"{order}H", data, start)
        (start,) = struct.unpack_from(f"{order}L", data, start + 2 + count * 12)
        pages += 1
    return pages


def _rewrite(data: bytes, order: str, tags: dict[int, _Tag]) -> bytes:
    """Put a directory of the kept tags, the only one, at the end of the file; all offsets stay valid."""
    padding = b"\0" * (len(data) % 2)
    place = struct.pack(f"{order}L", len(data) + len(padding))
    entries = [tags[tag].entry for tag in sorted(tags) if tag in _KEPT]
    return b"".join([data[:4], place, data[8:], padding, struct.pack(f"{order}H", len(entries)), *entries, b"\0" * 4])
