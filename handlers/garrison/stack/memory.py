"""Count what the kernel killed because a container's memory was full: its control group counts that.

Outside of a container it is the machine's count, or none is kept.
"""

import contextlib
from pathlib import Path

_COUNTS = ("memory.events", "memory/memory.oom_control")  # control groups of version 2, and of version 1
_FIELD = "oom_kill"


def count_killed(groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return how many processes were killed so far; 0 if nobody counts."""
    for name in _COUNTS:
        with contextlib.suppress(OSError, ValueError, IndexError):
            rows = [line.split() for line in (groups / name).read_text().splitlines()]
            return next((int(row[1]) for row in rows if row[:1] == [_FIELD]), 0)
    return 0
