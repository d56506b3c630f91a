"""Two servers that run at once and take turns: systems of the benchmark enter, the ratio of their rates leaves.

Whatever else the machine does meets both alike, and does not meet their ratio.
"""

import argparse
import contextlib
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.garrison_system import Garrison
from bench.load import run_load, write_bodies
from bench.systems import Running, System
from bench.usage import processor_seconds
from bench.workloads import Prepared
from campaigns.paired import in_turn, mean_ratio
from campaigns.result import Campaign

CONNECTIONS = 8
WARM_UP_S = 5


@dataclass(frozen=True)
class Side:
    """One of the two servers that are compared."""

    name: str
    running: Running
    directory: Path
    bodies: Sequence[Path]
    content_type: str

    def measure(self, seconds: float) -> tuple[float, float]:
        """Return good answers a second, and milliseconds of processor time that each cost."""
        before = processor_seconds(self.running.pid).total()
        load = run_load(self.running.target, self.content_type, self.bodies, CONNECTIONS, seconds)
        used = processor_seconds(self.running.pid).total() - before
        if load.refused or load.broken:
            raise RuntimeError(f"{self.name}: {load.refused} refused, {load.broken} without an answer")
        return load.good / load.seconds, 1000 * used / load.good


def open_before(checkout: Path, title: str) -> tuple[Garrison, str]:
    """Return an earlier Garrison, set up in a checkout of its own, and its commit, for a result to say."""
    command = ["git", "-C", str(checkout), "rev-parse", "--short=12", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603 - ours
    place = checkout.absolute()
    return Garrison("without", title, place / ".venv" / "bin" / "python", place / "config"), commit


@contextlib.contextmanager
def run_sides(systems: tuple[System, System], prepared: Prepared, directory: Path) -> Iterator[tuple[Side, Side]]:
    """Run both until they are warm; each has a directory of its own."""
    bodies = write_bodies(prepared.bodies, directory / "bodies")
    with contextlib.ExitStack() as stack:
        sides = []
        for system in systems:
            place = directory / system.name
            place.mkdir()
            running = stack.enter_context(system.run(prepared, place))
            sides.append(Side(system.name, running, place, bodies, prepared.workload.content_type))
        for side in sides:
            side.measure(WARM_UP_S)
        yield sides[0], sides[1]


def compare_rates(campaign: Campaign, sides: tuple[Side, Side], options: argparse.Namespace) -> dict[str, Any]:
    """Measure throughput in `options.rounds` pairs, and what an answer costs, which a busy machine changes less."""
    rates, costs = [], []
    first, second = (side.name for side in sides)
    for number in range(options.rounds):
        measured = {side.name: side.measure(options.seconds) for side in in_turn(sides, number)}
        (rate, cost), (other_rate, other_cost) = measured[first], measured[second]
        rates.append((rate, other_rate))
        costs.append((cost, other_cost))
        told = f"{rate:.1f}/s, {cost:.2f} ms {first}, {other_rate:.1f}/s, {other_cost:.2f} ms {second}"
        campaign.tell(f"throughput {number + 1}: {told}")
    return {
        "ratio": mean_ratio(rates, options.seed).rounded(4),
        "pairs_per_second": [[round(rate, 2) for rate in pair] for pair in rates],
        "cpu_ratio": mean_ratio(costs, options.seed).rounded(4),
        "pairs_cpu_ms": [[round(cost, 3) for cost in pair] for pair in costs],
    }
