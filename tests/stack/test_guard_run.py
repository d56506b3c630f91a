"""`garrison guard run`: from a store to processes that answer, are started again when they end, and stop in order."""

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from garrison.guard import backend as paths
from garrison.guard.tensors import write_tensors
from garrison.sockets import GUARD_SOCKETS
from garrison.unix_http import Answer, send_request
from saved_models import make_contract, write_saved_model
from unit.guard.backends import RecordingBackend

ANSWER = b"".join(write_tensors(b"\x0a", {"y": np.ones((1, 2), np.float32)}))
PROCESSES = 2
WAIT_S, POLL_S = 20, 0.05
PATH = "/v1/models/tiny_tf:predict"


def garrison(directory: Path, *words: Any) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-I", "-m", "garrison.cli", *map(str, words)]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60, check=False)


def wait_for(is_so: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(POLL_S)


@contextmanager
def recording(path: Path) -> Iterator[RecordingBackend]:
    """A backend in a thread of its own: the tests below wait for processes."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    backend = RecordingBackend(path, {"tiny_tf": 1}, {paths.PREDICT: ANSWER})
    run = lambda work: asyncio.run_coroutine_threadsafe(work, loop).result(WAIT_S)  # noqa: E731
    run(backend.__aenter__())
    try:
        yield backend
    finally:
        run(backend.__aexit__())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(WAIT_S)
        loop.close()


class Guard:
    """The command, and what can be seen of it."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.log = directory, directory / "log"
        words = ["--sockets", directory / "guard", "--backend", directory / "tfserving", "--processes", PROCESSES]
        words += ["--state", directory / "state", "--unsafe-development", "--log", self.log]
        command = [sys.executable, "-I", "-m", "garrison.cli", "guard", "run", *map(str, words)]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def socket(self, index: int, name: str) -> Path:
        return self.directory / "guard" / str(index) / name

    def ask(self, index: int, body: bytes = b'{"instances": [[0, 1]]}') -> Answer:
        headers = {"x-garrison-client": "alice", "content-type": "application/json", "x-request-id": "id-7"}
        return send_request(self.socket(index, "rest.sock"), "POST", PATH, 5, body, headers)

    def readiness(self, index: int) -> int:
        try:
            return send_request(self.socket(index, "ready.sock"), "GET", "/", 5).status
        except OSError:
            return 0

    def wait_until_ready(self) -> None:
        wait_for(lambda: all(self.readiness(index) == 200 for index in range(PROCESSES)), "ready")
        wait_for(lambda: "ready" in self.events(), "told")

    def events(self) -> list[str]:
        return [json.loads(line)["event"] for line in self.lines()]

    def lines(self) -> list[str]:
        return [line for line in self.log.read_text().splitlines() if line.endswith("}")] if self.log.exists() else []

    def pids(self) -> list[int]:
        """Return the processes' ids, in order."""
        children = psutil.Process(self.process.pid).children()
        return [child.pid for child in sorted(children, key=lambda child: child.cmdline())]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("guard")
    write_saved_model(directory / "model")
    (directory / "contract.yaml").write_text(make_contract())
    own = ("--state", "state", "--unsafe-development")
    packed = garrison(
        directory, "pack", "--saved-model", "model", "--contract", "contract.yaml", "--export-path", "packed", *own
    )
    assert packed.returncode == 0, packed.stderr
    admitted = garrison(directory, "admit", "packed/tiny_tf", *own)
    assert admitted.returncode == 0, admitted.stderr
    (directory / "tfserving").mkdir(mode=0o700)
    return directory


@pytest.fixture(scope="module")
def backend(store: Path) -> Iterator[RecordingBackend]:
    with recording(store / "tfserving/grpc.sock") as made:
        yield made


@pytest.fixture(scope="module")
def guard(store: Path, backend: RecordingBackend) -> Iterator[Guard]:
    made = Guard(store)
    try:
        made.wait_until_ready()
        yield made
    finally:
        made.process.terminate()
        made.process.wait(WAIT_S)


def test_every_process_answers_on_sockets_for_its_group(guard: Guard) -> None:
    for index in range(PROCESSES):
        assert json.loads(guard.ask(index).body) == {"predictions": [[1.0, 1.0]]}
        modes = {name: stat.S_IMODE(guard.socket(index, name).lstat().st_mode) for name in GUARD_SOCKETS}
        assert modes == dict.fromkeys(GUARD_SOCKETS, 0o660)
        assert stat.S_IMODE(guard.socket(index, "").lstat().st_mode) == 0o770


def test_a_refusal_is_logged_with_its_reason_and_without_the_input(guard: Guard) -> None:
    assert guard.ask(0, b'{"instances": [[0, 20.125]]}').status == 400
    wait_for(lambda: "refused" in guard.events(), "logged")
    (line,) = [line for line in guard.lines() if '"refused"' in line]
    told = json.loads(line)
    assert {name: told[name] for name in ("gate", "client", "model", "reason", "request_id")} == {
        "gate": "guard",
        "client": "alice",
        "model": "tiny_tf",
        "reason": "value_out_of_range",
        "request_id": "id-7",
    }
    assert "20.125" not in line


def test_a_process_that_is_killed_is_started_again_and_the_other_goes_on(guard: Guard) -> None:
    first, second = guard.pids()
    os.kill(first, signal.SIGKILL)
    assert guard.ask(1).status == 200
    wait_for(lambda: "restarting" in guard.events(), "told")
    guard.wait_until_ready()
    assert guard.ask(0).status == 200
    again, same = guard.pids()
    assert (again != first, same) == (True, second)


def test_a_socket_that_is_removed_is_made_again(guard: Guard) -> None:
    guard.socket(1, "grpc.sock").unlink()
    wait_for(lambda: "socket_lost" in guard.events(), "told")
    wait_for(guard.socket(1, "grpc.sock").exists, "made again")
    guard.wait_until_ready()
    assert guard.ask(1).status == 200


def test_a_second_guard_does_not_take_the_first_ones_sockets(guard: Guard, store: Path) -> None:
    second = garrison(
        store,
        "guard",
        "run",
        "--sockets",
        "guard",
        "--backend",
        "tfserving",
        "--state",
        "state",
        "--unsafe-development",
    )
    assert second.returncode == 78
    assert "another server has its sockets there" in second.stderr
    assert guard.ask(0).status == 200


def test_a_guard_needs_somebody_to_ask(store: Path) -> None:
    nobody = garrison(store, "guard", "run", "--sockets", "elsewhere", "--state", "state", "--unsafe-development")
    assert nobody.returncode == 78
    assert "--backend" in nobody.stderr


def test_a_stop_says_no_first_and_leaves_no_socket(guard: Guard) -> None:
    guard.process.send_signal(signal.SIGTERM)
    wait_for(lambda: guard.readiness(0) == 503 and guard.readiness(1) == 503, "no")
    assert guard.ask(0).status == 200  # a gateway may not have noticed yet
    assert guard.process.wait(WAIT_S) == 0
    assert list((guard.directory / "guard").rglob("*.sock")) == []
    assert guard.events()[-1] == "stopped"
