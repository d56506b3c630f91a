"""Time the start of a worker: TorchServe's management socket and a model enter, seconds leave.

From the start of the first process that TorchServe makes for it, as the kernel noted it (to 10 ms), until TorchServe
lists it as ready (asked every 5 ms).
"""

import json
import os
import signal
import time
from pathlib import Path

import psutil

from garrison.unix_http import send_request

TIMEOUT_S = 120
POLL_S = 0.005
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def time_restart(management: Path, model: str, workers: int) -> float:
    """Kill one of a model's workers, and return how many seconds the next one took from its start until ready.

    Raises:
        RuntimeError: there is none in time.
    """
    before = _wait_for(management, model, set(), workers)
    killed = min(before)
    os.kill(killed, signal.SIGKILL)
    (new,) = _wait_for(management, model, {killed}, workers) - before
    return time.clock_gettime(time.CLOCK_BOOTTIME) - _find_start_s(new)


def _wait_for(management: Path, model: str, gone: set[int], workers: int) -> set[int]:
    """Return the ready workers' process ids, once there are as many as there must be, without those that are gone."""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        ready = _list_ready(management, model)
        if len(ready) == workers and not ready & gone:
            return ready
        time.sleep(POLL_S)
    raise RuntimeError(f"{model}: not {workers} workers within {TIMEOUT_S} s")


def _list_ready(management: Path, model: str) -> set[int]:
    answer = send_request(management, "GET", f"/models/{model}", TIMEOUT_S)
    return {worker["pid"] for worker in json.loads(answer.body)[0]["workers"] if worker["status"] == "READY"}


def _find_start_s(pid: int) -> float:
    """Return when a worker's first process started, in seconds since the machine did; a supervisor comes before it."""
    process = psutil.Process(pid)
    while (parent := process.parent()) is not None and parent.name() != "java":
        process = parent
    stat = Path(f"/proc/{process.pid}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[19]) / TICKS_PER_S
