"""Measure what the watch costs: Garrison with all of it on next to Garrison as it was before, without any of it.

Both serve the bench's light network on this machine at the same time and take turns, so that whatever else the machine
does meets both alike. "With" is this checkout: inputs counted and compared with a signed profile, metrics, Prometheus
and Alertmanager beside it on the same processors (`garrison serve --monitoring`). "Without" is an earlier commit, whose
metrics nobody asks for, in a checkout of its own, with an environment of its own:

    git worktree add ../before 24eec6eebd16 && (cd ../before && scripts/setup)
    make campaign-watch CAMPAIGN="--before ../before"

The aim is issue 9's: at most 3 % less throughput. A bound that the interval crosses is not shown; the run was too short
then, or the machine too busy.
"""

import argparse
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.garrison_system import Garrison
from bench.workloads import WORKLOADS, prepare
from campaigns.result import make_parser, start
from campaigns.sides import compare_rates, open_before, run_sides

WORKLOAD = next(workload for workload in WORKLOADS if workload.name == "light-640")
WORKERS, BATCH, DELAY_MS = 2, 8, 1
MOST_LOST = 0.03


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write what came out."""
    options = parse_arguments(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # the servers are stopped on the way out
    without, options.before = open_before(options.before, "before there was a watch")
    campaign = start("watch", options)
    with tempfile.TemporaryDirectory(prefix="watch-") as name:
        directory = Path(name)
        prepared = prepare(WORKLOAD, directory / "model", WORKERS, BATCH, DELAY_MS)
        watched = Garrison("with", arguments=("--monitoring",))
        with run_sides((without, watched), prepared, directory) as sides:
            figures = {"throughput": compare_rates(campaign, sides, options)}
    return campaign.finish(figures, list_misses(figures))


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser("watch", __doc__)
    parser.add_argument("--before", type=Path, required=True, metavar="DIR", help="a checkout of what to compare with")
    parser.add_argument("--rounds", type=int, default=60, help="pairs of loads (default: 60)")
    parser.add_argument("--seconds", type=float, default=5, help="of each load (default: 5)")
    return parser.parse_args(arguments)


def list_misses(figures: dict[str, Any]) -> list[str]:
    """Compare with what was aimed at."""
    low, least = figures["throughput"]["ratio"]["low"], 1 - MOST_LOST
    return [f"throughput with the watch may be {low} of that without; it must be {least}"] if low < least else []


if __name__ == "__main__":
    sys.exit(main())
