"""Run parts until told to stop: `prepare` refuses with all problems before anything starts, `run` keeps them running.

On SIGTERM or SIGINT the parts are drained and stopped, the last first, and every file that they made is removed.
"""

import contextlib
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from garrison.errors import Undecided
from garrison.files import RunDirectory
from garrison.process import adopt_orphans, end_orphans, reap_orphans
from garrison.stack.part import Lifetime, Part

POLL_INTERVAL_S = 0.5


class Runner:
    """Servers as children of this process; requests go from the last part to the first."""

    def __init__(self, parts: Sequence[Part], lifetime: Lifetime, run_directory: Path | None = None) -> None:
        self._parts = parts
        self._lifetime = lifetime
        self._log = lifetime.log
        self._wanted = run_directory
        self._running = False

    def prepare(self) -> None:
        """Check everything and write what the servers will read; starts nothing.

        Raises:
            ConfigError: with every problem found.
            ArtifactRefused: a model is not admitted, or is not what was admitted.
        """
        for part in self._parts:
            part.check()
        self._place = RunDirectory(self._wanted)
        try:
            for part in self._parts:
                part.prepare(self._place.path)
        except BaseException:
            for part in self._parts:
                part.stop()
            self._place.remove()
            raise

    def run(self) -> None:
        """Start everything, keep it running until `stop` is called, then stop everything.

        Raises:
            ConfigError: a model's workers cannot start.
            Undecided: a server keeps ending, or the log cannot be written.
        """
        started = time.monotonic()
        self._running = True
        adopt_orphans()
        try:
            for part in self._parts:
                part.start()
            self._log.tell("starting", f"starting {' and '.join(part.title for part in self._parts)} ...")
            self._supervise(started)
        finally:
            self._stop_all()

    def stop(self) -> None:
        """Ask `run` to end; safe to call from a signal handler or another thread."""
        self._lifetime.stopping.set()

    def interrupt(self) -> None:
        """Stop from a signal handler: by asking `run`, or, before it began, by leaving `prepare` where it is.

        Raises:
            KeyboardInterrupt: nothing runs yet.
        """
        if not self._running:
            raise KeyboardInterrupt
        self.stop()

    def handle_signals(self) -> None:
        """Let SIGTERM, SIGINT and the end of a terminal session stop the run."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: self.interrupt())

    def _supervise(self, started: float) -> None:
        ready = self._lifetime.ready
        while not self._lifetime.stopping.wait(POLL_INTERVAL_S):
            if self._log.failure:
                raise Undecided(f"the log cannot be written ({self._log.failure}); what is not logged is not seen")
            for part in self._parts:
                part.replace_dead()
            reap_orphans(self._pids())
            states = [part.watch() for part in self._parts]
            if all(states) and not ready.is_set():
                ready.set()
                address = self._parts[-1].address()
                self._log.tell("ready", f"ready after {time.monotonic() - started:.1f} s: {address}")

    def _pids(self) -> list[int]:
        return [pid for part in self._parts for pid in part.pids()]

    def _stop_all(self) -> None:
        has_callers = self._parts[-1].has_callers()
        for part in self._parts:
            part.refuse()  # load balancers see it before the first connection is refused
        with contextlib.ExitStack() as steps:  # in the other order, and all of them whatever one of them meets
            steps.callback(self._place.remove)
            steps.callback(lambda: end_orphans(self._pids()))
            for part in self._parts:
                steps.callback(part.stop)
                if has_callers:
                    steps.callback(part.drain)
            if has_callers:
                self._log.tell("draining", "stopping: waiting for the requests in flight ...")
        self._log.tell("stopped", "stopped")
