"""What a system's processes cost: processor time by role, and resident memory.

Processor time says more than throughput on a machine that does other things as well. Shared pages count once per
process in the memory, as in `ps`.
"""

from collections import Counter

import psutil


def processor_seconds(root: int) -> Counter[str]:
    """Return the processor time that a process and all below it have used, by role."""
    seconds: Counter[str] = Counter()
    for process in _family(root):
        try:
            with process.oneshot():
                times = process.cpu_times()
                seconds[_role(process)] += times.user + times.system
        except psutil.Error:
            continue
    return seconds


def resident_mb(root: int) -> float:
    """Return the resident memory of a process and all below it."""
    total = 0
    for process in _family(root):
        try:
            total += process.memory_info().rss
        except psutil.Error:
            continue
    return total / 1e6


def _family(root: int) -> list[psutil.Process]:
    try:
        first = psutil.Process(root)
        return [first, *first.children(recursive=True)]
    except psutil.Error:
        return []


def _role(process: psutil.Process) -> str:
    """Name what a process is for, from its command line."""
    words = " ".join(process.cmdline())
    if "envoy" in process.name():
        return "gateway"
    if "org.pytorch.serve.ModelServer" in words:
        return "server"
    if "garrison.cli" in words:
        return "launcher"
    return "workers"
