"""Both servers, with what effects are seen on: stock TorchServe as it comes, and TorchServe with its workers in cells.

Both are the real server, started as a process; both have a neighbour, an honest model, and a secret in the environment
that the server was started with. The celled one is what `garrison serve` starts, without gateway and admission: the
hostile models are served although nobody would have admitted them.
"""

import contextlib
import io
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from attacks.artifacts.tiny_model import MANIFEST, make_weights
from attacks.escape.handlers import write_custom_handler, write_stock_handler
from attacks.escape.model import Escape, Scene
from attacks.stock import PROPERTIES
from garrison.admission.pack import PackOrder
from garrison.archive import (
    CONTRACT_FILE,
    HANDLER_FILE,
    MODEL_CONFIG_FILE,
    open_packed_model,
    render_manifest,
    render_model_config,
)
from garrison.cell.settings import FAIL, CellSettings
from garrison.contract import parse_contract
from garrison.eventlog import EventLog
from garrison.process import Child
from garrison.profile import Watched
from garrison.torchserve.served import unsafe_serve
from garrison.torchserve.server import (
    ServerPlan,
    build_command,
    build_environment,
    find_java,
    find_server_home,
    prepare_directories,
)
from garrison.unix_http import Answer, send_request
from garrison.watch.workers import Workers
from packing import pack
from stack.conftest import SUMS, save_sums
from stack.observing import list_listeners, wait_for
from stack.running import DIGITS, REPOSITORY

NEIGHBOUR, DIGITS_MODEL = "neighbour", "digits"
SECRET_VARIABLE = "DATABASE_URL"
START_TIMEOUT_S = 180
ENDED_WITH_SERVER = ("the server",)
CELL = CellSettings(
    memory_bytes=1024 * 2**20,
    threads=128,
    scratch_max_bytes=16 * 2**20,
    scratch_max_files=64,
    on_violation=FAIL,  # so that the attacker can go on trying, and report
)
CONTRACT = """\
garrison: 1
model: {name}
version: "1"
task: custom
inputs:
  text: {{kind: text, max_bytes: 16KiB, max_characters: 16000, max_tokens: 8}}
batch: {{max_items: 1, max_delay_ms: 1, max_bytes: 1MiB, max_instances: 4}}
workers: {{count: 1, queue: 8, timeout_s: 30}}
outputs: {{decimals: 2, max_bytes: 100kB}}
"""
# The first so that a model can be loaded at any time, which is a convenience of these tests and no escape.
ADDED_PROPERTIES = "enable_model_api=true\nmetrics_mode=prometheus\n"
HONEST_HANDLER = """\
import json


def handle(data, context):
    return None if data is None else [json.dumps(sum(json.loads(row["body"]))) for row in data]
"""


@dataclass
class Running:
    """A running TorchServe, asked on its sockets and seen from outside."""

    run: Path
    places: tuple[Path, ...]
    secret: str
    child: Child
    output: list[bytes]
    neighbour: str = NEIGHBOUR

    @property
    def jvm(self) -> int:
        return self.child.pid

    def ask(self, name: str, method: str, target: str, body: bytes = b"", timeout_s: float = 40) -> Answer:
        """Send a request to one of the server's sockets."""
        return send_request(
            self.run / f"{name}.sock", method, target, timeout_s, body, {"content-type": "application/octet-stream"}
        )

    def predict(self, model: str, body: bytes) -> Answer:
        return self.ask("inference", "POST", f"/predictions/{model}", body)

    def describe(self, model: str) -> str:
        return self.ask("management", "GET", f"/models/{model}").body.decode()

    def list_models(self) -> str:
        return self.ask("management", "GET", "/models?limit=1000").body.decode()

    def metrics(self) -> str:
        return self.ask("metrics", "GET", "/metrics").body.decode()

    def workers(self, model: str) -> list[dict[str, Any]]:
        """Return what the server says of a model's workers; nothing if it does not know the model."""
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            return list(json.loads(self.describe(model))[0]["workers"])
        return []

    def worker_pids(self, model: str) -> list[int]:
        return [int(worker["pid"]) for worker in self.workers(model) if psutil.pid_exists(int(worker["pid"]))]

    def is_ready(self, model: str) -> bool:
        return any(worker["status"] == "READY" for worker in self.workers(model))

    def grpc_ports(self) -> list[int]:
        """Return the ports on which the server listens."""
        found = list_listeners([self.jvm])
        return sorted(int(address.rpartition(":")[2]) for _, protocol, address in found if protocol.startswith("tcp"))

    def lines(self) -> list[str]:
        return [line.decode("utf-8", "replace") for line in list(self.output)]

    def kill(self) -> None:
        """Kill the server as no attacker has to be told: without a word to its workers."""
        os.kill(self.jvm, signal.SIGKILL)


@dataclass
class Stock(Running):
    """TorchServe without a cell."""

    def register(self, name: str, directory: Path) -> None:
        target = f"/models?url={directory}&model_name={name}&initial_workers=1&synchronous=false"
        answer = self.ask("management", "POST", target)
        assert answer.status in (200, 202), answer.body

    def unregister(self, name: str) -> None:
        self.ask("management", "DELETE", f"/models/{name}")

    def neighbour_lines(self) -> list[str]:
        return [line for line in self.lines() if f"-{NEIGHBOUR}_" in line]

    def log(self) -> list[dict[str, Any]]:
        """Return the events in the log, as a tool finds them: from the first brace on."""
        return [event for line in self.lines() if (event := _parse(line[line.find("{") :])) is not None]


@dataclass
class Celled(Running):
    """TorchServe with its workers in cells."""

    stream: io.BytesIO = field(default_factory=io.BytesIO)

    sweeper: Workers | None = None
    recorded: dict[str, dict[str, Any]] = field(default_factory=dict)

    def sweep(self) -> None:
        """Do what the launcher does twice a second: take away what ended workers left; record what is said of them."""
        found = {path.name: path for path in self.run.glob("cells/*.*.json") if not path.name.startswith(".")}
        for name, path in found.items():
            with contextlib.suppress(FileNotFoundError):
                self.recorded[name] = json.loads(path.read_text())
        for name in self.recorded.keys() - found.keys():
            self.recorded[name]["ended"] = self.recorded[name]["ended"] or "its last status was swept unread"
        if self.sweeper is not None:
            self.sweeper.sweep()

    def statuses(self) -> list[dict[str, Any]]:
        """Return what the supervisors wrote, of workers that ended as well."""
        return list(self.recorded.values())

    def ended(self, model: str) -> list[str]:
        """Return why workers of a model ended, but for those that ended with the server."""
        found = [one["ended"] for one in self.statuses() if one["model"] == model]
        return [why for why in found if why and not why.startswith(ENDED_WITH_SERVER)]

    def log(self) -> list[dict[str, Any]]:
        """Return the events in the log, as the launcher writes it."""
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def neighbour_lines(self) -> list[str]:
        return [json.dumps(event) for event in self.log() if event.get("model") == NEIGHBOUR]


def _parse(text: str) -> dict[str, Any] | None:
    with contextlib.suppress(ValueError):
        value = json.loads(text)
        return value if isinstance(value, dict) else None
    return None


# Stock ----------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def run_stock(directory: Path, secret: str) -> Iterator[Stock]:
    """Start stock TorchServe with an honest neighbour."""
    properties = directory / "config.properties"
    properties.write_text(PROPERTIES.format(directory) + ADDED_PROPERTIES)
    for name in ("store", "scratch", "metrics"):
        (directory / name).mkdir()
    home = find_server_home()
    command = [
        *(str(find_java()), "-Xmx1g", f"-Djava.io.tmpdir={directory / 'scratch'}", f"-Dmodel_server_home={home}"),
        *("-cp", str(home / "ts" / "frontend" / "model-server.jar"), "org.pytorch.serve.ModelServer"),
        *("--python", sys.executable, "-f", str(properties), "-s", str(directory / "store"), "-ncs"),
    ]
    scratch = str(directory / "scratch")
    environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": scratch, "TMPDIR": scratch}
    environment |= {"LOG_LOCATION": str(directory), "OMP_NUM_THREADS": "1", SECRET_VARIABLE: secret}
    output: list[bytes] = []
    child = Child("TorchServe", command, environment, directory / "scratch", output.append)
    server = Stock(directory, (directory,), secret, child, output)
    try:
        wait_for(lambda: _answers(server), "stock TorchServe answers", START_TIMEOUT_S)
        honest = write_stock_model(NEIGHBOUR, HONEST_HANDLER, directory / NEIGHBOUR, {"weights": b"the neighbour's"})
        server.register(NEIGHBOUR, honest)
        wait_for(lambda: server.is_ready(NEIGHBOUR), "the neighbour is ready", START_TIMEOUT_S)
        yield server
    finally:
        child.stop(10)


def write_stock_model(name: str, handler: str, directory: Path, files: Mapping[str, bytes]) -> Path:
    """Write a model as TorchServe serves it from a directory."""
    manifest = {"modelName": name, "modelVersion": "1.0", "handler": HANDLER_FILE}
    (directory / "MAR-INF").mkdir(parents=True)
    (directory / MANIFEST).write_text(json.dumps({"runtime": "python", "model": manifest}))
    (directory / HANDLER_FILE).write_text(handler)
    for file, data in files.items():
        (directory / file).write_bytes(data)
    return directory


def _answers(server: Running) -> bool:
    with contextlib.suppress(OSError):
        return server.ask("management", "GET", "/models").status == 200
    return False


def write_stock_escape(escape: Escape, scene: Scene, directory: Path) -> Path:
    """Write an escape as a model for stock TorchServe."""
    return write_stock_model(scene.name, write_stock_handler(escape, scene), directory, escape.files(scene))


# Celled ---------------------------------------------------------------------------------------------------------------


class CelledPlan:
    """A celled server that is not started yet: models are added to it, then it runs."""

    def __init__(self, directory: Path, secret: str, cell: CellSettings = CELL) -> None:
        self.directory, self.secret, self.cell = directory, secret, cell
        self.run_directory, self.packed_directory = directory / "run", directory / "packed"
        self.run_directory.mkdir()
        self._models: dict[str, Path] = {}
        self._add_neighbours()

    def served(self, name: str) -> list[Path]:
        """Return where a model's files lie: what the server is given, and the store."""
        return [self.run_directory / "models" / name, self.packed_directory / name]

    def add_escape(self, escape: Escape, scene: Scene) -> None:
        """Pack a hostile model by hand: `garrison pack` would refuse it."""
        text = CONTRACT.format(name=scene.name)
        contract = parse_contract(text.encode(), CONTRACT_FILE)
        files = {
            CONTRACT_FILE: text.encode(),
            MANIFEST: render_manifest(contract, "model.pt").encode(),
            MODEL_CONFIG_FILE: render_model_config(contract).encode(),
            HANDLER_FILE: write_custom_handler(escape, scene).encode(),
            "model.pt": make_weights("none"),
            **escape.files(scene),
        }
        for name, data in files.items():
            path = self.packed_directory / scene.name / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        self._serve(scene.name, self.packed_directory / scene.name)

    @contextlib.contextmanager
    def run(self, server: Celled) -> Iterator[None]:
        """Start the server as the launcher does, and stop it at the end; `server` is filled in."""
        config = self.directory / "config"
        copy_files(REPOSITORY / "config", config)
        models = tuple(open_packed_model(path) for path in self._models.values())
        scratch = self.run_directory / "tmp"
        run = self.run_directory
        plan = ServerPlan(models, run / "models", config, run, run, scratch, self.cell)
        prepare_directories(plan)
        watched = dict.fromkeys(self._models, Watched(()))
        server.sweeper = Workers(plan.cells_directory, plan.workers_directory, watched, self.cell)
        log = EventLog(server.stream, None)

        def sink(line: bytes) -> None:
            server.output.append(line)
            log.relay("server", line)

        environment = build_environment(plan) | {SECRET_VARIABLE: self.secret}
        server.child = Child("TorchServe", build_command(plan), environment, scratch, sink)
        try:
            yield
        finally:
            server.child.stop(10)

    def _add_neighbours(self) -> None:
        sources = self.directory / "sources"
        sources.mkdir()
        save_sums(sources / "model.pt")
        (sources / CONTRACT_FILE).write_text(SUMS.replace("model: sums", f"model: {NEIGHBOUR}"))
        self._pack(NEIGHBOUR, PackOrder(sources / CONTRACT_FILE, sources / "model.pt", (), self.packed_directory))
        order = PackOrder(DIGITS / CONTRACT_FILE, DIGITS / "model.pt", (DIGITS / "labels.json",), self.packed_directory)
        self._pack(DIGITS_MODEL, order)

    def _pack(self, name: str, order: PackOrder) -> None:
        self._serve(name, pack(order))

    def _serve(self, name: str, packed: Path) -> None:
        unsafe_serve(packed, self.run_directory / "models" / name)
        self._models[name] = packed


def copy_files(source: Path, target: Path) -> None:
    """Copy files and nothing about them: in a container nobody may change a file's times."""
    for path in (path for path in source.rglob("*") if path.is_file()):
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.read_bytes())


def make_celled(plan: CelledPlan) -> Celled:
    """Return the server of a plan, before it is started."""
    run = plan.run_directory
    return Celled(run, (run,), plan.secret, None, [])  # type: ignore[arg-type]  # its process comes when it is started


def wait_until_tried(server: Celled, names: list[str]) -> list[str]:
    """Wait until every model is ready, or its worker ended of its own deeds; return those that are neither."""
    deadline = time.monotonic() + START_TIMEOUT_S
    left = list(names)
    while left and time.monotonic() < deadline:
        left = [name for name in left if not server.is_ready(name) and not server.ended(name)]
        time.sleep(0.2)
    return left
