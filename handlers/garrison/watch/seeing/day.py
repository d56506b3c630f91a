"""What happened in the last hours: questions to Prometheus enter, the facts and curves of a report leave."""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from garrison.errors import Undecided
from garrison.watch.families import OWN_WORDS
from garrison.watch.seeing.prometheus import Curve, Prometheus
from garrison.watch.seeing.samples import Sample
from garrison.watch.seeing.state import (
    CLIENT_RESPONSES,
    DRIFT,
    EVENTS,
    HELD,
    REFUSALS,
    RESPONSES,
    SECONDS,
    SHARES,
    UNSAFE,
)

POINTS = 144  # of each curve: ten minutes apart in a day
SHORTEST_STEP_S = 15


@dataclass(frozen=True)
class Counts:
    """Answers of one model or one client, and its seconds at 50, 95 and 99 %."""

    name: str
    requests: float
    refused: float
    failed: float
    latency_s: tuple[float, ...] = ()


@dataclass(frozen=True)
class Fired:
    """An alert that fired: first and last seen, in seconds since the epoch, and for how long in all."""

    name: str
    severity: str
    first_s: float
    last_s: float
    seconds: float


@dataclass(frozen=True)
class Drift:
    """How far one feature of a model's inputs went from its profile, at most and at the end."""

    model: str
    feature: str
    most: float
    last: float


@dataclass(frozen=True)
class Day:
    """Everything that a report shows; curves by their question, each with its label's value."""

    start_s: float
    end_s: float
    step_s: float
    models: tuple[Counts, ...]
    clients: tuple[Counts, ...]
    refusals: tuple[tuple[str, str, float], ...]
    events: Mapping[str, float]
    alerts: tuple[Fired, ...]
    drifts: tuple[Drift, ...]
    not_held: tuple[str, ...]
    unsafe: tuple[str, ...]
    curves: Mapping[str, Mapping[str, tuple[tuple[float, float], ...]]]

    @property
    def total(self) -> Counts:
        """The answers to everybody."""
        sums = [sum(getattr(one, part) for one in self.models) for part in ("requests", "refused", "failed")]
        return Counts("", *sums)


def look_back(prometheus: Prometheus, end_s: float, hours: float) -> Day:
    """Ask for everything.

    Raises:
        Undecided: Prometheus does not answer, or has nothing of Garrison's from that time.
    """
    asked = _Asked(prometheus, end_s, hours * 3600)
    models = asked.count(RESPONSES, "model", f"{SECONDS}_bucket")
    if not models:
        raise Undecided(f"Prometheus at {prometheus.site} counted no request to Garrison in the last {hours:g} hours")
    return Day(
        end_s - hours * 3600,
        end_s,
        asked.step_s,
        models,
        asked.count(CLIENT_RESPONSES, "client"),
        asked.list_refusals(),
        {name: sum(one.value for one in asked.rise(metric)) for name, metric in EVENTS.items()},
        asked.list_alerts(),
        asked.list_drifts(),
        tuple(sorted(f"{one.labels.get('model', '')}: {one.labels.get('part', '')}" for one in asked.list_not_held())),
        tuple(sorted({one.labels.get("setting", "") for metric in UNSAFE for one in asked.list_on(metric)})),
        asked.draw(),
    )


class _Asked:
    """The questions of one report."""

    def __init__(self, prometheus: Prometheus, end_s: float, seconds: float) -> None:
        self._prometheus, self._end_s, self._seconds = prometheus, end_s, seconds
        self.step_s = max(seconds / POINTS, SHORTEST_STEP_S)
        self._all, self._step = f"[{seconds:.0f}s]", f"[{max(self.step_s, 60):.0f}s]"

    def _now(self, expression: str) -> tuple[Sample, ...]:
        return tuple(one for one in self._prometheus.ask(expression, self._end_s) if math.isfinite(one.value))

    def rise(self, metric: str, *by: str) -> tuple[Sample, ...]:
        """Return by how much a counter rose in all the time."""
        return self._now(f"sum by ({', '.join(by)}) (increase({metric}{self._all}))")

    def count(self, metric: str, label: str, buckets: str = "") -> tuple[Counts, ...]:
        """Return the answers by a label's values, those with most first."""
        kinds: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        for one in self.rise(metric, label, "class"):
            kinds[one.labels.get(label, "")][one.labels.get("class", "")] += one.value
        latency = self._ask_latency(label, buckets) if buckets else {}
        counts = [
            Counts(name, sum(found.values()), found["4xx"], found["5xx"], latency.get(name, ()))
            for name, found in kinds.items()
        ]
        return tuple(sorted((one for one in counts if one.requests), key=lambda one: (-one.requests, one.name)))

    def _ask_latency(self, label: str, buckets: str) -> dict[str, tuple[float, ...]]:
        found: dict[str, list[float]] = defaultdict(list)
        for share in SHARES:
            inner = f"sum by ({label}, le) (increase({buckets}{self._all}))"
            for one in self._now(f"histogram_quantile({share}, {inner})"):
                found[one.labels.get(label, "")].append(one.value)
        return {name: tuple(values) for name, values in found.items() if len(values) == len(SHARES)}

    def list_refusals(self) -> tuple[tuple[str, str, float], ...]:
        """Return gate, reason and number, the most frequent first."""
        found = [
            (gate, one.labels.get("reason", ""), one.value)
            for gate, metric in REFUSALS.items()
            for one in self.rise(metric, "reason")
        ]
        counted = [one for one in found if one[2] > 0.5 and one[1] != OWN_WORDS]
        return tuple(sorted(counted, key=lambda one: (-one[2], one)))

    def list_alerts(self) -> tuple[Fired, ...]:
        """Return the alerts that fired, in the order in which they did."""
        expression = 'max by (alertname, severity) (ALERTS{alertstate="firing"})'
        fired = [self._tell_alert(curve) for curve in self._range(expression) if curve.points]
        return tuple(sorted(fired, key=lambda one: (one.first_s, one.name)))

    def _tell_alert(self, curve: Curve) -> Fired:
        times = [time_s for time_s, _ in curve.points]
        name, severity = curve.labels.get("alertname", ""), curve.labels.get("severity", "")
        return Fired(name, severity, times[0], times[-1], len(times) * self.step_s)

    def list_drifts(self) -> tuple[Drift, ...]:
        """Return the drift of every feature, the largest first."""
        inner = f"max by (model, feature) (max_over_time({DRIFT}{self._all}))"
        last = {_name(one.labels): one.value for one in self._now(f"max by (model, feature) ({DRIFT})")}
        found = [
            Drift(*_name(one.labels), one.value, last.get(_name(one.labels), one.value)) for one in self._now(inner)
        ]
        return tuple(sorted(found, key=lambda one: (-one.most, one.model, one.feature)))

    def list_not_held(self) -> tuple[Sample, ...]:
        """Return the parts of cells that did not hold at some time."""
        return self._now(f"min by (model, part) (min_over_time({HELD}{self._all})) == 0")

    def list_on(self, metric: str) -> tuple[Sample, ...]:
        """Return the settings that were on at some time."""
        return self._now(f"max by (setting) (max_over_time({metric}{self._all})) > 0")

    def draw(self) -> dict[str, dict[str, tuple[tuple[float, float], ...]]]:
        """Return all curves, by what they are of."""
        buckets = f"sum by (le) (rate({SECONDS}_bucket{self._step}))"
        quantiles = {f"{q:.0%}": self._range(f"histogram_quantile({q}, {buckets})") for q in SHARES}
        events = {name: self._range(f"sum(increase({metric}{self._step}))") for name, metric in EVENTS.items()}
        return {
            "classes": self._by(f"sum by (class) (rate({RESPONSES}{self._step}))", "class"),
            "latency": {name: curves[0].points for name, curves in quantiles.items() if curves},
            "refusals": self._by(f"sum by (reason) (rate({REFUSALS['gateway']}{self._step}))", "reason"),
            "models": self._by(f"sum by (model) (rate({RESPONSES}{self._step}))", "model"),
            "clients": self._by(f"sum by (client) (rate({CLIENT_RESPONSES}{self._step}))", "client"),
            "drift": self._by(f"max by (model) ({DRIFT})", "model"),
            "events": {name: curves[0].points for name, curves in events.items() if curves},
        }

    def _by(self, expression: str, label: str) -> dict[str, tuple[tuple[float, float], ...]]:
        return {curve.labels.get(label, ""): curve.points for curve in self._range(expression)}

    def _range(self, expression: str) -> tuple[Curve, ...]:
        return self._prometheus.ask_range(expression, self._end_s - self._seconds, self._end_s, self.step_s)


def _name(labels: Mapping[str, str]) -> tuple[str, str]:
    return labels.get("model", ""), labels.get("feature", "")
