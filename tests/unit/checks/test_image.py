"""What an image must be to reach the model, at each limit and just beyond it."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

from garrison.checks.formats import gif, jpeg, png, sniff_format
from garrison.checks.image import check_pixels, read_image, read_picture
from garrison.checks.reasons import MAX_DETAIL_CHARACTERS, broken_image
from garrison.contract import ImageInput, Resize, Stretch
from garrison.contract.image import IMAGE_FORMATS
from garrison.errors import Refused
from garrison.reasons import REASONS

Item = Callable[..., ImageInput]
Picture = Callable[..., Image.Image]
Save = Callable[..., bytes]
Bytes = Callable[..., bytes]

LOSSLESS = {"webp": {"lossless": True}}


def refusal(data: bytes, item: ImageInput) -> str:
    with pytest.raises(Refused) as caught:
        read_image(data, item)
    assert type(caught.value) is REASONS[caught.value.reason]
    return caught.value.reason


def difference(left: NDArray[Any], right: NDArray[Any] | Image.Image) -> int:
    return int(np.abs(np.asarray(left).astype(int) - np.asarray(right).astype(int)).max())


def resize_then_crop(picture: Image.Image, resize: Resize) -> Image.Image:
    """Do what torchvision's Resize and CenterCrop do, one after the other."""
    short, crop = resize.short_side_pixels, resize.crop_pixels
    width, height = (int(short * side / min(picture.size)) for side in picture.size)
    left, top = round((width - crop) / 2), round((height - crop) / 2)
    resized = picture.resize((width, height), Image.Resampling.BILINEAR)
    return resized.crop((left, top, left + crop, top + crop))


# --- formats


@pytest.mark.parametrize("image_format", IMAGE_FORMATS)
def test_every_format_of_the_contract_is_read(
    make_item: Item, make_picture: Picture, save: Save, image_format: str
) -> None:
    data = save(make_picture(), image_format, **LOSSLESS.get(image_format, {}))
    pixels = read_image(data, make_item(exact=(48, 64, 3)))
    assert pixels.shape == (48, 64, 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.writeable
    assert difference(pixels, Image.open(io.BytesIO(data)).convert("RGB")) == 0


@pytest.mark.parametrize("image_format", IMAGE_FORMATS)
def test_a_format_that_the_contract_does_not_name_is_refused(
    make_item: Item, make_picture: Picture, save: Save, image_format: str
) -> None:
    others = tuple(name for name in IMAGE_FORMATS if name != image_format)
    assert refusal(save(make_picture(), image_format), make_item(formats=others)) == "format_not_allowed"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'/>", id="svg"),
        pytest.param(b"<!doctype html><img>", id="html"),
        pytest.param(b"alert(1)", id="javascript"),
        pytest.param(b"PK\x03\x04" + b"\0" * 40, id="zip"),
        pytest.param(b"\x80\x04\x95cos\nsystem\n", id="pickle"),
        pytest.param(b"BMW is a car maker", id="text that begins like a BMP"),
        pytest.param(b"RIFF\x24\0\0\0WAVEfmt ", id="wav"),
        pytest.param(b"%!PS-Adobe-3.0 EPSF-3.0\n", id="eps"),
        pytest.param(b"P6 1 1 255\n\0\0\0", id="ppm"),
        pytest.param(b"II+\0\x08\0\0\0" + b"\0" * 20, id="bigtiff"),
        pytest.param(b"\0", id="one byte"),
    ],
)
def test_what_is_not_an_image_of_a_known_format_is_refused(make_item: Item, data: bytes) -> None:
    assert sniff_format(data) is None
    assert refusal(data, make_item()) == "unknown_format"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"GIF89a/*" + b"\0" * 20 + b"*/=1;alert(1)", id="gif and javascript"),
        pytest.param(b"\xff\xd8\xff\xe0\x2f\x2a*/=alert(1)", id="jpeg and javascript"),
        pytest.param(b"BM\0\0\0\0\0\0\0\0" + b"<script>" * 9, id="bmp and html"),
    ],
)
def test_polyglots_are_refused(make_item: Item, data: bytes) -> None:
    assert refusal(data, make_item(max_side_pixels=65_535, max_pixels=2**32)) == "broken_image"


def test_no_bytes_are_refused(make_item: Item) -> None:
    assert refusal(b"", make_item()) == "empty_body"


# --- limits


def test_bytes_at_the_limit_pass_and_one_more_is_refused(make_item: Item, make_png: Bytes) -> None:
    data = make_png(32, 32)
    assert read_image(data, make_item(max_bytes=len(data))).shape == (24, 24, 3)
    assert refusal(data, make_item(max_bytes=len(data) - 1)) == "too_many_bytes"


@pytest.mark.parametrize(
    ("limits", "at_limit", "over", "reason"),
    [
        pytest.param({"max_side_pixels": 70}, (70, 40), (71, 40), "side_too_long", id="width"),
        pytest.param({"max_side_pixels": 70}, (40, 70), (40, 71), "side_too_long", id="height"),
        pytest.param({"max_pixels": 2_500}, (50, 50), (50, 51), "too_many_pixels", id="pixels"),
        pytest.param({"min_side_pixels": 40}, (40, 50), (39, 50), "side_too_short", id="smallest width"),
        pytest.param({"min_side_pixels": 40}, (50, 40), (50, 39), "side_too_short", id="smallest height"),
        pytest.param({"exact": (48, 64, 3)}, (64, 48), (48, 64), "wrong_shape", id="exact shape"),
    ],
)
def test_sizes_at_the_limit_pass_and_one_more_is_refused(
    make_item: Item,
    make_png: Bytes,
    limits: dict[str, Any],
    at_limit: tuple[int, int],
    over: tuple[int, int],
    reason: str,
) -> None:
    item = make_item(**limits)
    assert read_image(make_png(*at_limit), item).shape == item.shape
    assert refusal(make_png(*over), item) == reason


def test_a_bomb_is_refused_from_its_header_whether_its_pixels_are_there_or_not(
    make_item: Item, make_png: Bytes
) -> None:
    """80 megapixels in a few hundred kilobytes: decoding takes a stock worker seconds and 240 MB."""
    real = make_png(8_944, 8_944)
    item = make_item(max_side_pixels=10_000)
    assert len(real) < item.max_bytes
    assert refusal(real, item) == "too_many_pixels"
    assert refusal(make_png(8_944, 8_944, rows=1), item) == "too_many_pixels"


@pytest.mark.parametrize("image_format", ["gif", "png", "webp", "tiff"])
def test_frames_at_the_limit_pass_and_one_more_is_refused(
    make_item: Item, make_picture: Picture, save: Save, image_format: str
) -> None:
    first, *rest = [make_picture().rotate(angle) for angle in (0, 90, 180)]
    options: dict[str, Any] = {"save_all": True, "append_images": rest} | LOSSLESS.get(image_format, {})
    data = save(first, image_format, **options)
    pixels = read_image(data, make_item(max_frames=3, exact=(48, 64, 3)))
    with Image.open(io.BytesIO(data)) as opened:
        assert difference(pixels, opened.convert("RGB")) == 0
    assert refusal(data, make_item(max_frames=2)) == "too_many_frames"


def test_frames_that_an_animation_hides_are_counted(make_item: Item, make_png: Bytes, chunk: Bytes) -> None:
    declares_one = chunk(b"acTL", struct.pack(">LL", 1, 0))
    frame = struct.pack(">LLLLHHBB", 64, 48, 0, 0, 1, 1, 0, 0)
    data = make_png(64, 48, extra=declares_one + b"".join(chunk(b"fcTL", bytes(4) + frame) for _ in range(2)))
    assert refusal(data, make_item()) == "too_many_frames"


def test_pages_in_a_circle_are_not_followed_for_ever(make_item: Item, make_picture: Picture, save: Save) -> None:
    data = save(make_picture(), "tiff")
    first = data[4:8]
    (start,) = struct.unpack("<L", first)
    end = start + 2 + 12 * struct.unpack_from("<H", data, start)[0]
    assert refusal(data[:end] + first + data[end + 4 :], make_item(max_frames=1000)) == "too_many_frames"


def test_the_first_picture_of_an_mpo_is_used_and_the_rest_is_not_counted(
    make_item: Item, make_picture: Picture, save: Save
) -> None:
    picture = make_picture()
    data = save(picture, "mpo", save_all=True, append_images=[picture.rotate(180)])
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.n_frames == 2  # type: ignore[attr-defined]
    assert difference(read_image(data, make_item(exact=(48, 64, 3))), picture) < 24  # JPEG's own loss


# --- structures made to cost more than they weigh


def test_chunks_are_bounded(make_item: Item, make_png: Bytes, chunk: Bytes) -> None:
    extra = chunk(b"teSt")
    assert read_image(make_png(32, 32, extra=extra * (png.MAX_CHUNKS - 3)), make_item()).shape == (24, 24, 3)
    assert refusal(make_png(32, 32, extra=extra * (png.MAX_CHUNKS - 2)), make_item()) == "too_many_parts"


def test_scans_are_bounded(make_item: Item, make_picture: Picture, save: Save) -> None:
    """Each scan of a progressive JPEG walks the whole image, and a scan may be a few bytes long."""
    data = save(make_picture("L"), "jpeg", progressive=True)
    segments = list(jpeg._walk_segments(data))
    scans = [data[start:end] for kind, start, end in segments if kind == 0xDA]
    body = data[: segments[-1][2]]
    room = jpeg.MAX_SCANS - len(scans)
    assert read_image(body + scans[0] * room + b"\xff\xd9", make_item()).shape == (24, 24, 3)
    assert refusal(body + scans[0] * (room + 1) + b"\xff\xd9", make_item()) == "too_many_parts"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xff\xd8" + b"\xff\xfe\0\x02" * 200_000, id="jpeg comments"),
        pytest.param(b"GIF89a\x08\0\x08\0\0\0\0" + b"!\xfe" + b"\x01a" * (gif.MAX_BLOCKS + 1), id="gif comment"),
        pytest.param(b"GIF89a\x08\0\x08\0\0\0\0" + b"!\xff\0" * (gif.MAX_BLOCKS + 1), id="gif extensions"),
        pytest.param(b"RIFF\x16\x40\x01\0WEBPVP8X\x0a\0\0\0" + bytes(10) + b"XXXX\0\0\0\0" * 10_240, id="webp chunks"),
        pytest.param(b"II*\0\x08\0\0\0\xff\xff" + bytes(12 * 65_535 + 4), id="tiff tags"),
    ],
)
def test_small_parts_without_end_are_refused(make_item: Item, data: bytes) -> None:
    assert refusal(data, make_item()) == "too_many_parts"


def test_compressed_text_and_profiles_are_never_inflated(make_item: Item, make_png: Bytes, chunk: Bytes) -> None:
    bomb = zlib.compress(b"A" * 20_000_000)
    extra = chunk(b"zTXt", b"k\0\0" + bomb) + chunk(b"iCCP", b"k\0\0" + bomb)
    assert read_image(make_png(32, 32, extra=extra), make_item()).shape == (24, 24, 3)


@pytest.mark.parametrize("size", [(16, 8192), (8192, 16), (1, 8192)], ids=str)
def test_extreme_shapes_are_resized_without_the_part_that_is_cut_off(
    make_item: Item, make_picture: Picture, save: Save, size: tuple[int, int]
) -> None:
    resize = Resize(64, 56)
    picture = make_picture(size=size)
    pixels = read_image(save(picture, "png"), make_item(resize=resize))
    assert difference(pixels, resize_then_crop(picture, resize)) <= 1


# --- damage


@pytest.mark.parametrize("image_format", IMAGE_FORMATS)
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated_images_are_refused_even_if_pillow_is_told_to_accept_them(
    make_item: Item,
    make_picture: Picture,
    save: Save,
    monkeypatch: pytest.MonkeyPatch,
    image_format: str,
    share: float,
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    data = save(make_picture(), image_format)
    assert refusal(data[: int(len(data) * share)], make_item()) == "broken_image"


def test_missing_rows_are_refused_even_if_pillow_is_told_to_accept_them(
    make_item: Item, make_png: Bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    assert refusal(make_png(64, 48, rows=47), make_item()) == "broken_image"


@pytest.mark.parametrize("size", [(0, 48), (64, 0), (0, 0)], ids=str)
def test_sides_of_zero_are_refused(make_item: Item, make_png: Bytes, size: tuple[int, int]) -> None:
    assert refusal(make_png(*size), make_item()) == "broken_image"


@pytest.mark.parametrize("kind", [b"IHDR", b"ABCD", b"IEND"], ids=bytes.decode)
def test_chunks_out_of_place_are_refused(make_item: Item, make_png: Bytes, chunk: Bytes, kind: bytes) -> None:
    extra = chunk(kind, struct.pack(">LLBBBBB", 9, 9, 8, 2, 0, 0, 0))
    assert refusal(make_png(32, 32, extra=extra), make_item()) in ("broken_image", "trailing_bytes")


def test_bytes_after_a_png_are_refused(make_item: Item, make_png: Bytes) -> None:
    assert refusal(make_png(32, 32) + b"\0", make_item()) == "trailing_bytes"


@pytest.mark.parametrize("image_format", ["jpeg", "gif", "webp"])
def test_bytes_after_other_images_are_cut_off(
    make_item: Item, make_picture: Picture, save: Save, image_format: str
) -> None:
    data = save(make_picture(), image_format)
    assert difference(read_image(data + b"<script>", make_item()), read_image(data, make_item())) == 0


@pytest.mark.parametrize(
    ("mode", "image_format", "options"),
    [
        pytest.param("F", "tiff", {}, id="floating point"),
        pytest.param("I", "tiff", {}, id="32 bits"),
        pytest.param("RGB", "tiff", {"compression": "jpeg"}, id="JPEG inside TIFF"),
        pytest.param("1", "tiff", {"compression": "group4"}, id="fax inside TIFF"),
    ],
)
def test_rare_ways_to_store_pixels_are_refused(
    make_item: Item, make_picture: Picture, save: Save, mode: str, image_format: str, options: dict[str, Any]
) -> None:
    picture = make_picture("L").convert(mode) if mode in "FI" else make_picture(mode)
    assert refusal(save(picture, image_format, **options), make_item()) == "pixel_format"


def test_run_length_bitmaps_are_refused(make_item: Item, make_picture: Picture, save: Save) -> None:
    data = bytearray(save(make_picture("P"), "bmp"))
    struct.pack_into("<L", data, 30, 1)
    assert refusal(bytes(data), make_item()) == "pixel_format"


# --- colour


@pytest.mark.parametrize("colour", ["rgb", "grey"])
@pytest.mark.parametrize(
    ("mode", "image_format"),
    [
        *[("1", f) for f in ("png", "bmp", "tiff")],
        *[("L", f) for f in ("jpeg", "png", "gif", "bmp", "tiff")],
        *[("P", f) for f in ("png", "gif", "bmp", "tiff")],
        *[("LA", "png"), ("RGBA", "png"), ("RGBA", "tiff"), ("RGBA", "bmp"), ("CMYK", "jpeg"), ("CMYK", "tiff")],
    ],
)
def test_colours_are_those_of_a_plain_conversion(
    make_item: Item, make_picture: Picture, save: Save, mode: str, image_format: str, colour: str
) -> None:
    data = save(make_picture(mode), image_format)
    channels = {"rgb": 3, "grey": 1}[colour]
    pixels = read_image(data, make_item(exact=(48, 64, channels), colour=colour))
    with Image.open(io.BytesIO(data)) as opened:
        expected = np.asarray(opened.convert({"rgb": "RGB", "grey": "L"}[colour])).reshape(48, 64, channels)
    assert difference(pixels, expected) == 0


@pytest.mark.parametrize("transparency", [3, bytes(range(0, 256, 2))], ids=["one colour", "many colours"])
def test_transparency_is_dropped(make_item: Item, make_picture: Picture, save: Save, transparency: Any) -> None:
    picture = make_picture("P")
    pixels = read_image(save(picture, "png", transparency=transparency), make_item(exact=(48, 64, 3)))
    assert difference(pixels, picture.convert("RGB")) == 0


@pytest.mark.parametrize("image_format", ["png", "tiff"])
def test_grey_of_16_bits_is_scaled_and_not_clipped(make_item: Item, save: Save, image_format: str) -> None:
    values = np.linspace(0, 65_535, 48 * 64).astype(np.uint16).reshape(48, 64)
    data = save(Image.fromarray(values), image_format)
    pixels = read_image(data, make_item(exact=(48, 64, 1), colour="grey"))
    assert difference(pixels[:, :, 0], values >> 8) == 0
    assert (pixels.min(), pixels.max()) == (0, 255)


def test_a_progressive_jpeg_has_the_same_pixels_as_a_plain_one(
    make_item: Item, make_picture: Picture, save: Save
) -> None:
    plain, progressive = (save(make_picture(), "jpeg", progressive=flag) for flag in (False, True))
    item = make_item(exact=(48, 64, 3))
    assert difference(read_image(plain, item), read_image(progressive, item)) == 0


# --- orientation and shape


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["jpeg", "png", "webp", "tiff"])
def test_exif_orientation_is_applied(
    make_item: Item, make_picture: Picture, save: Save, image_format: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = LOSSLESS.get(image_format, {})
    data = save(make_picture(size=(64, 49)), image_format, exif=exif, **options)
    with Image.open(io.BytesIO(data)) as opened:
        expected = ImageOps.exif_transpose(opened).convert("RGB")

    pixels = read_image(data, make_item(exact=(expected.height, expected.width, 3)))
    assert difference(pixels, expected) == 0
    if orientation >= 5:
        assert refusal(data, make_item(exact=(49, 64, 3))) == "wrong_shape"

    resize = Resize(40, 31)
    assert difference(read_image(data, make_item(resize=resize)), resize_then_crop(expected, resize)) <= 2


@pytest.mark.parametrize(
    "exif",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"Exif\0\0", id="only the mark"),
        pytest.param(b"II*\0\xff\xff\xff\xff", id="points outside"),
        pytest.param(b"II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\x02\0" * 10, id="not a number"),
        pytest.param(b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x09\0\0\0", id="value out of range"),
        pytest.param(b"II*\0\0\0\0\0" * 30_000, id="larger than a JPEG can hold"),
    ],
)
def test_damaged_exif_means_upright(make_item: Item, make_png: Bytes, chunk: Bytes, exif: bytes) -> None:
    assert read_image(make_png(64, 48, extra=chunk(b"eXIf", exif)), make_item(exact=(48, 64, 3))).shape == (48, 64, 3)


@pytest.mark.parametrize("size", [(64, 48), (301, 400), (400, 301), (17, 1601)], ids=str)
@pytest.mark.parametrize("resize", [Resize(40, 31), Resize(41, 32), Resize(33, 33), Resize(1, 1)], ids=str)
def test_resizing_equals_resize_then_crop(
    make_item: Item, make_picture: Picture, save: Save, size: tuple[int, int], resize: Resize
) -> None:
    picture = make_picture(size=size)
    pixels = read_image(save(picture, "png"), make_item(resize=resize))
    assert difference(pixels, resize_then_crop(picture, resize)) <= 1


@pytest.mark.parametrize("size", [(512, 384), (511, 2999), (1000, 700), (65, 64), (63, 64)], ids=str)
def test_scaled_decoding_of_a_jpeg_changes_little(
    make_item: Item, make_picture: Picture, save: Save, size: tuple[int, int]
) -> None:
    resize = Resize(32, 24)
    data = save(make_picture(size=size), "jpeg", quality=95)
    with Image.open(io.BytesIO(data)) as opened:
        expected = resize_then_crop(opened, resize)
    assert difference(read_image(data, make_item(resize=resize)), expected) <= 4


@pytest.mark.parametrize("size", [(15, 16), (16, 17), (17, 24), (8191, 31)], ids=str)
def test_the_smallest_target_is_reached_from_any_size(
    make_item: Item, make_picture: Picture, save: Save, size: tuple[int, int]
) -> None:
    assert read_image(save(make_picture(size=size), "jpeg"), make_item(resize=Resize(1, 1))).shape == (1, 1, 3)


@pytest.mark.parametrize("size", [(64, 48), (301, 40), (512, 384)], ids=str)
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["jpeg", "png"])
def test_stretching_takes_the_whole_picture(
    make_item: Item, make_picture: Picture, save: Save, image_format: str, orientation: int, size: tuple[int, int]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = save(make_picture(size=size), image_format, exif=exif, **({"quality": 95} if image_format == "jpeg" else {}))
    with Image.open(io.BytesIO(data)) as opened:
        upright = ImageOps.exif_transpose(opened).convert("RGB")
    picture = read_picture(data, make_item(resize=Stretch(40, 30)))
    assert picture.source_size == upright.size
    assert picture.pixels.shape == (30, 40, 3)
    assert difference(picture.pixels, upright.resize((40, 30), Image.Resampling.BILINEAR)) <= 6


# --- pixels as nested lists


def test_pixels_as_lists_come_out_as_they_are(make_item: Item) -> None:
    values = np.arange(2 * 3 * 3).reshape(2, 3, 3) * 15
    pixels = check_pixels(values.tolist(), make_item(exact=(2, 3, 3)))
    assert pixels.dtype == np.uint8
    assert (pixels == values).all()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        pytest.param([[[0, 0, 256]]], "value_out_of_range", id="256"),
        pytest.param([[[0, 0, 300]]], "value_out_of_range", id="300"),
        pytest.param([[[0, 0, -1]]], "value_out_of_range", id="negative"),
        pytest.param([[[0, 0, 10**400]]], "value_out_of_range", id="huge"),
        pytest.param([[[0, 0, 1.0]]], "wrong_dtype", id="float"),
        pytest.param([[[0, 0, True]]], "wrong_dtype", id="true"),
        pytest.param([[[0, 0, None]]], "wrong_dtype", id="null"),
        pytest.param([[[0, 0, [1]]]], "wrong_dtype", id="too deep"),
        pytest.param([[[0, 0]]], "wrong_shape", id="two channels"),
        pytest.param([[[0, 0, 0]], [[0, 0, 0]]], "wrong_shape", id="too high"),
        pytest.param([[0, 0, 0]], "wrong_shape", id="not deep enough"),
    ],
)
def test_pixels_that_are_not_bytes_of_the_right_shape_are_refused(make_item: Item, value: Any, reason: str) -> None:
    with pytest.raises(Refused) as caught:
        check_pixels(value, make_item(exact=(1, 1, 3)))
    assert caught.value.reason == reason


# --- what a refusal tells


def test_detail_is_bounded_and_escaped() -> None:
    detail = broken_image("\n\x1b[31m\u202e" + "x" * 1_000).detail
    assert detail.isprintable()
    assert detail.isascii()
    assert len(detail) == MAX_DETAIL_CHARACTERS


def test_the_public_message_names_no_library_and_no_exception(make_item: Item, make_png: Bytes) -> None:
    with pytest.raises(Refused) as caught:
        read_image(make_png(64, 48, rows=1), make_item())
    assert caught.value.public() == {"reason": "broken_image", "message": "The image is damaged or incomplete."}
    assert "OSError" in caught.value.detail
