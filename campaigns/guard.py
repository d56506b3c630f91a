"""Measure what the guard costs: alone, in front of a backend that only echoes, next to asking that backend directly.

Processor time is the guard's own, from /proc, so that a busy machine falsifies little; times by the clock are those of
client, guard and backend together on this machine's cores.
"""

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from campaigns.guarded import Place, ask_many, asking_grpc, asking_rest, read_cpu_seconds, running, sockets, summarise
from campaigns.result import Campaign, make_parser, start

CASES = (("grpc", "small", 6000), ("grpc", "large", 1500), ("rest", "small", 4000), ("rest", "large", 60))
WARM_UP = 10  # a part of the calls, before what is measured
AT_ONCE = 8
PROCESSES = (1, 2)
AIMS_MS = {"grpc small": 1.0, "grpc large": 1.6}  # of processor time per call, in one process
LEAST_PER_CORE = 1000
_ASKING = {"grpc": asking_grpc, "rest": asking_rest}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write what came out."""
    options = parse_arguments(arguments)
    campaign = start("guard", options)
    figures: dict[str, Any] = {}
    for count in PROCESSES:
        with tempfile.TemporaryDirectory(prefix="guard-") as name, running(Path(name), count) as place:
            figures[f"{count} process{'es' * (count > 1)}"] = asyncio.run(measure(campaign, place, options.scale))
    return campaign.finish(figures, judge(figures))


async def measure(campaign: Campaign, place: Place, scale: float) -> dict[str, Any]:
    """Measure every case through the guards, and those of gRPC at the backend itself."""
    figures: dict[str, Any] = {}
    for protocol, model, count in CASES:
        calls = max(WARM_UP, int(count * scale))
        case = await measure_case(place, protocol, model, calls, sockets(place, protocol), place.pids)
        if protocol == "grpc":
            direct = await measure_case(place, protocol, model, calls, [place.backend], (place.backend_pid,))
            case["directly"] = {key: direct[key] for key in ("p50_ms", "p99_ms", "calls_per_s")}
        figures[f"{protocol} {model}"] = case
        campaign.tell(f"{len(place.pids)} guard(s), {protocol} {model}: {case}")
    return figures | {"resident_mb": round(place.resident_mb(), 1)}


async def measure_case(
    place: Place, protocol: str, model: str, count: int, paths: Sequence[Path], pids: Sequence[int]
) -> dict[str, Any]:
    """Ask so many times, and return what that took of the processes and of the clock."""
    async with contextlib.AsyncExitStack() as stack:
        asks = [await stack.enter_async_context(_ASKING[protocol](path, model)) for path in paths]
        await ask_many(asks, max(1, count // WARM_UP), AT_ONCE)
        began, used = time.perf_counter(), sum(map(read_cpu_seconds, pids))
        taken = await ask_many(asks, count, AT_ONCE)
        seconds, used = time.perf_counter() - began, sum(map(read_cpu_seconds, pids)) - used
    return {
        "calls": count,
        "cpu_ms_per_call": round(1000 * used / count, 3),
        "calls_per_s_of_cpu": round(count / used) if used else 0,
        "calls_per_s": round(count / seconds),
        **summarise(taken),
    }


def judge(figures: dict[str, Any]) -> list[str]:
    """Return which aims were missed; they are for one process."""
    one, misses = figures["1 process"], []
    for case, most in AIMS_MS.items():
        if one[case]["cpu_ms_per_call"] > most:
            misses.append(f"{case}: {one[case]['cpu_ms_per_call']} ms of processor time per call, {most} aimed at")
    if one["grpc small"]["calls_per_s_of_cpu"] < LEAST_PER_CORE:
        misses.append(f"grpc small: {one['grpc small']['calls_per_s_of_cpu']} calls per second of a core")
    return misses


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser("guard", __doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="a part of the calls (default: %(default)s)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
