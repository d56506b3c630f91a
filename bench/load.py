"""Ask one server as fast as it answers: a URL and bodies enter, what wrk saw leaves.

wrk keeps each connection busy with one request at a time, from one thread of its own and with bodies that were
formatted before; it takes part of the machine all the same, the same part for every system (`Load.client_cpu_s`).
"""

import json
import os
import resource
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from garrison.errors import ConfigError

SCRIPT = Path(__file__).resolve().parent / "load.lua"
TIMEOUT_S = 60
GRACE_S = 30


@dataclass(frozen=True)
class Target:
    """Where a system listens, and the key that it wants."""

    url: str
    key: str = ""


@dataclass(frozen=True)
class Load:
    """What came back: `refused` are answers other than 2xx and 3xx, `broken` is everything without an answer."""

    seconds: float
    answers: int
    refused: int
    broken: int
    p50_ms: float
    p99_ms: float
    client_cpu_s: float

    @property
    def good(self) -> int:
        """Answers that are predictions."""
        return self.answers - self.refused


def find_wrk() -> Path:
    """Return the load generator.

    Raises:
        ConfigError: it is not installed.
    """
    path = shutil.which("wrk")
    if path is None:
        raise ConfigError("wrk is not installed; on Debian and Ubuntu: apt install wrk")
    return Path(path)


def run_load(target: Target, content_type: str, bodies: Sequence[Path], connections: int, seconds: float) -> Load:
    """Keep `connections` connections busy for some seconds.

    Raises:
        RuntimeError: wrk itself failed.
    """
    command = [
        *(str(find_wrk()), "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", f"--timeout={TIMEOUT_S}s"),
        *("-s", str(SCRIPT), target.url, "--", content_type, *map(str, bodies)),
    ]
    environment = {"PATH": os.environ.get("PATH", "")} | ({"BENCH_KEY": target.key} if target.key else {})
    before = _children_cpu_s()
    result = subprocess.run(  # noqa: S603 - our own command
        command, env=environment, capture_output=True, text=True, timeout=seconds + TIMEOUT_S + GRACE_S, check=False
    )
    lines = [line for line in result.stdout.splitlines() if line.startswith("{")]
    if result.returncode != 0 or not lines:
        raise RuntimeError(f"wrk failed: {result.stdout[-500:]}{result.stderr[-500:]}")
    return Load(**json.loads(lines[-1]), client_cpu_s=_children_cpu_s() - before)


def write_bodies(bodies: Sequence[bytes], directory: Path) -> list[Path]:
    """Write the requests' bodies for a load generator."""
    directory.mkdir(parents=True)
    paths = [directory / str(number) for number in range(len(bodies))]
    for path, body in zip(paths, bodies, strict=True):
        path.write_bytes(body)
    return paths


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
