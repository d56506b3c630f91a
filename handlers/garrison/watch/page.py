"""Write counts in Prometheus' text format: series and values enter, a page leaves."""

import math
from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric

from garrison.watch.counts import BUCKET_LABEL, Series, write_bound
from garrison.watch.families import COUNTER, FAMILIES, HISTOGRAM, Family

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def write_page(counts: Mapping[Series, float]) -> bytes:
    """Return a page with all series of known families."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(counts))
    return generate_latest(registry)


class _Collected:
    def __init__(self, counts: Mapping[Series, float]) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        by_name: dict[str, dict[tuple[str, ...], float]] = {}
        for (name, values), count in sorted(self._counts.items()):
            by_name.setdefault(name, {})[values] = count
        for family in FAMILIES:
            metric = Metric(family.name.removesuffix("_total" * (family.kind == COUNTER)), family.meaning, family.kind)
            for name, labels, value in _samples(family, by_name):
                metric.add_sample(name, labels, value)
            if metric.samples:
                yield metric


def _samples(
    family: Family, by_name: Mapping[str, Mapping[tuple[str, ...], float]]
) -> Iterator[tuple[str, dict[str, str], float]]:
    if family.kind == HISTOGRAM:
        yield from _write_histogram(family, by_name)
        return
    for values, count in by_name.get(family.name, {}).items():
        yield family.name, dict(zip(family.labels, values, strict=True)), count


def _write_histogram(
    family: Family, by_name: Mapping[str, Mapping[tuple[str, ...], float]]
) -> Iterator[tuple[str, dict[str, str], float]]:
    """Add up the buckets: in files each holds what is between two bounds, on a page all that is below its own."""
    buckets, sums = by_name.get(f"{family.name}_bucket", {}), by_name.get(f"{family.name}_sum", {})
    for values in sorted({*sums, *(values[:-1] for values in buckets)}):
        labels = dict(zip(family.labels, values, strict=True))
        total = 0.0
        for bound in (*family.buckets, math.inf):
            written = write_bound(bound)
            total += buckets.get((*values, written), 0)
            yield f"{family.name}_bucket", {**labels, BUCKET_LABEL: written}, total
        yield f"{family.name}_count", labels, total
        yield f"{family.name}_sum", labels, sums.get(values, 0)
