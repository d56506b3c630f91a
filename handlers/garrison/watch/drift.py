"""Tell whether inputs have moved away from a model's profile: counts enter, an index per feature leaves.

The population stability index compares the shares of a feature's bins among the last inputs with those of the reference
data: the sum of (p - q) ln(p / q) over the bins. With n inputs and b bins of the same distribution it is about
chi-squared with b - 1 degrees of freedom, divided by n: over 200 inputs in eight bins, 0.25 comes by chance less than
once in ten million windows. A shift by more than half a standard deviation is above it.

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

Counts = tuple[tuple[float, ...], ...]


class Drift:
    """One model's inputs against its profile, over a window of at least `MIN_SAMPLES` that moves on as they come."""

    def __init__(self, model: str, profile: Profile) -> None:
        self._model, self._profile = model, profile
        self._features = [reference.feature for reference in profile.references.values()]
        self._series = [
            [(families.INPUTS.name, (model, one.name, str(number))) for number in range(one.bins)]
            for one in self._features
        ]
        zero = tuple((0.0,) * feature.bins for feature in self._features)
        self._now: Counts | None = None
        self._told: dict[Series, float] = {}
        self._past: deque[tuple[float, Counts]] = deque([(0.0, zero)])

    def compare(self, totals: Mapping[Series, float]) -> Mapping[Series, float]:
        """Take in what was counted since the start, and return what can be said of the last inputs."""
        now = tuple(tuple(totals.get(one, 0.0) for one in bins) for bins in self._series)
        if now != self._now:
            self._now, self._told = now, dict(self._compare(now))
        return self._told

    def _compare(self, now: Counts) -> Iterator[tuple[Series, float]]:
        samples = max(map(sum, now), default=0.0)
        while len(self._past) > 1 and samples - self._past[1][0] >= MIN_SAMPLES:
            self._past.popleft()
        before, earlier = self._past[0]
        if samples - self._past[-1][0] >= STEP_SAMPLES:
            self._past.append((samples, now))
        yield (families.DRIFT_SAMPLES.name, (self._model,)), samples - before
        for feature, new, old in zip(self._features, now, earlier, strict=True):
            window = [more - less for more, less in zip(new, old, strict=True)]
            if sum(window) >= MIN_SAMPLES:
                shares = self._profile.references[feature.name].shares
                index = measure_drift(window, [share * self._profile.samples for share in shares])
                yield (families.DRIFT.name, (self._model, feature.name)), index


def measure_drift(counts: Sequence[float], reference: Sequence[float]) -> float:
    """Return the population stability index of two counts of the same bins."""
    return sum((p - q) * math.log(p / q) for p, q in zip(_share(counts), _share(reference), strict=True))


def _share(counts: Sequence[float]) -> list[float]:
    total = sum(counts) + PRIOR * len(counts)
    return [(count + PRIOR) / total for count in counts]
