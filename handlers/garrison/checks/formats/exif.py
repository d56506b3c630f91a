"""Read the one EXIF value that changes pixels: the orientation. Never raises; damaged EXIF means orientation 1."""

import struct

MAX_EXIF_BYTES = 64 * 1024  # what a JPEG segment can hold; PNG and WebP have no limit of their own
MAX_ENTRIES = 256
_ORIENTATION = 0x0112
_SHORT = 3
_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}


def read_orientation(exif: bytes) -> int:
    """Return the orientation, 1 to 8, out of an EXIF block (with or without its leading `Exif` mark)."""
    block = exif[:MAX_EXIF_BYTES].removeprefix(b"Exif\0\0")
    order = _BYTE_ORDERS.get(block[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}L", block, 4)
        (count,) = struct.unpack_from(f"{order}H", block, start)
        for index in range(min(count, MAX_ENTRIES)):
            tag, kind, items, value = struct.unpack_from(f"{order}HHLH", block, start + 2 + index * 12)
            if tag == _ORIENTATION:
                return value if kind == _SHORT and items == 1 and 1 <= value <= 8 else 1
    except struct.error:
        pass  # cut off or pointing outside
    return 1
