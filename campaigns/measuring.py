"""Measure what it costs a worker to measure inputs: sample models enter, microseconds per request leave, as JSON.

Run in a process of its own, with PROMETHEUS_MULTIPROC_DIR as a worker has it: counts go to files, which costs more.
"""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from garrison.archive import open_packed_model
from garrison.profile import read_watched
from garrison.torchserve.rehearsal import Rehearsal
from garrison.watch.inputs import InputStatistics

ROUNDS, REQUESTS = 15, 400


class _Kept:
    """What the handler would have counted."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def count(self, *call: object) -> None:
        self.calls.append(call)


def measure_cost(packed: Path, bodies: list[bytes], staging: Path) -> dict[str, float]:
    """Return the median and the worst round's microseconds per request, those that are not sampled included."""
    model, rehearsal, kept = open_packed_model(packed), Rehearsal(packed, staging), _Kept()
    rehearsal.handler.watch_with(kept)
    for body in bodies:
        rehearsal.ask(body)
    counted = InputStatistics(model.contract, read_watched(model).features)
    rounds = []
    for _ in range(ROUNDS):
        began = time.thread_time()  # of the processor: others may be busy
        for number in range(REQUESTS):
            counted.count(*kept.calls[number % len(kept.calls)])  # type: ignore[arg-type]
        rounds.append((time.thread_time() - began) / REQUESTS * 1e6)
    return {"median_us": round(statistics.median(rounds), 1), "worst_us": round(max(rounds), 1)}


def main() -> None:
    """Measure the packed models that are named, each with the bodies in a directory."""
    found = {}
    for packed, bodies in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
        files = sorted(path for path in Path(bodies).iterdir() if path.is_file())
        with tempfile.TemporaryDirectory() as staging:
            read = [path.read_bytes() for path in files]
            found[Path(packed).name] = measure_cost(Path(packed), read, Path(staging))
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
