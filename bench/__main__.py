"""Measure Garrison next to stock TorchServe, LitServe and the in-process limit, on this machine.

Writes `bench/results.json` (every figure) and `docs/benchmarks.md` with its plot. The full run takes about two hours,
`--quick` a few minutes; its figures are rough, and are only written where `--output` says.
"""

import argparse
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.machine import describe_machine, describe_versions, find_commit
from bench.report import write_report
from bench.run import Plan, measure
from bench.steps import measure_steps
from bench.workloads import WORKLOADS, prepare

REPOSITORY = Path(__file__).resolve().parents[1]
CONNECTIONS = (1, 8, 16)


def main() -> int:
    """Measure, write, and say where."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # the servers are stopped on the way out
    options = parse_arguments()
    plan = make_plan(options)
    chosen = [workload for workload in WORKLOADS if not options.workload or workload.name in options.workload]
    results: dict[str, Any] = {
        "commit": find_commit(REPOSITORY),
        "mode": "quick" if options.quick else "full",
        "machine": describe_machine(),
        "versions": describe_versions(),
        "plan": vars(plan),
        "points": [],
        "steps": {},
    }
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        for workload in chosen:
            directory = Path(name) / workload.name
            results["points"] += measure(workload, plan, directory)
            prepared = prepare(workload, directory / "steps", plan.workers, plan.batch, plan.delay_ms)
            results["steps"][workload.name] = measure_steps(prepared, directory / "steps", plan.batch)
            written = write_report(results, chosen, options.output)  # each time: a run takes an hour
    sys.stdout.write("".join(f"{path}\n" for path in written))
    return 0


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    names = [workload.name for workload in WORKLOADS]
    parser = argparse.ArgumentParser(description="Measure Garrison next to what people would run without it.")
    parser.add_argument("--quick", action="store_true", help="a few seconds per figure, one round: for CI")
    parser.add_argument("--workload", action="append", choices=names, help="only this one; may be repeated")
    parser.add_argument("--system", action="append", default=[], metavar="NAME", help="only this one; may be repeated")
    parser.add_argument("--connections", type=int, action="append", metavar="N", help="instead of 1, 8 and 16")
    parser.add_argument("--rounds", type=int, help="how often each figure is measured (default: 3)")
    parser.add_argument("--seconds", type=float, help="how long each measurement takes (default: 10)")
    parser.add_argument("--workers", type=int, default=2, help="worker processes of every tuned system")
    parser.add_argument("--batch", type=int, default=8, help="batch size of every tuned system")
    parser.add_argument("--delay-ms", type=int, default=1, help="how long every tuned system waits for a full batch")
    parser.add_argument("--long-delay-ms", type=int, default=5, help="what tuned stock and LitServe are also given")
    parser.add_argument("--output", type=Path, help="write there (default: the repository; with --quick: build/bench)")
    options = parser.parse_args()
    options.output = options.output or (REPOSITORY / "build" / "bench" if options.quick else REPOSITORY)
    return options


def make_plan(options: argparse.Namespace) -> Plan:
    """Return what the options ask for."""
    return Plan(
        rounds=options.rounds or (1 if options.quick else 3),
        seconds=options.seconds or (3 if options.quick else 10),
        connections=tuple(options.connections or CONNECTIONS),
        warm_up_s=1 if options.quick else 3,
        workers=options.workers,
        batch=options.batch,
        delay_ms=options.delay_ms,
        long_delay_ms=options.long_delay_ms,
        systems=tuple(options.system),
    )


if __name__ == "__main__":
    sys.exit(main())
