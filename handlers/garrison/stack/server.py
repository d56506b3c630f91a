"""TorchServe as a part of a run: admitted models enter, sockets for a gateway and for whoever watches are there.

Where the gateway is another container, a stop tells it first, and waits until it has gone: see `drain`.
"""

import http
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from garrison.admission.store import AdmittedModel
from garrison.archive import PackedModel
from garrison.audit import LOG_FILE
from garrison.cell.posture import find_faults, judge
from garrison.cell.probe import probe_posture
from garrison.cell.reach import check_out_of_reach
from garrison.cell.settings import FILE as CELL_FILE
from garrison.cell.settings import CellSettings, load_cell
from garrison.contract import TORCHSERVE
from garrison.errors import ConfigError, Undecided
from garrison.eventlog import EventLog
from garrison.gateway.upstreams import HEALTH_INTERVAL_S
from garrison.process import Child, load_failure
from garrison.profile import read_watched
from garrison.sockets import INFERENCE, READY, STATUS, WATCH, SocketDirectory
from garrison.stack.admissions import Admissions
from garrison.stack.admitted import ServerSettings, find_unsafe, open_admitted
from garrison.stack.connections import find_connections
from garrison.stack.described import ServedModel
from garrison.stack.memory import count_killed
from garrison.stack.part import STOP_TIMEOUT_S, Lifetime, Part
from garrison.torchserve.readiness import ModelMonitor, ModelState, ReadinessServer
from garrison.torchserve.served import write_served
from garrison.torchserve.server import ServerPlan, build_command, build_environment, check_plan, prepare_directories
from garrison.unix_http import Page, UnixServer
from garrison.watch import families
from garrison.watch.page import CONTENT_TYPE
from garrison.watch.series import Series
from garrison.watch.workers import Workers

START_TIMEOUT_S = 180
STUCK_AFTER_S = 300  # TorchServe gives up restarting a worker after this long; then we restart TorchServe
MAX_FAILED_STARTS = 3
NOTICED_AFTER_S = HEALTH_INTERVAL_S + 1  # a gateway in another container has seen our 503 by then
ANSWER_MARGIN_S = 2  # beyond the longest timeout of a contract
DRAIN_POLL_S = 0.1
GATES = ("launcher", "server", "contract", "cell")  # whose lines are counted on this page


class ServerPart(Part):
    """TorchServe, its readiness and its metrics."""

    title, gate = "TorchServe", "server"

    def __init__(
        self,
        settings: ServerSettings,
        private: tuple[Path, ...],
        lifetime: Lifetime,
        models: Sequence[AdmittedModel] | None = None,
    ) -> None:
        super().__init__(lifetime)
        self.settings = settings
        self._given = models  # admitted and opened already; otherwise this part does it
        self._private = private  # what no model may be able to read
        self._sockets: SocketDirectory | None = None
        self._listeners: dict[str, UnixServer | ReadinessServer] = {}
        self._killed = count_killed()
        self._workers_seen: dict[str, frozenset[int]] = {}
        self._failed_starts: dict[str, set[int]] = {}
        self._sweep_failure = ""
        self._not_ours: frozenset[str] = frozenset()
        self._states: list[ModelState] = []
        self._status: UnixServer | None = None
        self.has_served = False

    @property
    def models(self) -> tuple[PackedModel, ...]:
        """What is served."""
        return tuple(model.packed for model in self._admitted)

    def check(self) -> None:
        """Open the store, and close a cell.

        Raises:
            ConfigError: with every problem found.
            ArtifactRefused: a model is not admitted, or is not what was admitted.
        """
        self._admitted = self._given or open_admitted(self.settings, self.log, TORCHSERVE)
        self._cell = open_cell(self.settings.config / CELL_FILE, self.log)
        self._unsafe = find_unsafe(self.settings)
        self._admissions = Admissions(self.settings.store / LOG_FILE, self.log)
        self._admissions.look()

    def prepare(self, run_directory: Path) -> None:
        """Write what TorchServe and the supervisors will read.

        Raises:
            ConfigError: with every problem found.
        """
        shared = self.settings.sockets
        self._sockets = SocketDirectory(run_directory) if shared is None else SocketDirectory.claim(shared)
        check_out_of_reach((*self._private, self.settings.store, run_directory, self._sockets.path))
        served, scratch = run_directory / "models", run_directory / "tmp"
        for model in self._admitted:
            write_served(model.packed, model.record, model.directory, served / model.record.model)
        self.plan = ServerPlan(
            self.models, served, self.settings.config, run_directory, self._sockets.path, scratch, self._cell
        )
        check_plan(self.plan)
        prepare_directories(self.plan)
        names = [model.contract.model for model in self.models]
        watched = {model.contract.model: read_watched(model) for model in self.models}
        self._workers = Workers(self.plan.cells_directory, self.plan.workers_directory, watched, self._cell)
        self._monitor = ModelMonitor(self.plan.management_socket, names)

    def start(self) -> None:
        """Listen for who asks, and start TorchServe."""
        self._readiness = ReadinessServer(self.plan.sockets_directory / READY)
        self._listeners[READY] = self._readiness
        self._listeners[WATCH] = UnixServer(self.plan.sockets_directory / WATCH, self._render_metrics)
        for name in self._listeners:
            self._grant(name)
        self._status = UnixServer(self.plan.run_directory / STATUS, self._describe)
        self._started = self._last_ready = time.monotonic()
        super().start()

    def launch(self) -> Child:
        """Start TorchServe; sockets that a killed one left behind would be in its way."""
        for path in (self.plan.management_socket, self.plan.metrics_socket, self.plan.sockets_directory / INFERENCE):
            path.unlink(missing_ok=True)
        environment = build_environment(self.plan)
        return Child("TorchServe", build_command(self.plan), environment, self.plan.scratch_directory, self.sink())

    def refuse(self) -> None:
        """Say 503 on the readiness socket until every model has answered again."""
        if self._listeners:
            self._readiness.refuse()
            self._monitor.forget()

    def watch(self) -> bool:
        """Ask TorchServe about every model, count what the workers did, and tell what has changed.

        Raises:
            ConfigError: a model's workers cannot start.
        """
        self._keep_sockets()
        self._tell_killed()
        self._sweep_workers()
        self._admissions.look()
        states = self._states = self._monitor.poll()
        self._tell_workers(states)
        ready = all(state.ready for state in states) and self._grant(INFERENCE)
        if ready and not self._readiness.serving:
            self._note_strangers()
        self._readiness.ready = ready
        self._readiness.serving = ready or self._readiness.serving
        self.has_served = ready or self.has_served
        now = time.monotonic()
        if ready:
            self._last_ready = now
        elif not self.lifetime.ready.is_set():
            self._check_start(states, now - self._started)
        elif now - self._last_ready > STUCK_AFTER_S:
            self.log.tell("stuck", f"a model has had no worker for {STUCK_AFTER_S} s; starting TorchServe again")
            self.refuse()
            if self._child is not None:
                self._child.stop(STOP_TIMEOUT_S)
            self._last_ready = now
        return ready

    def address(self) -> str:
        """Return where a gateway sends requests."""
        return str(self.plan.sockets_directory / INFERENCE)

    def has_callers(self) -> bool:
        """Say whether requests were sent here."""
        return self.has_served and self.is_running()

    def drain(self) -> None:
        """Wait until a gateway in another container has seen our 503 and the last of its connections is gone.

        A gateway beside us was drained and has ended before.
        """
        if self.settings.sockets is None or not self.is_running():
            return
        longest = max(model.contract.workers.timeout_s for model in self.models) + ANSWER_MARGIN_S
        began = time.monotonic()
        time.sleep(NOTICED_AFTER_S)
        while self.is_running() and self._is_connected():
            if time.monotonic() - began > NOTICED_AFTER_S + longest:
                self.log.tell("drain_timeout", f"a gateway was still connected after {longest} s; it is cut off")
                return
            time.sleep(DRAIN_POLL_S)

    def stop(self) -> None:
        """End TorchServe, and remove the sockets."""
        super().stop()
        while self._listeners:
            self._listeners.popitem()[1].close()
        if self._status is not None:
            self._status.close()
        if self._sockets is not None:
            self._sockets.close()

    def _keep_sockets(self) -> None:
        """Make again what somebody removed: nobody could connect to it any more."""
        for name, listener in self._listeners.items():
            if not self._grant(name):
                self.log.tell("socket_lost", f"{self.plan.sockets_directory / name} was removed; it is made again")
                listener.reopen()
                self._grant(name)
        if self._readiness.serving and self._child is not None and not self._grant(INFERENCE):
            path = self.plan.sockets_directory / INFERENCE
            self.log.tell("socket_lost", f"{path} was removed; starting TorchServe again, which makes it")
            self.refuse()
            self._child.stop(STOP_TIMEOUT_S)

    def _tell_killed(self) -> None:
        killed = count_killed()
        if killed > self._killed:
            number = killed - self._killed
            what = "the kernel killed a process" if number == 1 else f"the kernel killed {number} processes"
            self.log.tell("out_of_memory", f"{what}: this container's memory was full; give it more, or fewer workers")
        self._killed = killed

    def _grant(self, name: str) -> bool:
        return self._sockets is not None and self._sockets.grant(name)

    def _note_strangers(self) -> None:
        """Remember which sockets of TorchServe's are of no table before the first request: they are no connections."""
        try:
            self._not_ours = find_connections(self.pids()[0], self.plan.sockets_directory / INFERENCE)
        except Undecided:
            self._not_ours = frozenset()

    def _is_connected(self) -> bool:
        try:
            found = find_connections(self.pids()[0], self.plan.sockets_directory / INFERENCE)
        except Undecided:
            return self.is_running()  # nobody knows, so there is time for all of them
        return bool(found - self._not_ours)

    def _sweep_workers(self) -> None:
        try:
            news, self._sweep_failure = self._workers.sweep(), ""
        except Undecided as error:
            news = () if str(error) == self._sweep_failure else (str(error),)
            self._sweep_failure = str(error)
        for sentence in news:
            self.log.tell("metrics_failed", sentence)

    def _tell_workers(self, states: list[ModelState]) -> None:
        if not self.lifetime.ready.is_set():
            return
        for state in states:
            known = self._workers_seen.get(state.model, state.pids)
            gone, new = known - state.pids, state.pids - known
            for pid in sorted(gone):
                self.log.tell("worker_ended", f"a worker of {state.model} ended (pid {pid}); TorchServe starts another")
            for pid in sorted(new):
                self.log.tell("worker_ready", f"a new worker of {state.model} is ready (pid {pid})")
            self._workers_seen[state.model] = state.pids

    def _check_start(self, states: list[ModelState], waited_s: float) -> None:
        for state in states:
            tried = self._failed_starts.setdefault(state.model, set())
            tried.update(state.tried_pids)
            workers = next(m.contract.workers.count for m in self.models if m.contract.model == state.model)
            if not state.ready and (len(tried) > MAX_FAILED_STARTS * workers or waited_s > START_TIMEOUT_S):
                words = "" if self._child is None else load_failure(self._child, state.model)
                raise ConfigError(f"model {state.model}: its workers end before they are ready{words}")

    def _describe(self, _: str) -> Page:
        """Say what is served, as it was seen last: whoever asks costs TorchServe nothing and reaches nothing of it."""
        states = {state.model: state for state in self._states}
        models = [_describe_model(model, states.get(model.record.model)) for model in self._admitted]
        body = json.dumps({"ready": self._readiness.ready, "models": list(map(asdict, models))}).encode()
        return Page(http.HTTPStatus.OK, "application/json", body)

    def _measure(self) -> Iterator[tuple[Series, float]]:
        yield (families.RESTARTS.name, ("torchserve",)), self.restarts
        for setting, is_set in self._unsafe.items():
            yield (families.LAUNCHER_UNSAFE.name, (setting,)), is_set
        yield from self._admissions.measure()
        for model in self._admitted:
            yield (families.VERIFICATION_SECONDS.name, (model.record.model,)), model.verified_in_s
        for gate in GATES:
            yield (families.LOG_CUT.name, (gate,)), self.log.cut[gate]

    def _render_metrics(self, _: str) -> Page:
        try:
            return Page(http.HTTPStatus.OK, CONTENT_TYPE, self._workers.render(dict(self._measure())))
        except Undecided as error:
            self.log.tell("metrics_failed", str(error))
            return Page(http.HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain", b"the metrics cannot be read")


def _describe_model(model: AdmittedModel, state: ModelState | None) -> ServedModel:
    working = frozenset[int]() if state is None else state.pids
    waiting = frozenset[int]() if state is None else state.tried_pids - state.pids
    return ServedModel(
        model.record.model,
        model.record.version,
        model.record.digest,
        ready=state is not None and state.ready,
        wanted=model.packed.contract.workers.count,
        working=tuple(sorted(working)),
        waiting=tuple(sorted(waiting)),
    )


def open_cell(path: Path, log: EventLog) -> CellSettings:
    """Read `cell.yaml`, and check by closing a cell that this machine can give what it requires.

    Raises:
        ConfigError: the file is wrong, or the kernel lacks something; each sentence says what and what to do.
    """
    settings = load_cell(path)
    posture = probe_posture(settings)
    judge(posture, settings)
    if settings.unsafe_without:
        missing = ", ".join(find_faults(posture, settings)) or "nothing, on this machine: take it out"
        allowed = ", ".join(settings.unsafe_without)
        log.tell(
            "unsafe_cell", f"{path}: unsafe_without: [{allowed}]: models may run in a weaker cell; missing: {missing}"
        )
    return settings
