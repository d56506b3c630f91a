"""What the attack tests ask a running stack, answered for the stack of containers."""

import json
import time
from pathlib import Path
from typing import Any

import psutil

from containers.composing import ComposedStack, docker

SERVICE = "torchserve"
ASK = """
import json, sys
from pathlib import Path
from garrison.unix_http import send_request
answer = send_request(Path("/run/garrison/management.sock"), "GET", "/models/" + sys.argv[1], 5)
print([worker["pid"] for worker in json.loads(answer.body)[0]["workers"] if worker["status"] == "READY"])
"""


class Published:
    """A stack of containers as `RunningStack` shows processes: its port, its log from now on, its workers."""

    def __init__(self, stack: ComposedStack) -> None:
        self.target = stack.target
        self._stack = stack
        self._since = f"{time.time():.6f}"

    def events(self) -> list[dict[str, Any]]:
        """Return what the gateway wrote to its log since this was made."""
        written = docker("logs", "--since", self._since, self._stack.container("gateway"))
        return [json.loads(line) for line in written.splitlines() if line.startswith("{")]

    def worker_pids(self, model: str = "digits") -> list[int]:
        """Return this machine's process ids of a model's workers that can take a request."""
        inside: list[int] = json.loads(self._stack.python(SERVICE, ASK, model))
        first = psutil.Process(self._stack.inspect(SERVICE)["State"]["Pid"])
        outside = {read_inner_pid(one.pid): one.pid for one in (first, *first.children(recursive=True))}
        return [outside[pid] for pid in inside]


def read_inner_pid(pid: int) -> int:
    """Return what a process's id is in its own namespace."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("NSpid:")).split()[-1])
