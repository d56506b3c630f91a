"""Counts at two moments enter, what happened between them leaves.

The same for pages and for Prometheus, so that both show the same. A counter that fell was started anew. A series that
was not there before began at zero if others of its target were; if none was, nobody knows what it was.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

Labels = Mapping[str, str]
_Key = tuple[str, str, tuple[tuple[str, str], ...]]
BUCKET = "le"


@dataclass(frozen=True)
class Sample:
    """One value of one series; `target` is where it was counted."""

    name: str
    labels: Labels
    value: float
    target: str = ""


@dataclass(frozen=True)
class Samples:
    """All values of one moment, in seconds since the epoch."""

    time_s: float
    listed: tuple[Sample, ...] = ()
    _values: dict[_Key, float] = field(init=False, repr=False, compare=False)
    _targets: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_values", {_key(one): one.value for one in self.listed})
        object.__setattr__(self, "_targets", frozenset(one.target for one in self.listed))

    def before(self, sample: Sample) -> float | None:
        """Return what a series was at this moment; None where nobody knows."""
        return self._values.get(_key(sample), 0.0 if sample.target in self._targets else None)


class Change:
    """What happened between two moments."""

    def __init__(self, before: Samples, now: Samples) -> None:
        self.seconds = max(now.time_s - before.time_s, 0.001)
        self.time_s = now.time_s
        self._before = before
        self._named: dict[str, list[Sample]] = defaultdict(list)
        for sample in now.listed:
            if math.isfinite(sample.value):
                self._named[sample.name].append(sample)

    def rise(self, name: str, *by: str) -> dict[tuple[str, ...], float]:
        """Return by how much counters rose, added up by these labels."""
        found: dict[tuple[str, ...], float] = defaultdict(float)
        for sample in self._named.get(name, ()):
            before = self._before.before(sample)
            if before is not None:
                found[_pick(sample, by)] += sample.value - (before if before <= sample.value else 0)
        return dict(found)

    def total(self, name: str, *by: str) -> dict[tuple[str, ...], float]:
        """Return what series are now, added up by these labels."""
        found: dict[tuple[str, ...], float] = defaultdict(float)
        for sample in self._named.get(name, ()):
            found[_pick(sample, by)] += sample.value
        return dict(found)

    def most(self, name: str, *by: str) -> dict[tuple[str, ...], float]:
        """Return the largest that series are now, by these labels."""
        found: dict[tuple[str, ...], float] = {}
        for sample in self._named.get(name, ()):
            key = _pick(sample, by)
            found[key] = max(sample.value, found.get(key, -math.inf))
        return found

    def least(self, name: str, *by: str) -> dict[tuple[str, ...], float]:
        """Return the smallest that series are now, by these labels."""
        found: dict[tuple[str, ...], float] = {}
        for sample in self._named.get(name, ()):
            key = _pick(sample, by)
            found[key] = min(sample.value, found.get(key, math.inf))
        return found

    def quantiles(self, name: str, label: str, shares: Sequence[float]) -> dict[str, tuple[float, ...]]:
        """Return quantiles of a histogram's rise, by one label; nothing where nothing was observed."""
        buckets: dict[str, dict[float, float]] = defaultdict(lambda: defaultdict(float))
        for (value, bound), count in self.rise(f"{name}_bucket", label, BUCKET).items():
            buckets[value][_read_bound(bound)] += count
        found = {
            value: tuple(find_quantile(counts.items(), share) for share in shares) for value, counts in buckets.items()
        }
        return {value: quantiles for value, quantiles in found.items() if not any(map(math.isnan, quantiles))}


def find_quantile(buckets: Iterable[tuple[float, float]], share: float) -> float:
    """Return a quantile of cumulative buckets (bound, count), as Prometheus' histogram_quantile does; NaN of none."""
    ordered = sorted(buckets)
    if not ordered or ordered[-1][1] <= 0:
        return math.nan
    rank = share * ordered[-1][1]
    low, below = 0.0, 0.0
    for bound, count in ordered:
        if count >= rank and count > below:
            return low if math.isinf(bound) else low + (bound - low) * (rank - below) / (count - below)
        low, below = bound, max(count, below)
    return low


def _key(sample: Sample) -> _Key:
    return sample.name, sample.target, tuple(sorted(sample.labels.items()))


def _pick(sample: Sample, by: Sequence[str]) -> tuple[str, ...]:
    return tuple(sample.labels.get(label, "") for label in by)


def _read_bound(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
