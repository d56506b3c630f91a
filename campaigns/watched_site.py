"""A gateway with many clients and models, and the pages of a server and of a guard behind it, for who watches."""

import contextlib
import dataclasses
import http
import http.client
import multiprocessing
import os
import ssl
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from campaigns.counting_workers import find_watched
from garrison.cell.posture import RLIMITS, Posture
from garrison.cell.settings import CellSettings
from garrison.cell.status import SERVING, Status, name_status, write_status
from garrison.cell.trials import PARTS, Trial
from garrison.errors import TooLarge
from garrison.files import write_atomically
from garrison.gateway.envoy import render_envoy
from garrison.gateway.source import GatewaySockets
from garrison.gateway.upstreams import GuardSockets
from garrison.guard.counts import PROTOCOLS, CountingReport
from garrison.sockets import ADMIN, WATCH
from garrison.stack.local import write_config
from garrison.unix_http import Page, UnixServer
from garrison.watch.page import CONTENT_TYPE
from garrison.watch.workers import Workers
from stack.gateways import Place, free_port, make_contract, open_place

START_S = 60.0
FORK = multiprocessing.get_context("fork")
WORKERS = "workers"  # the directory of their scratch directories
BUDGETED = 10  # of so many clients one has a budget
SETTINGS = CellSettings(2**31, 64, 2**24, 100)


@dataclass
class Site:
    """A gateway, and who may ask it."""

    place: Place
    port: int
    metrics_port: int
    clients: tuple[str, ...]

    def ask(self, numbers: Sequence[int]) -> None:
        """Let some clients ask one after the other, each a model of its own, on one connection."""
        tls = ssl.create_default_context(cafile=str(self.place.directory / "tls" / "ca.pem"))
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=START_S, context=tls)
        for number in numbers:
            path = f"/predictions/{self.place.models[number % len(self.place.models)]}"
            connection.request("POST", path, body=b"x", headers={"x-api-key": self._sign(number)})
            answer = connection.getresponse()
            answer.read()
            if answer.status not in (http.HTTPStatus.OK, http.HTTPStatus.SERVICE_UNAVAILABLE):  # a busy machine's
                raise RuntimeError(f"client {number} got {answer.status}")
        connection.close()

    @contextlib.contextmanager
    def asking(self, askers: int) -> Iterator[None]:
        """Let some clients ask as fast as they are answered, while the block runs."""
        done = threading.Event()

        def ask(first: int) -> None:
            while not done.is_set():
                self.ask(range(first, len(self.clients), askers)[:50])

        threads = [threading.Thread(target=ask, args=(first,)) for first in range(askers)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            done.set()
            for thread in threads:
                thread.join()

    def count_more(self, value: float) -> None:
        """Let every worker have counted something since; as prometheus-client does, in the file's first value."""
        for path in (self.place.directory / WORKERS).glob("*/metrics/*.db"):
            with path.open("r+b") as file:
                file.seek(8)
                (length,) = struct.unpack("=i", file.read(4))
                file.seek(12 + length + (8 - (length + 4) % 8))
                file.write(struct.pack("=d", value))

    def _sign(self, number: int) -> str:
        scopes = [f"{model}:predict" for model in self.place.models]
        end = datetime.now(UTC) + timedelta(hours=1)
        return self.place.sign(sub=self.clients[number], scopes=scopes, exp=end, jti=f"key-{number}")


@contextlib.contextmanager
def open_site(directory: Path, models: int, clients: int, workers: int) -> Iterator[Site]:
    """Start a gateway as `garrison gateway run` does, and the pages of a server and of a guard."""
    named = tuple(f"model{number:03}" for number in range(models))
    callers = tuple(f"client{number:04}" for number in range(clients))
    metrics_port, guard = free_port(), GuardSockets.in_directory(directory / "guard")
    guard.watch.parent.mkdir()
    with contextlib.ExitStack() as ends:
        place = ends.enter_context(open_place(directory, models=named, clients=write_clients(callers, named)))
        place.settings += f"\nmetrics: {{port: {metrics_port}}}\n"
        place.guards = (guard,)
        ends.enter_context(serving(guard.watch, make_guard(named)))
        ends.enter_context(serving(directory / WATCH, make_workers(directory, named, workers).render))
        port = free_port()
        ends.enter_context(running(render(place, port), directory / "log.jsonl"))
        yield Site(place, port, metrics_port, callers)


def write_clients(clients: Sequence[str], models: Sequence[str]) -> str:
    """Return clients.yaml: all may ask every model, every tenth has a budget."""
    listed, lines = ", ".join(models), ["clients:"]
    for number, client in enumerate(clients):
        more = ", queries_per_day: 1000000" if number % BUDGETED == 0 else ""
        lines.append(f"  {client}: {{models: [{listed}], requests_per_second: 10000, burst: 10000{more}}}")
    return "\n".join(lines) + "\n"


def render(place: Place, port: int) -> Path:
    """Write the gateway's configuration; its run directory is one of its own."""
    source, path = place.source(port), place.directory / "envoy.json"
    sockets = GatewaySockets(source.sockets.servers, place.directory / "run" / ADMIN, source.sockets.guards)
    write_atomically(path, write_config(render_envoy(dataclasses.replace(source, sockets=sockets))), 0o600)
    return path


@contextlib.contextmanager
def running(config: Path, log: Path) -> Iterator[None]:
    """Run a gateway with a configuration."""
    command = [sys.executable, "-m", "garrison.cli", "gateway", "run", str(config), "--log", str(log)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)  # noqa: S603 - the command is ours
    try:
        told = []
        for line in process.stderr or ():
            told.append(line)
            if "ready after" in line:
                break
        else:
            raise RuntimeError("".join(told))
        yield
    finally:
        process.terminate()
        process.communicate(timeout=START_S)


@contextlib.contextmanager
def serving(path: Path, write: Callable[[], bytes]) -> Iterator[None]:
    """Serve a page on a socket from a process of its own, as launchers do."""
    process = FORK.Process(target=_serve, args=(path, write), daemon=True)
    process.start()
    while not path.exists():
        process.join(0.05)
        if process.exitcode is not None:
            raise RuntimeError(f"nobody serves {path}")
    try:
        yield
    finally:
        process.terminate()
        process.join(START_S)


def _serve(path: Path, write: Callable[[], bytes]) -> None:
    UnixServer(path, lambda _: Page(http.HTTPStatus.OK, CONTENT_TYPE, write()))
    threading.Event().wait()


def make_workers(directory: Path, models: Sequence[str], each: int) -> Workers:
    """Return the sums over workers of all models that have counted whatever there is to count."""
    cells, scratches = directory / "cells", directory / WORKERS
    cells.mkdir()
    scratches.mkdir()
    supervisors = [os.getpid(), os.getppid()][:each]  # any that live
    names = [f"{model}.{supervisor}" for model in models for supervisor in supervisors]
    subprocess.run(  # noqa: S603 - our own module
        [sys.executable, "-m", "campaigns.counting_workers", str(scratches), *names], check=True, timeout=10 * START_S
    )
    trials = tuple(Trial(part, f"try {part}", held=True, detail="EPERM") for part in PARTS)
    posture = Posture(trials, 7, 2, 1000, "0", True, False, dict.fromkeys(RLIMITS, 0))
    for model in models:
        for supervisor in supervisors:
            status = Status(model, supervisor, supervisor, stage=SERVING, posture=posture)
            write_status(cells / name_status(model, supervisor), status)
    return Workers(cells, scratches, {model: find_watched(model)[1] for model in models}, SETTINGS)


def make_guard(models: Sequence[str]) -> Callable[[], bytes]:
    """Return the page of a guard process that has answered and refused for every model."""
    report = CountingReport([make_contract(model) for model in models])
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        for number, model in enumerate(models):
            report.answered(PROTOCOLS[0], model, number / 1000)
            report.refused(TooLarge("too_many_bytes", "too large"), protocol=PROTOCOLS[0], caller=None, model=model)
    return lambda: report.render(lambda _: (0, True))
