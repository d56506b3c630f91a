"""Measure a tensor: mean, spread, range and zeros of about a thousand of its values."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

VALUES = 1024


class TensorMeasure:
    """Measure tensors of any dtype of a contract."""

    def __call__(self, tensor: NDArray[Any], _: tuple[int, int] | None = None) -> Sequence[float | None]:
        """Return the features of a tensor that is not empty."""
        values = sample_values(tensor)
        low, high = float(values.min()), float(values.max())
        zeros = 1 - np.count_nonzero(values) / values.size
        return (_average(values), _spread(values, low, high), low, high, zeros, float(tensor.size))


def sample_values(tensor: NDArray[Any]) -> NDArray[np.float64]:
    """Return about `VALUES` values in even steps; infinities and what is no number are left out."""
    flat = tensor.reshape(-1)
    values = flat[:: max(1, -(-flat.size // VALUES))].astype(np.float64)
    finite = np.isfinite(values)
    return values if finite.all() else values[finite]


def _average(values: NDArray[np.float64]) -> float:
    with np.errstate(over="ignore"):
        mean = float(values.mean())
    return mean if math.isfinite(mean) else 0.0


def _spread(values: NDArray[np.float64], low: float, high: float) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        spread = float(values.std())
    return spread if math.isfinite(spread) else high / 2 - low / 2
