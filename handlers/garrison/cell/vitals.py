"""What a worker takes: a process and a directory enter; threads, memory and files leave, and what is left of them."""

import contextlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from garrison.cell import scratch
from garrison.cell.calls import MAKING, MAX_SHARED_MAPPINGS, REMOVING, Room
from garrison.cell.hidden import HiddenFiles
from garrison.cell.settings import MOST_THREADS, CellSettings

_MEMORY = ("RssAnon", "RssShmem", "VmSwap", "VmPTE", "HugetlbPages")  # page tables: memory that is only read has some


@dataclass
class Vitals:
    """The measures of one worker; `mappings` counts what it ever mapped shared."""

    pid: int
    scratch: Path
    threads: int = 1
    memory_bytes: int = 0
    scratch_bytes: int = 0
    files: int = 0
    mappings: int = 0
    _hidden: HiddenFiles = field(default_factory=HiddenFiles)

    def measure(self) -> None:
        """Measure everything."""
        self._read_process()
        self._read_scratch()

    def find_room(self, call: str, settings: CellSettings) -> Room:
        """Measure what the decision about a call needs, exactly and now, and return what is left."""
        if call == "clone":
            self._read_process()
        elif call in MAKING or call in REMOVING:
            self._read_scratch()
        full = self.scratch_bytes >= settings.scratch_max_bytes
        return Room(
            threads=settings.threads - self.threads,
            files=0 if full else settings.scratch_max_files - self.files,
            mappings=MAX_SHARED_MAPPINGS - self.mappings,
        )

    def count(self, call: str) -> None:
        """Remember a call that passed."""
        self.mappings += call == "mmap"

    def find_excess(self, settings: CellSettings) -> tuple[str, str]:
        """Return an event and a sentence if the worker takes more than it may, else two empty texts."""
        if self.scratch_bytes > settings.scratch_max_bytes:
            return "scratch_full", f"wrote {self.scratch_bytes} bytes, of {settings.scratch_max_bytes} allowed"
        if self.memory_bytes > settings.memory_bytes:
            return "memory_full", f"holds {self.memory_bytes} bytes, of {settings.memory_bytes} allowed"
        return "", ""

    def _read_scratch(self) -> None:
        seen = scratch.measure(self.scratch, self._hidden.see)
        unseen = self._hidden.measure()
        self.scratch_bytes, self.files = seen[0] + unseen[0], seen[1] + unseen[1]

    def _read_process(self) -> None:
        """Read how many threads the worker has and how much memory it holds; anyone may read that of anyone."""
        for values in itertools.islice(self._read_statuses(), MOST_THREADS):
            with contextlib.suppress(ValueError):
                self.threads = int(values.get("Threads", "1"))
            if _MEMORY[0] in values:
                self.memory_bytes = sum(int(values.get(name, "0").split()[0]) * 1024 for name in _MEMORY)
                return

    def _read_statuses(self) -> Iterator[Mapping[str, str]]:
        """Go through what the kernel says of each thread: one that has ended, such as the first, has no memory."""
        with contextlib.suppress(OSError):
            yield _read_status(Path(f"/proc/{self.pid}/status"))
            for thread in Path(f"/proc/{self.pid}/task").iterdir():
                with contextlib.suppress(OSError):
                    yield _read_status(thread / "status")


def _read_status(path: Path) -> dict[str, str]:
    return dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
