"""Walk an image file's structure, without decoding a pixel, and keep only what its first picture needs.

Bytes enter, a `Header` leaves. One module per format, each with `read_header(data, max_frames)`. They exist because
decoders read metadata before they say how large an image is, often in slow loops: a few megabytes of empty chunks,
one-byte blocks or thousands of JPEG scans cost seconds. Here each walk has a bound on its number of parts and stops at
the first frame too many.

They do not prove that the pixels can be decoded; only the decoder can.
"""

import struct
from collections.abc import Callable

from garrison.checks.formats import bmp, gif, jpeg, png, tiff, webp
from garrison.checks.formats.header import Header
from garrison.checks.reasons import broken_image

__all__ = ["Header", "read_header", "sniff_format"]

# (format, offset, signature); all of a format's rows must match
_SIGNATURES: tuple[tuple[str, tuple[tuple[int, bytes], ...]], ...] = (
    ("jpeg", ((0, b"\xff\xd8\xff"),)),
    ("png", ((0, b"\x89PNG\r\n\x1a\n"),)),
    ("webp", ((0, b"RIFF"), (8, b"WEBP"))),
    ("gif", ((0, b"GIF87a"),)),
    ("gif", ((0, b"GIF89a"),)),
    ("bmp", ((0, b"BM"), (6, b"\0\0\0\0"))),  # two reserved fields: without them any text "BM..." would pass
    ("tiff", ((0, b"II*\0"),)),
    ("tiff", ((0, b"MM\0*"),)),
)
_READERS: dict[str, Callable[[bytes, int], Header]] = {
    "jpeg": jpeg.read_header,
    "png": png.read_header,
    "webp": webp.read_header,
    "gif": gif.read_header,
    "bmp": bmp.read_header,
    "tiff": tiff.read_header,
}


def sniff_format(data: bytes) -> str | None:
    """Return the format that the first bytes name, or None; a file's name or media type counts for nothing."""
    for name, marks in _SIGNATURES:
        if all(data.startswith(mark, offset) for offset, mark in marks):
            return name
    return None


def read_header(image_format: str, data: bytes, max_frames: int) -> Header:
    """Read size, frames and orientation; frames are counted only until there is one more than `max_frames`.

    Raises:
        Malformed: the structure is damaged, incomplete or contradicts itself.
        TooLarge: it is cut into more parts than are read at a bounded cost.
        Unsupported: it stores pixels in a rare way that is not read.
    """
    try:
        return _READERS[image_format](data, max_frames)
    except (struct.error, IndexError) as error:
        raise broken_image(f"{image_format} ends within its structure") from error
