"""Turn the bytes of one image into the pixels that the contract promises: uint8, (height, width, channels).

The order is the defence; nothing is spent on a step before all cheaper ones have passed:

    1 byte cap   2 magic   3 allowed format   4 header   5 limits   6 decode   7 colour   8 shape

Steps 1 to 5 are ours, and touch no decoder. Step 4 walks the file's structure at a bounded cost and rewrites it to
the one picture that is used: no metadata, profiles, thumbnails, comments or later frames ever reach the decoder
(see `formats`). Step 6 calls the one decoder for the format that the magic bytes name, never a search through all.

What a client may expect:

- The first frame of an animation is used, if the contract allows more than one frame.
- EXIF orientation is applied, before an exact shape is compared. XMP is not read.
- Colour is what `Image.convert("RGB")` or `("L")` gives: alpha is dropped and not blended, colour profiles are
  ignored. Grey of 16 bits keeps its upper 8, as colour of 16 bits does; it is not clipped.
- Resizing is bilinear with antialiasing: the shorter side to `short_side`, then a centred crop, with the rounding of
  torchvision's `Resize` and `CenterCrop`; or the whole picture to `width` by `height`, whatever its proportions.
- Pixels as nested lists of 0..255 are taken as they are, if they have the contract's final shape.
- Bytes after the image are refused in PNG, where they have no honest use. In the other formats, where cameras append
  further pictures and films, they are cut off before decoding.

It does not defend against a flaw in a decoder (the cell around the worker does), nor against pictures made to fool
the model: colours hidden under full transparency, or compressed pixels that end early but properly, whose missing rows
decode as black or grey.
"""

import contextlib
import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from garrison.checks.formats import Header, read_header, sniff_format
from garrison.checks.nested import flatten_lists, to_array
from garrison.checks.reasons import broken_image, pixel_format, refuse, too_many_bytes
from garrison.contract import ImageElement, ImageInput, Resize, Stretch
from garrison.errors import RequestRefused

# Classes, not Image.open: no other decoder is ever asked, and a JPEG of several pictures stays the first one.
# Pillow's own MAX_IMAGE_PIXELS stays as it is: it is far above our limits, and other code in the process may need it.
_DECODERS: dict[str, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    "jpeg": JpegImageFile,
    "png": PngImageFile,
    "webp": WebPImageFile,
    "gif": GifImageFile,
    "bmp": BmpImageFile,
    "tiff": TiffImageFile,
}
_MODES = {"grey": "L", "rgb": "RGB"}
_READABLE_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")
_GREY_16_MODES = ("I;16", "I;16L", "I;16B", "I;16N")
DRAFT_FACTOR = 1.25  # a JPEG is scaled down while decoding, to no less than this times the size that is wanted
_DRAFT_FRACTIONS = (1, 2, 4, 8)  # of the side, rounded up


@dataclass(frozen=True)
class _Oriented:
    """What an EXIF orientation does: the operation, and which sides of the stored picture it reverses."""

    operation: Image.Transpose
    flips_x: bool
    flips_y: bool


_ORIENTATIONS = {
    2: _Oriented(Image.Transpose.FLIP_LEFT_RIGHT, True, False),
    3: _Oriented(Image.Transpose.ROTATE_180, True, True),
    4: _Oriented(Image.Transpose.FLIP_TOP_BOTTOM, False, True),
    5: _Oriented(Image.Transpose.TRANSPOSE, False, False),
    6: _Oriented(Image.Transpose.ROTATE_270, False, True),
    7: _Oriented(Image.Transpose.TRANSVERSE, True, True),
    8: _Oriented(Image.Transpose.ROTATE_90, True, False),
}


@dataclass(frozen=True)
class Picture:
    """Pixels of the contract's shape, and the size (width, height) of the picture as sent, upright."""

    pixels: NDArray[np.uint8]
    source_size: tuple[int, int]


def read_image(data: bytes, item: ImageInput) -> NDArray[np.uint8]:
    """Check and decode one image into an array of shape `item.shape`.

    Raises:
        RequestRefused: as for `read_picture`.
    """
    return read_picture(data, item).pixels


def check_pixels(value: Any, item: ImageInput) -> NDArray[np.uint8]:
    """Return nested lists of whole numbers from 0 to 255 as an array of shape `item.shape`.

    Raises:
        OutOfContract: they have another shape, or hold anything else.
    """
    shape, leaves = flatten_lists(value, [(side, side) for side in item.shape])
    return to_array(leaves, shape, np.uint8)


def read_picture(data: bytes, item: ImageInput) -> Picture:
    """Check and decode one image, and tell how large it was.

    Raises:
        RequestRefused: with one of the codes in `reasons`, for any bytes that the contract does not allow.
    """
    _check_byte_count(data, item)  # 1
    sniffed = sniff_format(data)  # 2
    image_format = _allow_format(sniffed, item)  # 3
    header = read_header(image_format, data, item.max_frames)  # 4
    _check_limits(header, item)  # 5
    _check_exact(header, item)
    with _decoding():
        picture = _decode(image_format, header, item.resize)  # 6
        picture = _convert_colour(picture, _MODES[item.colour])  # 7
        return Picture(_shape(picture, header, item), header.oriented_size)  # 8


@contextlib.contextmanager
def _decoding() -> Iterator[None]:
    """Turn whatever a decoder raises into a refusal."""
    try:
        yield
    except RequestRefused:
        raise
    except MemoryError as error:
        raise _out_of_memory() from error
    except Exception as error:  # a decoder may raise anything at all on bytes made to break it
        if isinstance(error, OSError) and "memory" in str(error):  # how Pillow reports a failed malloc of a codec
            raise _out_of_memory() from error
        raise broken_image(f"{type(error).__name__}: {error}") from error


def check_encoded(data: bytes, item: ImageElement) -> None:
    """Check one image that somebody else will decode, and decode it for a try: steps 1 to 6, at its full size.

    The other decoder gets the bytes as they were sent, with all that `formats` leaves out here.

    Raises:
        RequestRefused: as for `read_picture`.
    """
    _check_byte_count(data, item)
    image_format = _allow_format(sniff_format(data), item)
    header = read_header(image_format, data, item.max_frames)
    _check_limits(header, item)
    with _decoding():
        _decode(image_format, header, None)


def _check_byte_count(data: bytes, item: ImageInput | ImageElement) -> None:
    if not data:
        raise refuse("empty_body", "The request has no image in it.")
    if len(data) > item.max_bytes:
        raise too_many_bytes(len(data), item.max_bytes)


def _allow_format(image_format: str | None, item: ImageInput | ImageElement) -> str:
    wanted = " or ".join(item.formats)
    if image_format is None:
        raise refuse("unknown_format", f"This is not an image of a known format; send {wanted}.")
    if image_format not in item.formats:
        raise refuse("format_not_allowed", f"Images in {image_format} are not accepted; send {wanted}.")
    return image_format


def _check_limits(header: Header, item: ImageInput | ImageElement) -> None:
    width, height = header.size
    if header.frames > item.max_frames:
        raise refuse("too_many_frames", f"The image has more than {item.max_frames} frame(s).")
    if min(header.size) < 1:
        raise broken_image("a side of zero pixels")
    if width * height > item.max_pixels:
        raise refuse("too_many_pixels", f"{width}x{height} is more than {item.max_pixels} pixels.")
    if max(header.size) > item.max_side_pixels:
        raise refuse("side_too_long", f"{width}x{height}: a side is longer than {item.max_side_pixels} pixels.")
    if min(header.size) < item.min_side_pixels:
        raise refuse("side_too_short", f"{width}x{height}: a side is shorter than {item.min_side_pixels} pixels.")


def _check_exact(header: Header, item: ImageInput) -> None:
    if item.exact is not None and header.oriented_size != (item.exact[1], item.exact[0]):
        wide, high = header.oriented_size
        raise refuse("wrong_shape", f"{wide}x{high} pixels; exactly {item.exact[1]}x{item.exact[0]} are accepted.")


def _decode(image_format: str, header: Header, resize: Resize | Stretch | None) -> Image.Image:
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # whoever sets it asks for half a picture to pass as a whole one
    picture = _DECODERS[image_format](io.BytesIO(header.content))
    if picture.size != header.size:
        raise broken_image(f"the header says {header.size}, the decoder {picture.size}")
    if picture.mode not in _READABLE_MODES + _GREY_16_MODES:
        raise pixel_format(f"mode {picture.mode}")
    if resize is not None and isinstance(picture, JpegImageFile):
        width, height = _aim_for(resize, header)
        picture.draft(None, (math.ceil(width * DRAFT_FACTOR), math.ceil(height * DRAFT_FACTOR)))
    picture.load()
    picture.info.clear()  # conversion looks at transparency in there; alpha is dropped
    return picture


def _convert_colour(picture: Image.Image, mode: str) -> Image.Image:
    if picture.mode in _GREY_16_MODES:
        upper_bits = np.asarray(picture) >> 8
        picture = Image.fromarray(upper_bits.astype(np.uint8))
    return picture if picture.mode == mode else picture.convert(mode)


def _shape(picture: Image.Image, header: Header, item: ImageInput) -> NDArray[np.uint8]:
    oriented = _ORIENTATIONS.get(header.orientation)
    if item.resize is not None:
        picture = _resize(picture, header, item.resize, oriented)
    if oriented is not None:
        picture = picture.transpose(oriented.operation)
    return np.array(picture, dtype=np.uint8).reshape(item.shape)


def _aim_for(resize: Resize | Stretch, header: Header) -> tuple[int, int]:
    """Return the smallest width and height, as stored, that the picture is scaled to."""
    if isinstance(resize, Resize):
        return resize.short_side_pixels, resize.short_side_pixels
    wanted = (resize.width_pixels, resize.height_pixels)
    return wanted if header.oriented_size == header.size else (wanted[1], wanted[0])


def _resize(picture: Image.Image, header: Header, resize: Resize | Stretch, oriented: _Oriented | None) -> Image.Image:
    """Resize in one go the part of the picture that is kept, however long the rest of a side would become.

    The header has the file's size; `picture` may have been decoded at a fraction of it, rounded up.
    """
    flips = (False, False) if oriented is None else (oriented.flips_x, oriented.flips_y)
    wanted = _aim_for(resize, header) if isinstance(resize, Stretch) else (resize.crop_pixels, resize.crop_pixels)
    starts, ends = [], []
    for side, decoded_side, flipped, length in zip(header.size, picture.size, flips, wanted, strict=True):
        resized_side = int(resize.short_side_pixels * side / min(header.size)) if isinstance(resize, Resize) else length
        margin = round((resized_side - length) / 2)
        start = resized_side - length - margin if flipped else margin
        fraction = next(n for n in _DRAFT_FRACTIONS if -(-side // n) == decoded_side)
        scale = side / fraction / resized_side
        starts.append(start * scale)
        ends.append(min((start + length) * scale, decoded_side))
    return picture.resize(wanted, Image.Resampling.BILINEAR, box=(starts[0], starts[1], ends[0], ends[1]))


def _out_of_memory() -> RequestRefused:
    return refuse("out_of_memory", "There is not enough memory for this image at the moment; try again later.")
