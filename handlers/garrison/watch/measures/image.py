"""Measure a picture: its pixels as the model sees them and its size as sent enter, the image features leave.

About 32 by 32 pixels are looked at, each with its neighbours to the right and below. Edges across and along tell
sharpness, and by their directions (the structure tensor) how a picture is turned; where its brightness lies tells of
rotation, mirroring and cropping.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from garrison.contract import ImageInput

SIDE = 32
LEVELS = 16
NEAR = 0.9  # of a limit
BRIGHTEST = 255.0
Pixels = NDArray[np.uint8]
Numbers = NDArray[np.float32]

_MOST = SIDE * SIDE * 4
_INFORMATION = np.concatenate([np.zeros(1), np.arange(1, _MOST + 1) * np.log2(np.arange(1, _MOST + 1))])


class ImageMeasure:
    """Measure pictures of one input."""

    def __init__(self, image: ImageInput) -> None:
        self._image = image
        height, width, channels = image.shape
        self._step = max(1, -(-max(height, width) // SIDE))
        self._colour = channels > 1
        self._flat = min(height, width) < 2  # no neighbours

    def __call__(self, pixels: Pixels, size: tuple[int, int] | None) -> Sequence[float | str | None]:
        """Return the features of uint8 (height, width, channels), sent with a width and height."""
        width, height = size or (pixels.shape[1], pixels.shape[0])
        shown = [None] * 11 if self._flat else self._measure(pixels)
        colour = [_measure_colour(pixels[:: self._step, :: self._step])] if self._colour else []
        return [float(width), float(height), *shown, self._name_extent(width, height), *colour]

    def _measure(self, pixels: Pixels) -> Sequence[float]:
        step = self._step
        levels = _grey(pixels[:-1:step, :-1:step])
        here = levels.astype(np.float32)
        across = (_grey(pixels[:-1:step, 1::step]) - here).ravel()
        along = (_grey(pixels[1::step, :-1:step]) - here).ravel()
        count, flat = here.size, here.ravel()
        columns, rows = here.sum(axis=0), here.sum(axis=1)
        total = float(rows.sum())
        mean = total / count
        deviation = math.sqrt(max(0.0, float(flat @ flat) / count - mean * mean))
        xx, yy, xy = float(across @ across), float(along @ along), float(across @ along)
        edges, light = xx + yy or 1.0, total or 1.0
        places_x, places_y = _places(len(columns)), _places(len(rows))
        return (
            mean / BRIGHTEST,
            deviation / BRIGHTEST,
            _measure_entropy(levels, count),
            math.sqrt(xx / count) / BRIGHTEST,
            math.sqrt(yy / count) / BRIGHTEST,
            (xx - yy) / edges,
            2 * xy / edges,
            float(columns @ places_x[0]) / light,
            float(rows @ places_y[0]) / light,
            float(columns @ places_x[1]) / light,
            float(rows @ places_y[1]) / light,
        )

    def _name_extent(self, width: int, height: int) -> str:
        image = self._image
        if max(width, height) >= NEAR * image.max_side_pixels or width * height >= NEAR * image.max_pixels:
            return "near_limit"
        return "tiny" if min(width, height) * NEAR <= image.min_side_pixels else "ordinary"


def _grey(pixels: Pixels) -> NDArray[Any]:
    """Return (height, width), 0 to 255: red, twice green and blue in equal parts."""
    if pixels.shape[2] == 1:
        return pixels[:, :, 0]
    wide = pixels.astype(np.uint16)
    return ((wide[:, :, 0] + 2 * wide[:, :, 1] + wide[:, :, 2]) >> 2).astype(np.uint8)


def _measure_entropy(levels: NDArray[Any], count: int) -> float:
    """Return the entropy of sixteen levels of grey, in bits."""
    counts = np.bincount((levels >> 4).ravel(), minlength=LEVELS)
    return math.log2(count) - float(_INFORMATION[counts].sum()) / count


def _measure_colour(pixels: Pixels) -> float:
    """Return the colourfulness by Hasler and Suesstrunk (2003), 0 for grey, 0.4 for vivid."""
    colours = pixels.astype(np.float32)
    red_green = colours[:, :, 0] - colours[:, :, 1]
    yellow_blue = (colours[:, :, 0] + colours[:, :, 1]) / 2 - colours[:, :, 2]
    spread = math.sqrt(float(red_green.var()) + float(yellow_blue.var()))
    away = math.hypot(float(red_green.mean()), float(yellow_blue.mean()))
    return (spread + 0.3 * away) / BRIGHTEST


@lru_cache(maxsize=64)
def _places(count: int) -> tuple[Numbers, Numbers]:
    """Return places from -1 to 1, and their squares."""
    places = np.linspace(-1, 1, count, dtype=np.float32)
    return places, places * places
