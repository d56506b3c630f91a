"""Pictures for the agreement: photographs from scikit-learn's and scikit-image's wheels in, files as clients send out.

Every picture is a part of one photograph, and its class says of which one and of which quarter: neighbouring parts of
two quarters look alike, so a model that tells them apart is often in doubt. Sizes go from tiny to 12 megapixels. What
is enlarged has no detail of its own, which would flatter a decoder that leaves detail out: large pictures get grain,
as a sensor adds it, or are laid with mirrored tiles of the photograph in its own resolution.
"""

import importlib.metadata
import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SKLEARN = ("china.jpg", "flower.jpg")
SKIMAGE = (
    *("astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "clock_motion.png", "coffee.png"),
    *("coins.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png", "motorcycle_left.png"),
    *("page.png", "retina.jpg", "rocket.jpg", "text.png"),
)
QUARTERS = 4
CLASSES = QUARTERS * (len(SKLEARN) + len(SKIMAGE))
BIG_SIDE = 4032  # with the proportions of 3 to 2: 10.8 megapixels; with 4 to 3: 12.2
GRAIN_LEVELS = 6.0
ORIENTATION_TAG = 0x0112

Encode = Callable[[Image.Image, np.random.Generator], bytes]


@dataclass(frozen=True)
class Picture:
    """One file with its class; `kind` is its row in the table."""

    kind: str
    data: bytes
    size: tuple[int, int]
    label: int


@dataclass(frozen=True)
class Kind:
    """One way in which clients store pictures: how many there are, their longer side in pixels, and the file."""

    name: str
    count: int
    sides: tuple[int, int]
    encode: Encode
    grain: bool = False
    tiled: bool = False
    upright: bool = True


def list_photographs() -> list[Image.Image]:
    """Read the photographs, in RGB."""
    sklearn, skimage = _find("scikit-learn", "sklearn/datasets/images"), _find("scikit-image", "skimage/data")
    paths = [*(sklearn / name for name in SKLEARN), *(skimage / name for name in SKIMAGE)]
    return [Image.open(path).convert("RGB") for path in paths]


def cut_part(photographs: list[Image.Image], random: np.random.Generator) -> tuple[Image.Image, int]:
    """Return a part of a photograph, turned a little or by a right angle, and its class."""
    number = int(random.integers(len(photographs)))
    photograph = photographs[number]
    short = min(photograph.size)
    high = short * random.uniform(0.35, 0.6)
    wide = high * random.uniform(0.75, 1.5)
    x = random.uniform(wide / 2, photograph.width - wide / 2)
    y = random.uniform(high / 2, photograph.height - high / 2)
    angle = float(random.choice([0.0, random.uniform(-12, 12)]))
    reach = math.ceil(math.hypot(wide, high) / 2) + 1
    around = photograph.crop((round(x) - reach, round(y) - reach, round(x) + reach, round(y) + reach))
    turned = around.rotate(angle, Image.Resampling.BICUBIC) if angle else around
    left, top = reach - round(wide / 2), reach - round(high / 2)
    part = turned.crop((left, top, left + round(wide), top + round(high)))
    if random.random() < 0.15:
        part = part.transpose(random.choice([Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270]))
    quarter = int(x > photograph.width / 2) + 2 * int(y > photograph.height / 2)
    return part, number * QUARTERS + quarter


def make_pictures(kind: Kind, seed: int, share: float = 1.0) -> Iterator[Picture]:
    """Make the pictures of one kind, or a share of them."""
    photographs = list_photographs()
    random = np.random.default_rng([seed, KINDS.index(kind)])
    for _ in range(max(2, round(kind.count * share))):
        part, label = cut_part(photographs, random)
        part = _bring_to_size(part, kind, random)
        yield Picture(kind.name, kind.encode(part, random), part.size, label)


def _bring_to_size(part: Image.Image, kind: Kind, random: np.random.Generator) -> Image.Image:
    low, high = kind.sides
    side = round(float(np.exp(random.uniform(np.log(low), np.log(high)))))
    scale = side / max(part.size)
    size = (max(8, round(part.width * scale)), max(8, round(part.height * scale)))
    part = _lay_tiles(part, size) if kind.tiled else part.resize(size, Image.Resampling.BICUBIC)
    return _add_grain(part, random) if kind.grain else part


def _lay_tiles(part: Image.Image, size: tuple[int, int]) -> Image.Image:
    pixels = np.asarray(part)
    pair = np.concatenate([pixels, pixels[:, ::-1]], axis=1)
    four = np.concatenate([pair, pair[::-1]])
    times = (-(-size[1] // four.shape[0]), -(-size[0] // four.shape[1]), 1)
    return Image.fromarray(np.ascontiguousarray(np.tile(four, times)[: size[1], : size[0]]))


def _add_grain(part: Image.Image, random: np.random.Generator) -> Image.Image:
    pixels = np.asarray(part, np.float32)
    pixels = pixels + GRAIN_LEVELS * random.standard_normal(pixels.shape, np.float32)
    return Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8))


def _jpeg(low: int, high: int, mode: str = "RGB", **options: Any) -> Encode:
    def encode(part: Image.Image, random: np.random.Generator) -> bytes:
        quality = int(random.integers(low, high + 1))
        return _save(part.convert(mode), "JPEG", quality=quality, **options)

    return encode


def _other(file_format: str, mode: str = "RGB", **options: Any) -> Encode:
    return lambda part, _: _save(part.convert(mode), file_format, **options)


def _palette(file_format: str) -> Encode:
    return lambda part, _: _save(part.quantize(200), file_format)


def _alpha(part: Image.Image, random: np.random.Generator) -> bytes:
    levels = np.linspace(0, 255, part.width) * random.uniform(0.3, 1)
    layer = np.broadcast_to(levels.astype(np.uint8), (part.height, part.width))
    part.putalpha(Image.fromarray(np.ascontiguousarray(layer)))
    return _save(part, "PNG")


def _oriented(part: Image.Image, random: np.random.Generator) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = int(random.integers(2, 9))
    return _save(part, "JPEG", quality=90, exif=exif)


def _save(part: Image.Image, file_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    part.save(file, file_format, **options)
    return file.getvalue()


def _find(distribution: str, folder: str) -> Path:
    return Path(str(importlib.metadata.distribution(distribution).locate_file(folder)))


KINDS = (
    Kind("JPEG, 300 to 900 pixels", 60, (300, 900), _jpeg(60, 95)),
    Kind("JPEG, quality 15 to 40", 30, (300, 900), _jpeg(15, 40)),
    Kind("JPEG, 24 to 96 pixels", 30, (24, 96), _jpeg(75, 95)),
    Kind("JPEG, 4:4:4", 20, (300, 900), _jpeg(90, 98, subsampling=0)),
    Kind("JPEG, progressive", 20, (300, 900), _jpeg(60, 95, progressive=True)),
    Kind("JPEG, 1 to 4 megapixels, grain", 40, (1300, 2400), _jpeg(75, 95), grain=True),
    Kind("JPEG, 12 megapixels", 10, (BIG_SIDE, BIG_SIDE), _jpeg(85, 95)),
    Kind("JPEG, 12 megapixels, grain", 14, (BIG_SIDE, BIG_SIDE), _jpeg(85, 95), grain=True),
    Kind("JPEG, 12 megapixels, tiles", 14, (BIG_SIDE, BIG_SIDE), _jpeg(85, 95), tiled=True),
    Kind("JPEG, grey", 20, (300, 900), _jpeg(60, 95, "L")),
    Kind("JPEG, CMYK", 12, (300, 900), _jpeg(75, 95, "CMYK")),
    Kind("PNG, 150 to 900 pixels", 40, (150, 900), _other("PNG")),
    Kind("PNG, 16 to 96 pixels", 30, (16, 96), _other("PNG")),
    Kind("PNG, 12 megapixels, tiles", 4, (BIG_SIDE, BIG_SIDE), _other("PNG", compress_level=1), tiled=True),
    Kind("PNG, grey", 20, (150, 900), _other("PNG", "L")),
    Kind("PNG, palette", 20, (150, 900), _palette("PNG")),
    Kind("PNG, alpha", 20, (150, 900), _alpha),
    Kind("WebP", 20, (150, 900), _other("WEBP", quality=85)),
    Kind("BMP", 12, (150, 900), _other("BMP")),
    Kind("TIFF", 12, (150, 900), _other("TIFF")),
    Kind("GIF", 12, (150, 900), _palette("GIF")),
    Kind("JPEG, EXIF-rotated", 24, (300, 900), _oriented, upright=False),
)
