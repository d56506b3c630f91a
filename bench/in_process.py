"""The limit: the same handler called directly, no server, no HTTP, no second process to talk to.

One process per core, each putting batches through `SafeHandler.handle` as fast as it can: checks, decoding, the model,
the answer as JSON. What a server adds can only make it slower.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.garrison_system import pack
from bench.workloads import Prepared
from garrison.torchserve.served import unsafe_serve

APP = Path(__file__).resolve().parent / "in_process_app.py"


@dataclass(frozen=True)
class Limit:
    """The processes that are ready to go."""

    processes: Sequence["subprocess.Popen[str]"]

    def measure(self, seconds: float) -> tuple[float, float]:
        """Let all of them work at once; return items per second and the processor time of one item in ms."""
        for process in self.processes:
            _say(process, str(seconds))
        heard = [json.loads(_hear(process)) for process in self.processes]
        rate = sum(result["items"] / result["seconds"] for result in heard)
        cpu_ms = 1000 * sum(result["cpu_s"] for result in heard) / sum(result["items"] for result in heard)
        return rate, cpu_ms


class InProcess:
    """The handler without a server."""

    name = "in-process"
    title = "in-process limit (no server)"

    def __init__(self, workers: int, batch: int) -> None:
        self.workers, self.batch = workers, batch

    @contextlib.contextmanager
    def run(self, prepared: Prepared, directory: Path, bodies: Sequence[Path]) -> Iterator[Limit]:
        """Start the processes and wait until each has loaded the model."""
        packed = pack(prepared, directory / "models") / prepared.workload.model
        served = unsafe_serve(packed, directory / "served")
        command = [sys.executable, str(APP), str(served), str(self.batch), *map(str, bodies)]
        environment = {"PATH": os.environ.get("PATH", ""), "OMP_NUM_THREADS": "1"}
        processes = [
            subprocess.Popen(  # noqa: S603 - our own command
                command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for _ in range(self.workers)
        ]
        try:
            for process in processes:
                _hear(process)
            yield Limit(processes)
        finally:
            for process in processes:
                process.terminate()
                process.communicate()


def _say(process: "subprocess.Popen[str]", line: str) -> None:
    if process.stdin is not None:
        process.stdin.write(f"{line}\n")
        process.stdin.flush()


def _hear(process: "subprocess.Popen[str]") -> str:
    line = process.stdout.readline() if process.stdout is not None else ""
    if not line:
        raise RuntimeError(f"the in-process limit ended with {process.wait()}")
    return line
