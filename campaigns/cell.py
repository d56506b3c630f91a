"""Measure what the cell costs: Garrison as it is next to Garrison as it was before workers had cells.

Both serve the bench's light network on this machine at the same time and take turns, so that whatever else the machine
does meets both alike.

    throughput  a pair of loads a round, one after the other, the order changing from round to round: the ratio
    start-up    a worker is killed, now here, now there; the next one is timed from the start of its first process
                until TorchServe calls it ready: the difference
    flood       one more server, with a second model that prints as fast as it can: the light network's throughput
                meanwhile by that before, and how much the JVM grew

The aims are issue 5's: at most 2 % less throughput, at most 150 ms more start-up. A bound that the interval crosses is
not shown; the run was too short then, or the machine too busy.
"""

import argparse
import contextlib
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.garrison_system import Garrison
from bench.load import run_load, write_bodies
from bench.systems import Running
from bench.usage import processor_seconds
from bench.workloads import WORKLOADS, Prepared, prepare
from campaigns.earlier import check_out
from campaigns.flooding import measure_flood
from campaigns.paired import in_turn, mean_difference, mean_ratio
from campaigns.restarts import time_restart
from campaigns.result import Campaign, make_parser, start

BEFORE = "2f41d90be6d5"  # the last commit whose workers had no cell
WORKLOAD = next(workload for workload in WORKLOADS if workload.name == "light-640")
WORKERS, BATCH, DELAY_MS = 2, 8, 1
CONNECTIONS = 8
WARM_UP_S = 5
MOST_LOST = 0.02
MOST_STARTUP_S = 0.150


@dataclass(frozen=True)
class Side:
    """One of the two servers that are compared."""

    name: str
    running: Running
    directory: Path
    bodies: Sequence[Path]

    def measure(self, seconds: float) -> tuple[float, float]:
        """Return good answers a second, and milliseconds of processor time that each cost."""
        before = processor_seconds(self.running.pid).total()
        load = run_load(self.running.target, WORKLOAD.content_type, self.bodies, CONNECTIONS, seconds)
        used = processor_seconds(self.running.pid).total() - before
        if load.refused or load.broken:
            raise RuntimeError(f"{self.name}: {load.refused} refused, {load.broken} without an answer")
        return load.good / load.seconds, 1000 * used / load.good

    def time_restart(self) -> float:
        """Kill a worker and return how long the next one took to be ready, in seconds."""
        return time_restart(self.directory / "run" / "management.sock", WORKLOAD.model, WORKERS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all of it, and write what came out."""
    options = parse_arguments(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # the servers are stopped on the way out
    campaign = start("cell", options)
    figures: dict[str, Any] = {"before": options.before}
    with tempfile.TemporaryDirectory(prefix="cell-") as name:
        directory = Path(name)
        prepared = prepare(WORKLOAD, directory / "model", WORKERS, BATCH, DELAY_MS)
        bodies = write_bodies(prepared.bodies, directory / "bodies")
        with run_both(options.before, prepared, directory, bodies) as sides:
            figures["throughput"] = compare_rates(campaign, sides, options)
            figures["start_up"] = compare_restarts(campaign, sides, options)
        figures["flood"] = measure_flood(campaign, prepared, bodies, directory / "flood", options)
    return campaign.finish(figures, list_misses(figures))


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser("cell", __doc__)
    parser.add_argument("--before", default=BEFORE, metavar="COMMIT", help="what to compare with")
    parser.add_argument("--rounds", type=int, help="pairs of loads (default: 60)")
    parser.add_argument("--seconds", type=float, help="of each load (default: 5)")
    parser.add_argument("--restarts", type=int, help="of a worker on each side (default: 30)")
    parser.add_argument("--floods", type=int, help="pairs with and without a flood, of each kind (default: 10)")
    parser.add_argument("--quick", action="store_true", help="just see whether it runs")
    options = parser.parse_args(arguments)
    full = {"rounds": 60, "seconds": 5, "restarts": 30, "floods": 10}
    quick = {"rounds": 3, "seconds": 2, "restarts": 2, "floods": 1}
    for name, value in (quick if options.quick else full).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


@contextlib.contextmanager
def run_both(commit: str, prepared: Prepared, directory: Path, bodies: Sequence[Path]) -> Iterator[tuple[Side, Side]]:
    """Run Garrison without cells and with them, side by side, until both are warm."""
    earlier = check_out(commit, directory / "earlier")
    without = Garrison("without", "before workers had cells", earlier.python, earlier.config)
    with contextlib.ExitStack() as stack:
        sides = []
        for system in (without, Garrison("with")):
            place = directory / system.name
            place.mkdir()
            sides.append(Side(system.name, stack.enter_context(system.run(prepared, place)), place, bodies))
        for side in sides:
            side.measure(WARM_UP_S)
        yield sides[0], sides[1]


def compare_rates(campaign: Campaign, sides: tuple[Side, Side], options: argparse.Namespace) -> dict[str, Any]:
    """Measure throughput in pairs, and what an answer costs, which a busy machine changes less."""
    rates, costs = [], []
    for number in range(options.rounds):
        measured = {side.name: side.measure(options.seconds) for side in in_turn(sides, number)}
        (rate, cost), (celled_rate, celled_cost) = measured["without"], measured["with"]
        rates.append((rate, celled_rate))
        costs.append((cost, celled_cost))
        told = f"{rate:.1f}/s, {cost:.2f} ms without, {celled_rate:.1f}/s, {celled_cost:.2f} ms with a cell"
        campaign.tell(f"throughput {number + 1}: {told}")
    return {
        "ratio": mean_ratio(rates, options.seed).rounded(4),
        "pairs_per_second": [[round(rate, 2) for rate in pair] for pair in rates],
        "cpu_ratio": mean_ratio(costs, options.seed).rounded(4),
        "pairs_cpu_ms": [[round(cost, 3) for cost in pair] for pair in costs],
    }


def compare_restarts(campaign: Campaign, sides: tuple[Side, Side], options: argparse.Namespace) -> dict[str, Any]:
    """Time restarts of a worker in pairs; the first of each side, which may compile, does not count."""
    pairs = []
    for number in range(options.restarts + 1):
        times = {side.name: side.time_restart() for side in in_turn(sides, number)}
        if number:
            pairs.append((times["without"], times["with"]))
        campaign.tell(f"start-up {number}: {times['without']:.3f} s without, {times['with']:.3f} s with a cell")
    more = mean_difference(pairs, options.seed)
    return {"more_s": more.rounded(4), "pairs_s": [[round(seconds, 3) for seconds in pair] for pair in pairs]}


def list_misses(figures: dict[str, Any]) -> list[str]:
    """Compare with what was aimed at."""
    misses = []
    least, most = 1 - MOST_LOST, MOST_STARTUP_S
    if (low := figures["throughput"]["ratio"]["low"]) < least:
        misses.append(f"throughput with a cell may be {low} of that without; it must be {least}")
    if (high := figures["start_up"]["more_s"]["high"]) > most:
        misses.append(f"a worker may take {high} s more to start; it must be {most} s at most")
    return [*misses, *figures["flood"]["misses"]]


if __name__ == "__main__":
    sys.exit(main())
