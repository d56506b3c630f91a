"""The guard as parts of a run: one part for each of its processes, each with a directory of sockets of its own.

The contracts are read from the store, as admitted, and handed to the processes as files in the run directory; nothing
else of a model reaches them.
"""

import contextlib
import http.client
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from garrison.admission.store import AdmittedModel
from garrison.archive import CONTRACT_FILE
from garrison.contract import TFSERVING, TORCHSERVE
from garrison.errors import ConfigError
from garrison.files import make_private_directory, write_atomically
from garrison.process import Child
from garrison.record import RecordedFiles
from garrison.sockets import GUARD_GRPC, GUARD_REST, GUARD_SOCKETS, INFERENCE, READY, SHARED_MODE, SocketDirectory
from garrison.stack.part import Lifetime, Part
from garrison.unix_http import send_request

MODULE = "garrison.guard"
ENVIRONMENT = {"LANG": "C.UTF-8", "GRPC_VERBOSITY": "ERROR"}
CONTRACTS = "contracts"
START_TIMEOUT_S = 30.0
STATUS_TIMEOUT_S = 2.0
STUCK_AFTER_S = 30.0
STUCK = b"stuck"  # in what a process says whose event loop does not turn
DRAIN_MARGIN_S = 6.0  # beyond the longest timeout: until the gateway has noticed, and for the answers
DRAIN_POLL_S = 0.05

FindModels = Callable[[], Sequence[AdmittedModel]]


@dataclass(frozen=True)
class GuardPlaces:
    """Where the guard makes its sockets, and where those are that it asks: TF Serving's directory, and TorchServe's.

    Process i has the directory i in `sockets`. Without `sockets` the gateway is a process of the same user, and finds
    them in the run directory. What is no absolute path is one in the run directory.
    """

    sockets: Path | None
    backend: Path | None
    torchserve: Path | None

    def servers(self) -> tuple[str, ...]:
        """Return for which servers the guard speaks."""
        named = ((TFSERVING, self.backend), (TORCHSERVE, self.torchserve))
        return tuple(server for server, place in named if place is not None)


class GuardPart(Part):
    """One process of the guard."""

    gate = "guard"

    def __init__(self, places: GuardPlaces, index: int, find_models: FindModels, lifetime: Lifetime) -> None:
        super().__init__(lifetime)
        self.title = f"guard {index}"
        self._places = places
        self._index = index
        self._find_models = find_models
        self._sockets: SocketDirectory | None = None
        self._told_to_stop = 0
        self._made = False  # all its sockets, by the process that runs now

    def check(self) -> None:
        """Open the store, and see that there is something to guard.

        Raises:
            ConfigError: there is not.
            ArtifactRefused: a model is not admitted, or is not what was admitted.
        """
        self._models = [
            model for model in self._find_models() if model.packed.contract.server in self._places.servers()
        ]
        if not self._models:
            wanted = " or ".join(self._places.servers())
            raise ConfigError(f"the store holds no model for {wanted}; admit one with `garrison admit`")

    def prepare(self, run_directory: Path) -> None:
        """Take the directory of sockets, and write the contracts for the process.

        Raises:
            ConfigError: the directory cannot be used.
            ArtifactRefused: a contract is not what was admitted.
        """
        self._run_directory = run_directory
        self._sockets = self._claim(run_directory)
        make_private_directory(run_directory / CONTRACTS)
        for model in self._models:
            contract = RecordedFiles(model.directory, model.record).read(CONTRACT_FILE)
            write_atomically(run_directory / CONTRACTS / f"{model.record.model}.yaml", contract, 0o600)

    def launch(self) -> Child:
        """Start the process; sockets that a killed one left behind would be in its way."""
        directory = self._directory()
        directory.clear()
        self._started = self._turned_at = time.monotonic()
        self._told_to_stop, self._made = 0, False
        command = [sys.executable, "-I", "-m", MODULE, "--directory", str(directory.path)]
        command += ["--contracts", str(self._run_directory / CONTRACTS)]
        if self._places.backend is not None:
            command += ["--backend", str(self._run_directory / self._places.backend / GUARD_GRPC)]
        if self._places.torchserve is not None:
            command += ["--torchserve", str(self._run_directory / self._places.torchserve / INFERENCE)]
        return Child(self.title, command, ENVIRONMENT, self._run_directory, self.sink())

    def watch(self) -> bool:
        """Let the gateway connect, and ask whether requests are taken.

        Raises:
            ConfigError: the process makes no sockets.
        """
        directory = self._directory()
        lost = [name for name in GUARD_SOCKETS if not directory.grant(name)]
        if lost and self._made and self.is_running():
            self._replace("socket_lost", f"{directory.path / lost[0]} was removed; starting {self.title} again")
        if lost:
            waited_s = time.monotonic() - self._started
            if waited_s > START_TIMEOUT_S and not self.lifetime.ready.is_set():
                raise ConfigError(f"{directory.path}: {self.title} has made no sockets in {waited_s:.0f} s")
            return False
        self._made = True
        return self._ask()

    def address(self) -> str:
        """Return where a gateway sends requests."""
        directory = self._directory().path
        return f"{directory / GUARD_REST} and {directory / GUARD_GRPC}"

    def has_callers(self) -> bool:
        """Say whether there may be requests in flight."""
        return self.lifetime.ready.is_set() and self.is_running()

    def refuse(self) -> None:
        """Tell the process to say no to whoever asks whether it is ready, and to finish what it has begun."""
        if self.is_running() and not self._told_to_stop:
            self._told_to_stop = self.pids()[0]
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._told_to_stop, signal.SIGTERM)

    def drain(self) -> None:
        """Wait for the process to end; it does when what is in flight is finished."""
        longest = max(model.packed.contract.workers.timeout_s for model in self._models) + DRAIN_MARGIN_S
        deadline = time.monotonic() + longest
        while self.is_running() and self._told_to_stop:
            if time.monotonic() > deadline:
                self.log.tell("drain_timeout", f"{self.title} still had requests after {longest:.0f} s; cut off")
                return
            time.sleep(DRAIN_POLL_S)

    def stop(self) -> None:
        """End the process, and remove the sockets."""
        super().stop()
        if self._sockets is not None:
            self._sockets.close()
            self._sockets = None

    def _claim(self, run_directory: Path) -> SocketDirectory:
        name = str(self._index)
        if self._places.sockets is not None:
            return SocketDirectory.claim(self._places.sockets / name, GUARD_SOCKETS)
        own = guard_directory(run_directory, self._index)
        make_private_directory(own.parent)
        make_private_directory(own)
        return SocketDirectory(own, names=GUARD_SOCKETS)

    def _directory(self) -> SocketDirectory:
        if self._sockets is None:
            raise ConfigError("the guard's directory of sockets was not taken")
        return self._sockets

    def _ask(self) -> bool:
        """Ask the process whether it takes requests; one that hangs is ended, and started again."""
        now, body = time.monotonic(), STUCK
        with contextlib.suppress(OSError, http.client.HTTPException):
            answer = send_request(self._directory().path / READY, "GET", "/", STATUS_TIMEOUT_S)
            if answer.status == http.HTTPStatus.OK:
                self._turned_at = now
                return True
            body = answer.body
        if STUCK not in body:
            self._turned_at = now
        elif now - self._turned_at > STUCK_AFTER_S and self.is_running():
            self._replace("stuck", f"{self.title} has not answered for {STUCK_AFTER_S:.0f} s; starting it again")
        return False

    def _replace(self, event: str, sentence: str) -> None:
        """End the process, which is then started again like any other that has ended."""
        self.log.tell(event, sentence)
        self._made = False
        if self._child is not None:
            self._child.stop(0)


def guard_directory(run_directory: Path, index: int) -> Path:
    """Return where process `index` has its sockets when the gateway is a process of the same user."""
    return run_directory / "guard" / str(index)


def check_sockets(wanted: Path) -> None:
    """Make the directory in which each process has its own, if it is missing: its group may enter it.

    Raises:
        ConfigError: it cannot be made, or everybody may enter it.
    """
    try:
        if not wanted.is_dir():
            wanted.mkdir()
            wanted.chmod(SHARED_MODE | 0o110)
        mode = wanted.stat().st_mode
    except OSError as error:
        raise ConfigError(f"{wanted}: cannot be made ({error.strerror}); give another --sockets") from error
    if mode & 0o007:
        raise ConfigError(f"{wanted}: everybody may enter it; run `chmod o-rwx {wanted}`")
