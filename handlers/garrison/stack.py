"""Run the whole stack as local processes: admitted models enter, a gateway on one TCP port answers until it is stopped.

`prepare` checks everything that can be known before a process starts and refuses with all problems at once; `run`
starts TorchServe and Envoy, restarts what dies, and on SIGTERM or SIGINT drains at the gateway first, then stops
everything and removes every file it made.
"""

import contextlib
import http
import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from garrison.admission.admit import Policy, admit, find_sources
from garrison.admission.serving import open_store
from garrison.admission.settings import FILE as ADMISSION_FILE
from garrison.admission.settings import load_admission
from garrison.admission.sign.trust import load_trust
from garrison.admission.store import AdmittedModel, Store
from garrison.archive import CONTRACT_FILE, PackedModel
from garrison.cell.posture import find_faults, judge
from garrison.cell.probe import probe_posture
from garrison.cell.reach import check_out_of_reach
from garrison.cell.settings import FILE as CELL_FILE
from garrison.cell.settings import CellSettings, load_cell
from garrison.contract import load_contract
from garrison.errors import ArtifactRefused, ConfigError, GarrisonError, Undecided
from garrison.eventlog import EventLog
from garrison.files import RunDirectory
from garrison.gateway.certificates import Certificate, ensure_certificate
from garrison.gateway.drain import drain_envoy
from garrison.gateway.envoy import GatewaySockets, envoy_command, find_envoy, render_envoy, validate_envoy
from garrison.gateway.keys import public_jwks
from garrison.gateway.settings import load_clients, load_gateway
from garrison.process import (
    Child,
    adopt_orphans,
    describe_exit,
    end_orphans,
    last_words,
    load_failure,
    reap_orphans,
)
from garrison.torchserve.readiness import ModelMonitor, ModelState, ReadinessServer
from garrison.torchserve.served import write_served
from garrison.torchserve.server import ServerPlan, build_command, build_environment, check_plan, prepare_directories
from garrison.unix_http import Page, UnixServer
from garrison.watch.page import CONTENT_TYPE
from garrison.watch.workers import Workers

START_TIMEOUT_S = 180
STUCK_AFTER_S = 300  # TorchServe gives up restarting a worker after this long; then we restart TorchServe
POLL_INTERVAL_S = 0.5
STOP_TIMEOUT_S = 10
MAX_RESTARTS = 5
RESTART_WINDOW_S = 300
MAX_FAILED_STARTS = 3
ENVOY_LOG_FORMAT = '{"time":"%Y-%m-%dT%T.%e%z","gate":"gateway","event":"log","level":"%l","message":"%j"}'


@dataclass(frozen=True)
class StackSettings:
    """Where the stack finds its parts and where it listens.

    What lies in `models` is admitted to the store first, and then served alone; without it, all of the store is served.
    """

    models: Path | None
    store: Path
    trust: Path
    config: Path
    state: Path
    port: int
    run_directory: Path | None = None


class Stack:
    """TorchServe and its gateway on one machine."""

    def __init__(self, settings: StackSettings, log: EventLog) -> None:
        self.settings = settings
        self.log = log
        self.admitted: tuple[AdmittedModel, ...] = ()
        self.ready = threading.Event()
        self._stopping = threading.Event()
        self._running = False
        self._children: dict[str, Child] = {}
        self._starts: dict[str, Callable[[], Child]] = {"server": self._start_server, "gateway": self._start_gateway}
        self._restarts: dict[str, list[float]] = {"server": [], "gateway": []}
        self._workers: dict[str, frozenset[int]] = {}
        self._failed_starts: dict[str, set[int]] = {}
        self._sweep_failure = ""

    def prepare(self) -> None:
        """Check everything and write what the servers will read; starts nothing.

        Raises:
            ConfigError: with every problem found.
            ArtifactRefused: a model is not admitted, or is not what was admitted.
        """
        self.admitted = open_admitted(self.settings, self.log)
        self.gateway = load_gateway(self.settings.config / "gateway.yaml")
        self.cell = open_cell(self.settings.config / CELL_FILE, self.log)
        check_port(self.gateway.address, self.settings.port)
        self.certificate = ensure_certificate(self.settings.state / "certificates")
        self._place = RunDirectory(self.settings.run_directory)
        self.run_directory = self._place.path
        try:
            self._prepare_servers()
        except BaseException:
            self._place.remove()
            raise

    def run(self) -> None:
        """Start everything, keep it running until `stop` is called, then stop everything.

        Raises:
            ConfigError: a model's workers cannot start, or a server keeps ending.
        """
        started = time.monotonic()
        self._running = True
        adopt_orphans()
        with contextlib.ExitStack() as parts:
            parts.callback(self._place.remove)
            readiness = ReadinessServer(self.run_directory / "ready.sock")
            parts.callback(readiness.close)
            parts.callback(UnixServer(self.run_directory / "watch.sock", self._render_metrics).close)
            monitor = ModelMonitor(self.plan.management_socket, [model.contract.model for model in self.models])
            try:
                for name, start in self._starts.items():
                    self._children[name] = start()
                self.log.tell("starting", "starting TorchServe and the gateway ...")
                self._supervise(monitor, readiness, started)
            finally:
                self._stop_all(parts.pop_all(), readiness)

    def stop(self) -> None:
        """Ask `run` to end; safe to call from a signal handler or another thread."""
        self._stopping.set()

    def interrupt(self) -> None:
        """Stop from a signal handler: by asking `run`, or, before it began, by leaving `prepare` where it is.

        Raises:
            KeyboardInterrupt: nothing runs yet.
        """
        if not self._running:
            raise KeyboardInterrupt
        self.stop()

    def render_gateway(self) -> dict[str, Any]:
        """Return Envoy's configuration for the prepared models."""
        return render_gateway(self.settings, self.models, self.certificate, gateway_sockets(self.run_directory))

    @property
    def models(self) -> tuple[PackedModel, ...]:
        """What is served."""
        return tuple(model.packed for model in self.admitted)

    def _prepare_servers(self) -> None:
        check_out_of_reach((self.settings.state, self.settings.store, self.run_directory))
        scratch = self.run_directory / "tmp"
        served = self.run_directory / "models"
        for model in self.admitted:
            write_served(model.packed, model.record, model.directory, served / model.record.model)
        self.plan = ServerPlan(self.models, served, self.settings.config, self.run_directory, scratch, self.cell)
        check_plan(self.plan)
        prepare_directories(self.plan)
        names = [model.contract.model for model in self.models]
        self.workers = Workers(self.plan.cells_directory, self.plan.workers_directory, names, self.cell)
        self.envoy = find_envoy()
        self.envoy_config = self.run_directory / "envoy.json"
        self.envoy_config.write_text(json.dumps(self.render_gateway(), indent=2))
        validate_envoy(self.envoy, self.envoy_config)

    def _start_server(self) -> Child:
        for path in self.run_directory.glob("*.sock"):
            if path.name not in ("ready.sock", "watch.sock", "admin.sock"):
                path.unlink()  # a killed server leaves its sockets behind, and the next one would not start on them
        environment = build_environment(self.plan)
        return Child(
            "TorchServe", build_command(self.plan), environment, self.plan.scratch_directory, self._sink("server")
        )

    def _start_gateway(self) -> Child:
        command = [
            *envoy_command(self.envoy, self.envoy_config),
            "--concurrency",
            "2",
            "--log-format",
            ENVOY_LOG_FORMAT,
        ]
        return Child("Envoy", command, {"LANG": "C.UTF-8"}, self.plan.scratch_directory, self._sink("gateway"))

    def _sink(self, gate: str) -> Callable[[bytes], None]:
        return lambda line: self.log.relay(gate, line)

    def _supervise(self, monitor: ModelMonitor, readiness: ReadinessServer, started: float) -> None:
        last_ready = started
        while not self._stopping.wait(POLL_INTERVAL_S):
            if self.log.failure:
                raise Undecided(f"the log cannot be written ({self.log.failure}); what is not logged is not seen")
            self._replace_dead(monitor, readiness)
            reap_orphans(self._own_pids())
            self._sweep_workers()
            states = monitor.poll()
            self._tell_workers(states)
            readiness.ready = all(state.ready for state in states)
            now = time.monotonic()
            if readiness.ready and not self.ready.is_set() and is_listening(self.gateway.address, self.settings.port):
                self.ready.set()
                self._tell_workers(states)
                address = f"https://127.0.0.1:{self.settings.port}"
                self.log.tell("ready", f"ready after {now - started:.1f} s: {address}")
            if readiness.ready:
                last_ready = now
            elif not self.ready.is_set():
                self._check_start(states, now - started)
            elif now - last_ready > STUCK_AFTER_S:
                self.log.tell("stuck", f"a model has had no worker for {STUCK_AFTER_S} s; starting TorchServe again")
                self._children["server"].stop(STOP_TIMEOUT_S)
                last_ready = now

    def _replace_dead(self, monitor: ModelMonitor, readiness: ReadinessServer) -> None:
        for name, child in self._children.items():
            code = child.exit_code()
            if code is None:
                continue
            child.stop(0)
            if name == "server":
                readiness.ready = False
                monitor.forget()
            self._count_restart(name, child, code)
            self.log.tell("restarting", f"{child.name} ended ({describe_exit(code)}); starting it again")
            self._children[name] = self._starts[name]()

    def _count_restart(self, name: str, child: Child, code: int) -> None:
        now = time.monotonic()
        recent = [moment for moment in self._restarts[name] if now - moment < RESTART_WINDOW_S]
        limit = MAX_RESTARTS if self.ready.is_set() else 0  # what ends before it was ever ready will end again
        if len(recent) >= limit:
            raise Undecided(f"{child.name} ended ({describe_exit(code)}){last_words(child)}")
        self._restarts[name] = [*recent, now]
        self._stopping.wait(min(2 ** len(recent), 30) / 2)

    def _own_pids(self) -> list[int]:
        return [child.pid for child in self._children.values()]

    def _sweep_workers(self) -> None:
        try:
            news, self._sweep_failure = self.workers.sweep(), ""
        except Undecided as error:
            news = () if str(error) == self._sweep_failure else (str(error),)
            self._sweep_failure = str(error)
        for sentence in news:
            self.log.tell("metrics_failed", sentence)

    def _tell_workers(self, states: list[ModelState]) -> None:
        if not self.ready.is_set():
            return
        for state in states:
            known = self._workers.get(state.model, state.pids)
            gone, new = known - state.pids, state.pids - known
            for pid in sorted(gone):
                self.log.tell("worker_ended", f"a worker of {state.model} ended (pid {pid}); TorchServe starts another")
            for pid in sorted(new):
                self.log.tell("worker_ready", f"a new worker of {state.model} is ready (pid {pid})")
            self._workers[state.model] = state.pids

    def _check_start(self, states: list[ModelState], waited_s: float) -> None:
        for state in states:
            tried = self._failed_starts.setdefault(state.model, set())
            tried.update(state.tried_pids)
            workers = next(m.contract.workers.count for m in self.models if m.contract.model == state.model)
            if not state.ready and (len(tried) > MAX_FAILED_STARTS * workers or waited_s > START_TIMEOUT_S):
                words = load_failure(self._children["server"], state.model)
                raise ConfigError(f"model {state.model}: its workers end before they are ready{words}")

    def _stop_all(self, parts: contextlib.ExitStack, readiness: ReadinessServer) -> None:
        readiness.ready = False  # load balancers see it before the first connection is refused
        gateway = self._children.get("gateway")
        with parts:
            parts.callback(end_orphans, self._own_pids())
            for name in ("server", "gateway"):  # stopped in the other order
                if name in self._children:
                    parts.callback(self._children[name].stop, STOP_TIMEOUT_S)
            if gateway is not None and gateway.exit_code() is None and self.ready.is_set():
                self.log.tell("draining", "stopping: waiting for the requests in flight ...")
                self._drain()
        self.log.tell("stopped", "stopped")

    def _render_metrics(self) -> Page:
        try:
            return Page(http.HTTPStatus.OK, CONTENT_TYPE, self.workers.render())
        except Undecided as error:
            self.log.tell("metrics_failed", str(error))
            return Page(http.HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain", b"the metrics cannot be read")

    def _drain(self) -> None:
        longest = max(model.contract.workers.timeout_s for model in self.models)
        try:
            finished = drain_envoy(self.run_directory / "admin.sock", longest + 1)
        except GarrisonError as error:  # Envoy may be dying already; everything is stopped all the same
            self.log.tell("drain_failed", f"the gateway could not be drained: {error}")
            return
        if not finished:
            self.log.tell("drain_timeout", f"requests were still running after {longest + 1} s; they are cut off")


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


def open_admitted(settings: StackSettings, log: EventLog) -> tuple[AdmittedModel, ...]:
    """Admit what is to be served, and return it verified.

    Raises:
        ConfigError: there is nothing to serve, or it asks for a change of the configuration.
        ArtifactRefused: models are refused, each with its reason in the detail, or one was changed.
    """
    trust, store = load_trust(settings.trust), Store(settings.store)
    if settings.models is None:
        models = open_store(store, trust)
        for name in sorted({*store.models()} - {model.record.model for model in models}):
            told = f"{name} lies in {store.directory} without a line in the audit log; admit it again"
            log.tell("left_out", f"not served: {told}")
        return models
    policy = Policy(trust, load_admission(settings.config / ADMISSION_FILE))
    wanted: dict[str, Path] = {}
    refused: list[tuple[Path, ArtifactRefused]] = []
    sources = find_sources(settings.models)
    _check_names(sources)
    for source in sources:
        try:
            admission = admit(source, store, policy)
        except ArtifactRefused as refusal:
            refused.append((source, refusal))
            continue
        name = admission.model.record.model
        if name in wanted:
            raise ConfigError(f"{source}: a second model named {name!r}; serve one version at a time")
        wanted[name] = source
        if not admission.already:
            log.tell("admitted", f"admitted {name} {admission.model.record.version} from {source}")
    if refused:
        first, *_ = (refusal for _, refusal in refused)
        detail = "; and ".join(f"{source}: {refusal.detail}" for source, refusal in refused)
        raise ArtifactRefused(first.reason, first.public_message, detail)
    return open_store(store, trust, wanted)


def _check_names(sources: Sequence[Path]) -> None:
    """Check that no two directories hold the same model, before the higher version of it counts for ever."""
    known: dict[str, Path] = {}
    for source in sources:
        try:
            name = load_contract(source / CONTRACT_FILE).model
        except ConfigError:
            continue  # an archive, or what admission refuses and explains
        if name in known:
            raise ConfigError(
                f"{source}: a second model named {name!r}, beside {known[name]}; serve one version at a time"
            )
        known[name] = source


def render_gateway(
    settings: StackSettings, models: tuple[PackedModel, ...], certificate: Certificate, sockets: GatewaySockets
) -> dict[str, Any]:
    """Return Envoy's configuration for these models, from the operator's files and the public keys.

    Raises:
        ConfigError: a file or the key that signs client keys is missing or wrong.
    """
    return render_envoy(
        load_gateway(settings.config / "gateway.yaml"),
        load_clients(settings.config / "clients.yaml"),
        [model.contract for model in models],
        public_jwks(settings.state / "keys"),
        certificate,
        sockets,
        settings.port,
    )


def gateway_sockets(run_directory: Path) -> GatewaySockets:
    """Name the sockets by which the gateway reaches the server, the readiness answer and its own admin interface."""
    return GatewaySockets(run_directory / "inference.sock", run_directory / "ready.sock", run_directory / "admin.sock")


def check_port(address: str, port: int) -> None:
    """Check that the gateway's address and port are free.

    Raises:
        ConfigError: something listens there already, or this user may not use it.
    """
    with socket.socket(_family(address)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            advice = "give another --port, or another address in gateway.yaml"
            raise ConfigError(f"{address} port {port} cannot be used ({error.strerror}); {advice}") from error


def is_listening(address: str, port: int) -> bool:
    """Say whether somebody accepts connections on the gateway's port."""
    with socket.socket(_family(address)) as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, port)) == 0  # 0.0.0.0 and :: connect to this machine


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def handle_signals(stack: Stack) -> None:
    """Let SIGTERM, SIGINT and the end of a terminal session stop the stack."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stack.interrupt())
