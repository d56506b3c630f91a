"""What one run is made of: a server process that is started again when it ends, and what belongs to it."""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

from garrison.errors import Undecided
from garrison.eventlog import EventLog
from garrison.process import Child, describe_exit, last_words

STOP_TIMEOUT_S = 10
MAX_RESTARTS = 5
RESTART_WINDOW_S = 300


class Lifetime:
    """What all parts of a run share: the log, whether everything was ready once, whether it is to end."""

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self.ready = threading.Event()
        self.stopping = threading.Event()


class Part(ABC):
    """One server process and what belongs to it."""

    title: str  # in a sentence about the start
    gate: str  # under which its lines stand in the log

    def __init__(self, lifetime: Lifetime) -> None:
        self.lifetime = lifetime
        self.log = lifetime.log
        self._child: Child | None = None
        self._restarts: list[float] = []
        self.restarts = 0  # since the start

    @abstractmethod
    def check(self) -> None:
        """Check what can be known before the run directory is there.

        Raises:
            GarrisonError: it cannot be started like this.
        """

    @abstractmethod
    def prepare(self, run_directory: Path) -> None:
        """Write what the process will read; starts nothing.

        Raises:
            GarrisonError: it cannot be started like this.
        """

    @abstractmethod
    def launch(self) -> Child:
        """Start the process."""

    @abstractmethod
    def watch(self) -> bool:
        """Look after everything once, and say whether it is ready.

        Raises:
            GarrisonError: it will never be.
        """

    @abstractmethod
    def address(self) -> str:
        """Return where its callers reach it."""

    @abstractmethod
    def has_callers(self) -> bool:
        """Say whether there may be requests in flight: it runs, and has taken some."""

    @abstractmethod
    def drain(self) -> None:
        """Wait for the requests in flight."""

    def start(self) -> None:
        """Start the process for the first time."""
        self._child = self.launch()

    def refuse(self) -> None:  # noqa: B027 - a part that nobody asks has nothing to do
        """Say no to whoever asks whether it is ready: a stop begins, or the process has ended."""

    def replace_dead(self) -> None:
        """Start the process again if it has ended.

        Raises:
            Undecided: it ends too often.
        """
        child = self._child
        code = None if child is None else child.exit_code()
        if child is None or code is None:
            return
        child.stop(0)
        self.refuse()
        self._count_restart(child, code)
        self.log.tell("restarting", f"{child.name} ended ({describe_exit(code)}); starting it again")
        self._child = self.launch()

    def stop(self) -> None:
        """End the process and everything that belongs to it."""
        if self._child is not None:
            self._child.stop(STOP_TIMEOUT_S)

    def is_running(self) -> bool:
        """Say whether the process is there."""
        return self._child is not None and self._child.exit_code() is None

    def pids(self) -> list[int]:
        """Return the process's id, if it was started."""
        return [] if self._child is None else [self._child.pid]

    def sink(self) -> Callable[[bytes], None]:
        """Return what takes the process's lines."""
        return lambda line: self.log.relay(self.gate, line)

    def _count_restart(self, child: Child, code: int) -> None:
        now = time.monotonic()
        recent = [moment for moment in self._restarts if now - moment < RESTART_WINDOW_S]
        limit = MAX_RESTARTS if self.lifetime.ready.is_set() else 0  # what ends before it was ever ready will end again
        if len(recent) >= limit:
            raise Undecided(f"{child.name} ended ({describe_exit(code)}){last_words(child)}")
        self._restarts = [*recent, now]
        self.restarts += 1
        self.lifetime.stopping.wait(min(2 ** len(recent), 30) / 2)
