"""Watch the memory of a server's processes while it works, from a thread of its own."""

import statistics
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil

INTERVAL_S = 1.0


@dataclass(frozen=True)
class Sample:
    """Resident memory in MB of each process, by its name, when `progress` of the work was done."""

    progress: float
    resident_mb: dict[str, float]


@dataclass
class MemoryWatch:
    """Sample a process and everything below it until told to stop; use as a context manager."""

    root: int
    progress: Callable[[], float]
    samples: list[Sample] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "MemoryWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def median(self, start: float, end: float) -> dict[str, float]:
        """Return each process's median memory over a stretch of the work."""
        stretch = [sample.resident_mb for sample in self.samples if start <= sample.progress <= end]
        names = {name for sample in stretch for name in sample}
        return {name: statistics.median(one[name] for one in stretch if name in one) for name in sorted(names)}

    def _watch(self) -> None:
        while not self._over.wait(INTERVAL_S):
            self.samples.append(Sample(self.progress(), list_memory(self.root)))


def list_memory(root: int) -> dict[str, float]:
    """Return the resident memory in MB of a process and everything below it, by role and process id."""
    memory: dict[str, float] = {}
    for process in list_family(root):
        try:
            memory[f"{name_role(process)} {process.pid}"] = round(process.memory_info().rss / 1e6, 2)
        except psutil.Error:
            continue
    return memory


def list_family(root: int) -> list[psutil.Process]:
    """Return a process and everything below it."""
    first = psutil.Process(root)
    return [first, *first.children(recursive=True)]


def name_role(process: psutil.Process) -> str:
    """Name what a process is for, from its command line."""
    words = " ".join(process.cmdline())
    if "envoy" in process.name():
        return "gateway"
    if "ModelServer" in words:
        return "server"
    return "launcher" if "garrison.cli" in words else "worker"
