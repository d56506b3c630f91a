"""TensorFlow Serving as a part of a run: admitted SavedModels enter, a socket for the guard is there.

Nothing but the guard ever asks it. Where that is another container, a stop waits until the guard has finished what it
began, which has a deadline each.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from garrison.admission.store import AdmittedModel
from garrison.archive import PackedModel
from garrison.contract import TFSERVING
from garrison.errors import ConfigError
from garrison.process import Child, last_words
from garrison.sockets import GUARD_GRPC, READY, SocketDirectory
from garrison.stack.part import Lifetime, Part
from garrison.tfserving.readiness import ModelWatch
from garrison.tfserving.server import (
    Served,
    TensorFlowPlan,
    build_command,
    build_environment,
    check_plan,
    prepare_files,
)
from garrison.torchserve.readiness import ReadinessServer

SOCKETS = (GUARD_GRPC, READY)
OWN_SOCKETS = "tfserving"  # the directory in the run directory, where the guard is a process of the same user
OWN_PLACE = "tensorflow"  # and that of the copies, the rendered files and the scratch directory
START_TIMEOUT_S = 300
NOTICED_AFTER_S = 2.0  # a guard asks once a second

FindModels = Callable[[], Sequence[AdmittedModel]]


class TensorFlowPart(Part):
    """TensorFlow Serving, and its readiness."""

    title, gate = "TensorFlow Serving", "tfserving"

    def __init__(
        self, find_models: FindModels, binary: Path, config: Path, sockets: Path | None, lifetime: Lifetime
    ) -> None:
        super().__init__(lifetime)
        self._find_models, self._binary, self._config, self._wanted = find_models, binary, config, sockets
        self._sockets: SocketDirectory | None = None
        self._readiness: ReadinessServer | None = None
        self._watch: ModelWatch | None = None
        self._available: frozenset[str] = frozenset()
        self._started = 0.0

    @property
    def models(self) -> tuple[PackedModel, ...]:
        """What is served."""
        return tuple(model.packed for model in self._admitted)

    def check(self) -> None:
        """Open the store, and look at the binary and its flags.

        Raises:
            ConfigError: with every problem of the first that has any.
            ArtifactRefused: a model is not admitted, or is not what was admitted.
        """
        self._admitted = [model for model in self._find_models() if model.packed.contract.server == TFSERVING]
        if not self._admitted:
            raise ConfigError("the store holds no SavedModel; admit one with `garrison admit`")
        check_plan(self._plan(Path("/run"), Path("/run")))

    def prepare(self, run_directory: Path) -> None:
        """Copy the models, and write what the server reads.

        Raises:
            ConfigError: with every problem found.
            ArtifactRefused: a model is not what was admitted.
        """
        self._sockets = self._claim(run_directory)
        own = run_directory / OWN_PLACE
        own.mkdir(mode=0o700)
        self.plan = self._plan(own, self._sockets.path)
        check_plan(self.plan)
        prepare_files(self.plan)

    def start(self) -> None:
        """Listen for who asks whether it is ready, and start the server."""
        directory = self._directory()
        self._readiness = ReadinessServer(directory.path / READY)
        directory.grant(READY)
        versions = {model.record.model: int(model.record.version) for model in self._admitted}
        self._watch = ModelWatch(self.plan.socket, versions)
        super().start()

    def launch(self) -> Child:
        """Start the server; a socket that a killed one left behind would be in its way."""
        self.plan.socket.unlink(missing_ok=True)
        self._started = time.monotonic()
        environment = build_environment(self.plan)
        return Child(self.title, build_command(self.plan), environment, self.plan.scratch_directory, self.sink())

    def sink(self) -> Callable[[bytes], None]:
        """Return what takes its lines: it writes no events, and its words may hold what a client sent."""
        return lambda line: self.log.relay_text(self.gate, line)

    def watch(self) -> bool:
        """Let the guard connect, and ask about every model.

        Raises:
            ConfigError: a model cannot be loaded.
        """
        if self._watch is None or self._readiness is None:
            return False
        connects = self._directory().grant(GUARD_GRPC)
        available = self._watch.poll() if connects else frozenset()
        self._tell(available)
        ready = len(available) == len(self._admitted)
        self._readiness.ready = self._readiness.serving = ready
        if not ready and not self.lifetime.ready.is_set():
            self._check_start()
        return ready

    def address(self) -> str:
        """Return where the guard sends requests."""
        return str(self.plan.socket)

    def refuse(self) -> None:
        """Say 503 on the readiness socket until every model is there again."""
        if self._readiness is not None:
            self._readiness.refuse()

    def has_callers(self) -> bool:
        """Say whether there may be requests in flight."""
        return bool(self._available) and self.is_running()

    def drain(self) -> None:
        """Wait until a guard in another container has finished; one beside us has ended before."""
        if self._wanted is not None and self.is_running():
            time.sleep(NOTICED_AFTER_S)

    def stop(self) -> None:
        """End the server, and remove the sockets."""
        if self._watch is not None:
            self._watch.close()
        super().stop()
        if self._readiness is not None:
            self._readiness.close()
        if self._sockets is not None:
            self._sockets.close()

    def _plan(self, run_directory: Path, sockets: Path) -> TensorFlowPlan:
        models = tuple(Served(one.packed.contract, one.record, one.directory) for one in self._admitted)
        return TensorFlowPlan(models, self._binary, self._config, run_directory, sockets)

    def _claim(self, run_directory: Path) -> SocketDirectory:
        if self._wanted is not None:
            return SocketDirectory.claim(self._wanted, SOCKETS)
        own = run_directory / OWN_SOCKETS
        own.mkdir(mode=0o700)
        return SocketDirectory(own, names=SOCKETS)

    def _directory(self) -> SocketDirectory:
        if self._sockets is None:
            raise ConfigError("the directory of sockets was not taken")
        return self._sockets

    def _tell(self, available: frozenset[str]) -> None:
        for name in sorted(available - self._available):
            self.log.tell("model_available", f"TensorFlow Serving takes requests for {name}")
        for name in sorted(self._available - available):
            self.log.tell("model_unavailable", f"TensorFlow Serving does not take requests for {name}")
        self._available = available

    def _check_start(self) -> None:
        failed = self._watch.failed if self._watch is not None else {}
        if failed:
            told = "; ".join(f"{name}: {why}" for name, why in sorted(failed.items()))
            raise ConfigError(f"TensorFlow Serving cannot load a model: {told}; mend it and pack it again")
        if self._child is not None and time.monotonic() - self._started > START_TIMEOUT_S:
            told = f"TensorFlow Serving has not loaded its models in {START_TIMEOUT_S} s"
            raise ConfigError(f"{told}{last_words(self._child)}")
