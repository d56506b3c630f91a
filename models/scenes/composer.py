"""Compose scenes out of scikit-learn's digits: a split of digits in, pictures with boxes and masks out.

Shared by the samples `scenes` and `scene_masks`. The digits of a training scene are those that trained the sample
`digits`; those of a test scene no network has seen.
"""

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.digits.train import Pixels, Split, Variant

BICUBIC, BILINEAR = Image.Resampling.BICUBIC, Image.Resampling.BILINEAR
INK_LEVEL = 64  # from this level on, of 255, a pixel of a digit belongs to it
PLACING_ATTEMPTS = 20
JPEG_QUALITY = 90

# How a client may store a scene; the first one is the headline. Sides are relative to that of the scene.
VARIANTS = ("png-1", "jpeg-1", "png-2", "jpeg-3")


@dataclass(frozen=True)
class Recipe:
    """What scenes look like: a square of `side_pixels` with 1 to `most_digits` digits of a share of that side."""

    side_pixels: int
    most_digits: int
    smallest_share: float
    largest_share: float


@dataclass(frozen=True)
class Scene:
    """One picture, bright digits on dark.

    `boxes` (digits, 4) float32: left, top, right, bottom in pixels, tight around the ink. `digits` (digits,) int64.
    `mask` (side, side) int64: 0 for the background, otherwise the digit plus one.
    """

    picture: Pixels
    boxes: npt.NDArray[np.float32]
    digits: npt.NDArray[np.int64]
    mask: npt.NDArray[np.int64]


def compose_scene(split: Split, recipe: Recipe, random: np.random.Generator) -> Scene:
    """Put digits onto a dark background with a gradient and noise; they do not overlap."""
    side = recipe.side_pixels
    canvas = _draw_background(side, random)
    mask = np.zeros((side, side), np.int64)
    squares: list[tuple[int, int, int]] = []
    boxes, digits = [], []
    for _ in range(random.integers(1, recipe.most_digits + 1)):
        square = _find_place(squares, recipe, random)
        if square is None:
            continue
        squares.append(square)
        chosen = int(random.integers(len(split.digits)))
        patch = _scale(split.images[chosen], square[2], random)
        boxes.append(_paste(canvas, mask, patch, square, int(split.digits[chosen])))
        digits.append(split.digits[chosen])
    picture = np.clip(np.rint(canvas), 0, 255).astype(np.uint8)
    return Scene(picture, np.array(boxes, np.float32), np.array(digits, np.int64), mask)


def _draw_background(side: int, random: np.random.Generator) -> npt.NDArray[np.float64]:
    level, rise, fall = random.uniform(0, 30), random.uniform(-20, 20), random.uniform(-20, 20)
    ramp = np.linspace(-0.5, 0.5, side)
    noise = random.normal(0, random.uniform(0, 6), (side, side))
    return level + rise * ramp[None, :] + fall * ramp[:, None] + noise


def _find_place(
    taken: list[tuple[int, int, int]], recipe: Recipe, random: np.random.Generator
) -> tuple[int, int, int] | None:
    """Return left, top and side of a square that overlaps none of those taken, or None if there is no room."""
    for _ in range(PLACING_ATTEMPTS):
        size = round(recipe.side_pixels * random.uniform(recipe.smallest_share, recipe.largest_share))
        left, top = (int(place) for place in random.integers(0, recipe.side_pixels - size + 1, 2))
        if all(left >= x + s or x >= left + size or top >= y + s or y >= top + size for x, y, s in taken):
            return left, top, size
    return None


def _scale(digit: Pixels, side: int, random: np.random.Generator) -> Pixels:
    """Enlarge one digit and dim it by up to 30 %."""
    enlarged = Image.fromarray(digit).resize((side, side), (BILINEAR, BICUBIC)[random.integers(2)])
    dimmed: Pixels = np.rint(np.asarray(enlarged) * random.uniform(0.7, 1.0)).astype(np.uint8)
    return dimmed


def _paste(
    canvas: npt.NDArray[np.float64],
    mask: npt.NDArray[np.int64],
    patch: Pixels,
    square: tuple[int, int, int],
    digit: int,
) -> tuple[int, int, int, int]:
    left, top, side = square
    place = (slice(top, top + side), slice(left, left + side))
    canvas[place] = np.maximum(canvas[place], patch)
    ink = patch >= INK_LEVEL
    mask[place][ink] = digit + 1
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    return (left + int(columns[0]), top + int(rows[0]), left + int(columns[-1]) + 1, top + int(rows[-1]) + 1)


def compose_scenes(split: Split, recipe: Recipe, count: int, seed: int) -> list[Scene]:
    """Return `count` scenes, always the same for the same seed."""
    random = np.random.default_rng(seed)
    return [compose_scene(split, recipe, random) for _ in range(count)]


def parse_variant(name: str, recipe: Recipe) -> Variant:
    """Turn a name such as `jpeg-3` (JPEG, three times the scene's side) into a variant."""
    file_format, factor = name.split("-")
    return Variant(recipe.side_pixels * int(factor), BICUBIC, file_format.upper())


def draw_variant(recipe: Recipe, random: np.random.Generator) -> Variant:
    """Choose how a training scene is stored: six of ten as PNG, half of them at their own size, others larger."""
    factor = 1.0 if random.random() < 0.5 else float(random.uniform(1, 3))
    kernel = (BILINEAR, BICUBIC)[random.integers(2)]
    return Variant(round(recipe.side_pixels * factor), kernel, "JPEG" if random.random() < 0.4 else "PNG")


def store_picture(picture: Pixels, variant: Variant) -> bytes:
    """Enlarge a scene's picture and store it as the file that a client would send."""
    image = Image.fromarray(picture)
    if variant.side_pixels != image.width:
        image = image.resize((variant.side_pixels,) * 2, variant.filter)
    buffer = io.BytesIO()
    if variant.format == "JPEG":
        image.save(buffer, "JPEG", quality=JPEG_QUALITY)
    else:
        image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
