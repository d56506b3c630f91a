"""Ask Prometheus by its HTTP API: an expression enters, series leave.

https://prometheus.io/docs/prometheus/latest/querying/api/
"""

import http
import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from garrison.errors import Undecided
from garrison.watch.seeing.asking import Site, ask
from garrison.watch.seeing.samples import Sample, Samples

_Read = TypeVar("_Read")
_NAME, _TARGET = "__name__", ("job", "instance")


@dataclass(frozen=True)
class Alert:
    """An alert: its state is pending or firing, its severity page or ticket."""

    name: str
    state: str
    severity: str
    summary: str
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Curve:
    """One series over time: (seconds since the epoch, value)."""

    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]


class Prometheus:
    """A Prometheus that scrapes Garrison."""

    def __init__(self, site: Site) -> None:
        self.site = site

    def read(self, names: Collection[str], time_s: float) -> Samples:
        """Return all series of these names at a moment.

        Raises:
            Undecided: Prometheus does not answer, or not as one.
        """
        matched = f'{{{_NAME}=~"{"|".join(sorted(names))}"}}'
        found = self._ask("/api/v1/query", {"query": matched, "time": f"{time_s:.3f}"}, _read_samples)
        return Samples(time_s, found)

    def ask(self, expression: str, time_s: float) -> tuple[Sample, ...]:
        """Return what an expression is at a moment.

        Raises:
            Undecided: Prometheus does not answer, or not as one.
        """
        return self._ask("/api/v1/query", {"query": expression, "time": f"{time_s:.3f}"}, _read_samples)

    def ask_range(self, expression: str, start_s: float, end_s: float, step_s: float) -> tuple[Curve, ...]:
        """Return what an expression was, from `start_s` to `end_s`.

        Raises:
            Undecided: Prometheus does not answer, or not as one.
        """
        query = {"query": expression, "start": f"{start_s:.3f}", "end": f"{end_s:.3f}", "step": f"{step_s:.3f}"}
        return self._ask("/api/v1/query_range", query, _read_curves)

    def list_alerts(self) -> tuple[Alert, ...]:
        """Return the alerts of now.

        Raises:
            Undecided: Prometheus does not answer, or not as one.
        """
        return self._ask("/api/v1/alerts", {}, _read_alerts)

    def _ask(self, path: str, query: dict[str, str], read: Callable[[Any], Iterator[_Read]]) -> tuple[_Read, ...]:
        reply = ask(self.site, path, query)
        try:
            answer = json.loads(reply.body)
            if reply.status != http.HTTPStatus.OK or answer["status"] != "success":
                raise Undecided(f"{self.site}: {answer['error']}")
            return tuple(read(answer["data"]))
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
            raise Undecided(f"{self.site}{path}: does not answer as Prometheus does (status {reply.status})") from error


def _read_samples(data: Any) -> Iterator[Sample]:
    for one in data["result"]:
        yield _read_sample(one["metric"], float(one["value"][1]))


def _read_sample(metric: Mapping[str, str], value: float) -> Sample:
    labels = {str(name): str(text) for name, text in metric.items()}
    target = " ".join(labels.pop(name, "") for name in _TARGET)
    return Sample(labels.pop(_NAME, ""), labels, value, target)


def _read_curves(data: Any) -> Iterator[Curve]:
    for one in data["result"]:
        points = tuple((float(time_s), float(value)) for time_s, value in one["values"])
        yield Curve({str(k): str(v) for k, v in one["metric"].items()}, tuple(p for p in points if math.isfinite(p[1])))


def _read_alerts(data: Any) -> Iterator[Alert]:
    for one in data["alerts"]:
        labels = {str(name): str(text) for name, text in one["labels"].items()}
        summary = str(one.get("annotations", {}).get("summary", ""))
        name, severity = labels.pop("alertname", ""), labels.pop("severity", "")
        yield Alert(name, str(one["state"]), severity, summary, labels)
