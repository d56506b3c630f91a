"""The rounds: workloads and systems enter, one figure per workload, system and number of connections leaves.

All systems of a workload are up at the same time and take turns, round after round, each round beginning with the next
one: what else the machine does meets all of them alike. A figure is the median over the rounds.
"""

import contextlib
import statistics
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.garrison_system import Garrison
from bench.in_process import InProcess, Limit
from bench.litserve_system import LitServe
from bench.load import run_load, write_bodies
from bench.stock import Stock
from bench.systems import Running, System
from bench.usage import processor_seconds, resident_mb
from bench.workloads import Prepared, Workload, prepare

CLIENT_ROLE = "client (wrk)"


@dataclass(frozen=True)
class Plan:
    """How much is measured, and what a sensible operator of this machine would choose for all tuned systems."""

    rounds: int
    seconds: float
    connections: tuple[int, ...]
    warm_up_s: float
    workers: int
    batch: int
    delay_ms: int
    long_delay_ms: int
    systems: tuple[str, ...] = ()

    def make_systems(self) -> list[System]:
        """Return the systems with a server; those next to Garrison with either delay, as one may suit them better."""
        delays = (("", self.delay_ms), ("-long", self.long_delay_ms))
        systems: list[System] = [
            Garrison(),
            Stock("stock", "stock TorchServe, defaults", 0, 0),
            *(Stock(f"stock-tuned{end}", f"stock TorchServe, tuned, {ms} ms", self.batch, ms) for end, ms in delays),
            Stock("stock-tuned-1", "stock TorchServe, tuned, no batches", 1, self.delay_ms),
            *(LitServe(f"litserve{end}", f"LitServe, {ms} ms", self.workers, self.batch, ms) for end, ms in delays),
        ]
        return [system for system in systems if not self.systems or system.name in self.systems]


@dataclass
class Point:
    """Every round's samples of one workload, system and number of connections (0: in process)."""

    workload: str
    system: str
    title: str
    connections: int
    rates: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    resident_mb: list[float] = field(default_factory=list)
    cpu_ms: list[dict[str, float]] = field(default_factory=list)
    failures: int = 0

    def summary(self) -> dict[str, Any]:
        """Return the medians over the rounds, and the rounds' rates."""
        roles = {role for sample in self.cpu_ms for role in sample}
        cpu = {role: _median([sample.get(role, 0.0) for sample in self.cpu_ms]) for role in sorted(roles)}
        return {
            "workload": self.workload,
            "system": self.system,
            "title": self.title,
            "connections": self.connections,
            "per_second": _median(self.rates),
            "p50_ms": _median(self.p50_ms),
            "p99_ms": _median(self.p99_ms),
            "resident_mb": max(self.resident_mb, default=None),
            "cpu_ms_per_answer": cpu,
            "failures": self.failures,
            "rounds_per_second": [round(rate, 3) for rate in self.rates],
        }


def measure(workload: Workload, plan: Plan, directory: Path) -> list[dict[str, Any]]:
    """Measure one workload on every system that can serve it."""
    prepared = prepare(workload, directory / "model", plan.workers, plan.batch, plan.delay_ms)
    bodies = write_bodies(prepared.bodies, directory / "bodies")
    points: dict[tuple[str, int], Point] = {}
    with contextlib.ExitStack() as stack:
        running = _start_all(prepared, plan, directory, stack)
        limit = stack.enter_context(InProcess(plan.workers, plan.batch).run(prepared, directory / "limit", bodies))
        for _, server in running:
            run_load(server.target, workload.content_type, bodies, 8, plan.warm_up_s)
        limit.measure(1)
        for number in range(plan.rounds):
            for connections in plan.connections:
                for system, server in _rotate(running, number):
                    point = points.setdefault(
                        (system.name, connections), Point(workload.name, system.name, system.title, connections)
                    )
                    _sample(point, server, prepared, bodies, plan.seconds)
            _sample_limit(points, workload, limit, plan.seconds)
    return [point.summary() for point in points.values()]


def _start_all(
    prepared: Prepared, plan: Plan, directory: Path, stack: contextlib.ExitStack
) -> list[tuple[System, Running]]:
    started = []
    for system in plan.make_systems():
        if system.supports(prepared):
            _tell(f"{prepared.workload.name}: starting {system.title}")
            (directory / system.name).mkdir()
            started.append((system, stack.enter_context(system.run(prepared, directory / system.name))))
    return started


def _rotate(running: Sequence[tuple[System, Running]], number: int) -> Iterator[tuple[System, Running]]:
    first = number % max(1, len(running))
    yield from (*running[first:], *running[:first])


def _sample(point: Point, server: Running, prepared: Prepared, bodies: Sequence[Path], seconds: float) -> None:
    before = processor_seconds(server.pid)
    load = run_load(server.target, prepared.workload.content_type, bodies, point.connections, seconds)
    used = Counter(processor_seconds(server.pid))
    used.subtract(before)
    rate = load.good / load.seconds
    point.rates.append(rate)
    if load.good:
        point.p50_ms.append(load.p50_ms)
        point.p99_ms.append(load.p99_ms)
        cost = {role: 1000 * spent / load.good for role, spent in used.items()}
        point.cpu_ms.append({**cost, CLIENT_ROLE: 1000 * load.client_cpu_s / load.good})
    point.failures += load.refused + load.broken
    point.resident_mb.append(resident_mb(server.pid))
    shown = f"{rate:8.1f}/s  p50 {load.p50_ms:8.1f} ms  p99 {load.p99_ms:8.1f} ms"
    _tell(
        f"{point.workload:12} {point.connections:3} x {point.system:14} {shown}  failures {load.refused + load.broken}"
    )


def _sample_limit(points: dict[tuple[str, int], Point], workload: Workload, limit: Limit, seconds: float) -> None:
    name, title = InProcess.name, InProcess.title
    point = points.setdefault((name, 0), Point(workload.name, name, title, 0))
    rate, cpu_ms = limit.measure(seconds)
    point.rates.append(rate)
    point.cpu_ms.append({"workers": cpu_ms})
    _tell(f"{point.workload:12}     {point.system:16} {rate:8.1f}/s")


def _median(values: Sequence[float]) -> float | None:
    return round(statistics.median(values), 4) if values else None


def _tell(line: str) -> None:
    sys.stderr.write(f"bench: {line}\n")
    sys.stderr.flush()


__all__ = ["CLIENT_ROLE", "Plan", "measure"]
