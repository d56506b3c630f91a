"""Compare two systems by pairs of measurements, taken right after one another: pairs enter, an interval leaves.

What else the machine does changes from minute to minute and meets both of a pair alike; it does not meet their ratio.
The interval is a percentile bootstrap: nothing is assumed about how measurements scatter.
"""

import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

RESAMPLES = 10_000
CONFIDENCE = 0.95
Side = TypeVar("Side")


@dataclass(frozen=True)
class Interval:
    """A mean and the bounds that hold it with `CONFIDENCE`."""

    mean: float
    low: float
    high: float

    def rounded(self, digits: int) -> dict[str, float]:
        """Return it for a result file."""
        return {name: round(value, digits) for name, value in vars(self).items()}


def mean_ratio(pairs: Sequence[tuple[float, float]], seed: int) -> Interval:
    """Return the geometric mean of second by first."""
    found = _bootstrap([math.log(second / first) for first, second in pairs], seed)
    return Interval(math.exp(found.mean), math.exp(found.low), math.exp(found.high))


def mean_difference(pairs: Sequence[tuple[float, float]], seed: int) -> Interval:
    """Return the mean of second less first."""
    return _bootstrap([second - first for first, second in pairs], seed)


def in_turn(sides: tuple[Side, Side], number: int) -> tuple[Side, Side]:
    """Return both sides, each first as often as the other."""
    return sides if number % 2 == 0 else (sides[1], sides[0])


def _bootstrap(values: Sequence[float], seed: int, mean: Callable[..., float] = statistics.fmean) -> Interval:
    chosen = random.Random(seed)  # noqa: S311 - repeatable, not secret
    means = sorted(mean(chosen.choices(values, k=len(values))) for _ in range(RESAMPLES))
    cut = int((1 - CONFIDENCE) / 2 * RESAMPLES)
    return Interval(mean(values), means[cut], means[-1 - cut])
