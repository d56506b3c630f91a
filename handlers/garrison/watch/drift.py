"""Tell whether inputs have moved away from a model's profile: counts enter, an index per feature leaves.

The population stability index compares the shares of a feature's bins among the last inputs with those of the reference
data: the sum of (p - q) ln(p / q) over the bins. With n inputs and b bins of the same distribution it is about
chi-squared with b - 1 degrees of freedom, divided by n: over 200 inputs in eight bins, 0.25 comes by chance less than
once in ten million windows. A shift by more than half a standard deviation is above it. Reference data of m inputs add
chance of their own, as if n were n m / (n + m): with m of 200 and sixteen bins, one window in thirty is above 0.25,
with 1,000 one in thousands.

Nothing is said before there are `MIN_SAMPLES`. A worker that lies about its inputs is believed, for its own model.
"""

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence

from garrison.profile import Profile
from garrison.watch import families
from garrison.watch.series import Series

MIN_SAMPLES = 200
STEP_SAMPLES = 20  # by so many the window moves on
DRIFT_THRESHOLD = 0.25  # what credit scoring calls a significant change; fixed before anything was measured
PRIOR = 0.5  # a count for every bin on both sides, so that an empty one has no infinite weight

Counts = tuple[float, ...]


class Drift:
    """One model's inputs against its profile, each feature over a window of its own: some inputs lack some features."""

    def __init__(self, model: str, profile: Profile) -> None:
        self._model, self._profile = model, profile
        self._features = [reference.feature for reference in profile.references.values()]
        self._series = [
            [(families.INPUTS.name, (model, one.name, str(number))) for number in range(one.bins)]
            for one in self._features
        ]
        self._windows = [_Window(feature.bins) for feature in self._features]
        self._now: tuple[Counts, ...] | None = None
        self._told: dict[Series, float] = {}

    def compare(self, totals: Mapping[Series, float]) -> Mapping[Series, float]:
        """Take in what was counted since the start, and return what can be said of the last inputs."""
        now = tuple(tuple(totals.get(one, 0.0) for one in bins) for bins in self._series)
        if now != self._now:
            self._now, self._told = now, dict(self._compare(now))
        return self._told

    def _compare(self, now: tuple[Counts, ...]) -> Iterator[tuple[Series, float]]:
        windows = [window.move(counts) for window, counts in zip(self._windows, now, strict=True)]
        yield (families.DRIFT_SAMPLES.name, (self._model,)), max(map(sum, windows), default=0.0)
        for feature, window in zip(self._features, windows, strict=True):
            if sum(window) >= MIN_SAMPLES:
                shares = self._profile.references[feature.name].shares
                index = measure_drift(window, [share * self._profile.samples for share in shares])
                yield (families.DRIFT.name, (self._model, feature.name)), index


class _Window:
    """The last counts of one feature, at least `MIN_SAMPLES` once there are so many; it moves on as they come."""

    def __init__(self, bins: int) -> None:
        self._past: deque[tuple[float, Counts]] = deque([(0.0, (0.0,) * bins)])

    def move(self, now: Counts) -> Counts:
        """Take in what was counted since the start, and return what of it is in the window."""
        samples = sum(now)
        while len(self._past) > 1 and samples - self._past[1][0] >= MIN_SAMPLES:
            self._past.popleft()
        before = self._past[0][1]
        if samples - self._past[-1][0] >= STEP_SAMPLES:
            self._past.append((samples, now))
        return tuple(more - less for more, less in zip(now, before, strict=True))


def measure_drift(counts: Sequence[float], reference: Sequence[float]) -> float:
    """Return the population stability index of two counts of the same bins."""
    return sum((p - q) * math.log(p / q) for p, q in zip(_share(counts), _share(reference), strict=True))


def _share(counts: Sequence[float]) -> list[float]:
    total = sum(counts) + PRIOR * len(counts)
    return [(count + PRIOR) / total for count in counts]
