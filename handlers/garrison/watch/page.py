"""Write counts in Prometheus' text format: series and values enter, a page leaves.

Not with prometheus-client's registry: it takes 10 microseconds a line, and a page has some 10,000 lines where many
models are served.
"""

import functools
import math
from collections.abc import Iterator, Mapping

from garrison.watch.families import FAMILIES, HISTOGRAM, Family
from garrison.watch.series import BUCKET_LABEL, Series, write_bound

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_MOST_KEPT = 2**15  # texts of labels, which are the same at every question; bounded as they are

_Samples = Mapping[tuple[str, ...], float]


def write_page(counts: Mapping[Series, float]) -> bytes:
    """Return a page with all series of known families."""
    by_name: dict[str, dict[tuple[str, ...], float]] = {}
    for (name, values), count in counts.items():
        by_name.setdefault(name, {})[values] = count
    lines: list[str] = []
    for family in FAMILIES:
        samples = list(_write_histogram(family, by_name) if family.kind == HISTOGRAM else _write(family, by_name))
        if samples:
            lines += [f"# HELP {family.name} {family.meaning}", f"# TYPE {family.name} {family.kind}", *samples, ""]
    return "\n".join(lines).encode()


def _write(family: Family, by_name: Mapping[str, _Samples]) -> Iterator[str]:
    for values, count in by_name.get(family.name, {}).items():
        labels = _write_labels(family.labels, values)
        yield f"{family.name}{{{labels}}} {float(count)!r}" if labels else f"{family.name} {float(count)!r}"


def _write_histogram(family: Family, by_name: Mapping[str, _Samples]) -> Iterator[str]:
    """Add up the buckets: in files each holds what is between two bounds, on a page all that is below its own."""
    name, bounds = family.name, [write_bound(bound) for bound in (*family.buckets, math.inf)]
    buckets, sums = by_name.get(f"{name}_bucket", {}), by_name.get(f"{name}_sum", {})
    for values in dict.fromkeys((*sums, *(values[:-1] for values in buckets))):
        labels, total = _write_labels(family.labels, values), 0.0
        for bound in bounds:
            total += buckets.get((*values, bound), 0)
            yield f'{name}_bucket{{{labels},{BUCKET_LABEL}="{bound}"}} {total!r}'
        yield f"{name}_count{{{labels}}} {total!r}"
        yield f"{name}_sum{{{labels}}} {float(sums.get(values, 0))!r}"


@functools.lru_cache(_MOST_KEPT)
def _write_labels(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    return ",".join(f'{name}="{_escape(value)}"' for name, value in zip(names, values, strict=True))


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
