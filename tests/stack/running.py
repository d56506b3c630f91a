"""Run `garrison serve` the way a person does, as a process of its own, and talk to it.

Used by the tests of the whole stack, by the attack tests and by `scripts/demo`; needs nothing beyond what Garrison
itself needs.
"""

import contextlib
import functools
import http.client
import json
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from garrison.admission.sign import generate_key
from garrison.gateway.clients import make_scopes
from garrison.gateway.keys import init_keys, issue_key
from garrison.unix_http import send_request
from logs import read_events

REPOSITORY = Path(__file__).resolve().parents[2]
MODELS = REPOSITORY / "models"
DIGITS = MODELS / "digits"
SAMPLE_MODELS = ("digits", "languages", "scene_masks", "scenes", "tumours")
START_TIMEOUT_S = 180  # as long as the launcher itself waits
STOP_TIMEOUT_S = 40
TRUST = """\
keys:
  tests: {public_key: tests.pem, models: ["*"], valid_from: 2020-01-01, valid_until: 2100-01-01}
"""
CLIENTS = """\
clients:
  demo: {models: [%s], requests_per_second: 1000, burst: 5000}
  neighbour: {models: [faces], requests_per_second: 10, burst: 10}
  hasty: {models: [digits], requests_per_second: 5, burst: 10}
"""


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, and how long it took in seconds."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def reason(self) -> str:
        """The refusal's stable code, or nothing."""
        try:
            value = self.json
        except ValueError:
            return ""
        return str(value.get("reason", "")) if isinstance(value, dict) else ""


NO_ANSWER = Answer(0, {}, b"", 0)


@dataclass
class Target:
    """A gateway to talk to: where it listens, which authority it is checked against, and keys for several clients."""

    port: int
    authority: Path
    keys: dict[str, str] = field(default_factory=dict)

    def connect(self, timeout_s: float = 30, protocols: Sequence[str] = ("http/1.1",)) -> http.client.HTTPSConnection:
        """Prepare a connection over TLS that trusts the development authority only."""
        context = ssl.create_default_context(cafile=str(self.authority))
        context.set_alpn_protocols(list(protocols))
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout_s, context=context)

    def send(
        self,
        method: str = "POST",
        path: str = "/predictions/digits",
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        key: str | None = "demo",
        connection: http.client.HTTPSConnection | None = None,
    ) -> Answer:
        """Send one request; `key` names one of `keys`, or None for none. An answer may come before all is sent."""
        used = connection or self.connect()
        sent = {"content-type": "application/octet-stream", **(headers or {})}
        if key is not None:
            sent["x-api-key"] = self.keys[key]
        began = time.monotonic()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
            used.request(method, path, body=body or None, headers=sent)  # refused meanwhile? the answer can be read
        response = used.getresponse()
        answer = Answer(response.status, {k.lower(): v for k, v in response.headers.items()}, response.read(), 0)
        if connection is None:
            used.close()
        return Answer(answer.status, answer.headers, answer.body, time.monotonic() - began)


def send_together(target: Target, requests: Sequence[tuple[str, bytes]], connections: int = 16) -> list[Answer]:
    """Send (model, body) pairs over several connections at once; return their answers in the same order."""
    answers: list[Answer] = [NO_ANSWER] * len(requests)
    left = iter(enumerate(requests))
    lock = threading.Lock()

    def work() -> None:
        with contextlib.closing(target.connect()) as connection:
            while True:
                with lock:
                    index, (model, body) = next(left, (-1, ("", b"")))
                if index < 0:
                    return
                path = f"/predictions/{model}"
                answers[index] = target.send(path=path, body=body, connection=connection)

    with ThreadPoolExecutor(connections) as pool:
        for worker in [pool.submit(work) for _ in range(connections)]:
            worker.result()
    return answers


class RunningStack:
    """`garrison serve` in a directory of its own, with keys for several clients; use as a context manager.

    `served` are the models that the client `demo` may ask. Without `models`, all of the store is served. `settings` are
    further lines of gateway.yaml.
    """

    def __init__(
        self,
        models: Path | None,
        directory: Path | None = None,
        served: Sequence[str] = ("digits",),
        settings: str = "",
    ) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="garrison-")) if directory is None else directory
        self.models = models
        self.state, self.config = self.directory / "state", self.directory / "config"
        self.run_directory, self.log = self.directory / "run", self.directory / "log.jsonl"
        self.scratch, self.terminal = self.directory / "tmp", self.directory / "terminal.txt"
        self.options: list[object] = ["--run-dir", self.run_directory]
        self.scratch.mkdir()
        shutil.copytree(REPOSITORY / "config", self.config)
        with (self.config / "gateway.yaml").open("a") as gateway:
            gateway.write(settings)
        (self.config / "clients.yaml").write_text(CLIENTS % ", ".join(served))
        trust_test_key(self.config / "trust")
        init_keys(self.state / "keys")
        keys = make_keys(self.state / "keys", served)
        self.target = Target(free_port(), self.state / "certificates" / "ca.pem", keys)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of `garrison serve`."""
        assert self.process is not None
        return self.process.pid

    @classmethod
    @contextlib.contextmanager
    def prepared(cls, models: Path, served: Sequence[str] = ("digits",)) -> Iterator["RunningStack"]:
        """Make a stack that is not started; whatever is left of it at the end is stopped and removed."""
        stack = cls(models, served=served)
        try:
            yield stack
        finally:
            stack.__exit__()

    def command(self) -> list[str]:
        """Return the command line, as a person would type it."""
        places = ["--config", self.config, "--state", self.state, "--log", self.log, *self.options]
        models = () if self.models is None else ("--models", self.models)
        arguments = ("serve", *models, "--port", self.target.port, *places)
        return [sys.executable, "-m", "garrison.cli", *map(str, arguments)]

    def launch(self) -> None:
        """Start, and wait for nothing; what is said to the person at the terminal goes to `terminal`."""
        environment = {**os.environ, "TMPDIR": str(self.scratch)}
        with self.terminal.open("wb") as terminal:
            self.process = subprocess.Popen(self.command(), stderr=terminal, cwd=self.directory, env=environment)

    def start(self) -> "RunningStack":
        """Start, and wait until the gateway says that the models are ready."""
        self.launch()
        if not self.wait_until_ready():
            status, said = self.stop()
            raise RuntimeError(f"not ready after {START_TIMEOUT_S} s (exit {status}):\n{said}")
        return self

    def wait_until_ready(self) -> bool:
        """Wait until the health route says ready; False once `serve` has ended or the time is over."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self.process is not None and self.process.poll() is None:
            if self.is_ready():
                return True
            time.sleep(0.1)
        return False

    def is_ready(self) -> bool:
        """Ask the gateway's health route."""
        try:
            return self.target.send("GET", "/healthz", key=None).status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False

    def worker_pids(self, model: str = "digits") -> list[int]:
        """Ask TorchServe for the process ids of a model's workers that can take a request."""
        answer = send_request(self.run_directory / "management.sock", "GET", f"/models/{model}", 5)
        return [worker["pid"] for worker in json.loads(answer.body)[0]["workers"] if worker["status"] == "READY"]

    def ask_metrics(self) -> tuple[int, str]:
        """Ask as Prometheus does, on the launcher's socket; return status and text."""
        answer = send_request(self.run_directory / "watch.sock", "GET", "/metrics", 5)
        return answer.status, answer.body.decode()

    def said(self) -> str:
        """Return what was said so far to the person at the terminal."""
        return self.terminal.read_text()

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal, wait, and return the exit status and what was said to the person at the terminal."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> tuple[int, str]:
        """Wait for the end, as `stop` does, without asking for it."""
        assert self.process is not None
        try:
            status = self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        self.process = None
        return status, self.said()

    def events(self) -> list[dict[str, Any]]:
        """Return every line of the log so far; all of them are JSON objects."""
        return read_events(self.log)

    def __enter__(self) -> "RunningStack":
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


def make_keys(directory: Path, served: Sequence[str] = ("digits",)) -> dict[str, str]:
    """Issue a good key for the served models, and each kind of key that must not pass."""
    day = timedelta(days=1)
    long_ago = datetime.now(UTC) - 2 * day
    good = issue_key(directory, "demo", make_scopes(served), day).token
    return {
        "demo": good,
        "hasty": issue_key(directory, "hasty", make_scopes(["digits"]), day).token,
        "hasty again": issue_key(directory, "hasty", make_scopes(["digits"]), day).token,
        "neighbour": issue_key(directory, "neighbour", make_scopes(["faces"]), day).token,
        "stranger": issue_key(directory, "stranger", make_scopes(["digits"]), day).token,
        "expired": issue_key(directory, "demo", make_scopes(["digits"]), day, now=long_ago).token,
        "forged": good[:-6] + ("AAAAAA" if good[-6:] != "AAAAAA" else "BBBBBB"),
    }


@functools.cache
def make_test_key() -> tuple[Path, Path]:
    """Make the key pair that signs what is packed here, once; return the private and the public one."""
    return generate_key(Path(tempfile.mkdtemp(prefix="garrison-key-")), "tests")


def trust_test_key(trust: Path) -> None:
    """Let a configuration trust the tests' key for every model."""
    shutil.copy(make_test_key()[1], trust)
    (trust / "trust.yaml").write_text(TRUST)


def pack_digits(export_path: Path, changes: Mapping[str, str] | None = None) -> Path:
    """Pack the digits; return the directory to serve. See `pack_sample`."""
    return pack_sample("digits", export_path, changes)


def pack_sample(model: str, export_path: Path, changes: Mapping[str, str] | None = None) -> Path:
    """Pack a sample model with the command that its card shows; return the directory to serve.

    `changes` replaces pieces of the contract's text, for a model that behaves otherwise.
    """
    source = MODELS / model
    text = (source / "contract.yaml").read_text()
    for old, new in (changes or {}).items():
        assert old in text, old
        text = text.replace(old, new)
    extra = [source / name for name in ("labels.json", "vocab.json") if (source / name).exists()]
    options: list[object] = ["--extra-files", ",".join(map(str, extra))]
    if not changes:  # another model would have another profile
        options += ["--profile", source / "profile.json"]
    return pack_contract(text, source / "model.pt", export_path, *options)


def pack_saved_model(model: str, export_path: Path, changes: Mapping[str, str] | None = None) -> Path:
    """Pack a sample for TensorFlow Serving, as `pack_sample` does the others."""
    text = (MODELS / model / "contract.yaml").read_text()
    for old, new in (changes or {}).items():
        assert old in text, old
        text = text.replace(old, new)
    return _pack(text, export_path, "--saved-model", MODELS / model / "1")


def pack_contract(contract: str, weights: Path, export_path: Path, *options: object) -> Path:
    """Run `garrison pack` on a contract's text and return the directory to serve."""
    return _pack(contract, export_path, "--serialized-file", weights, *options)


def _pack(contract: str, export_path: Path, *options: object) -> Path:
    with tempfile.TemporaryDirectory() as sources:
        file = Path(sources) / "contract.yaml"
        file.write_text(contract)
        places = ("--export-path", export_path, "--sign-key", make_test_key()[0])
        arguments = ("pack", "--contract", file, *options, *places)
        subprocess.run([sys.executable, "-m", "garrison.cli", *map(str, arguments)], check=True, capture_output=True)
    return export_path


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def free_monitoring_port() -> int:
    """Return a port for Prometheus such that Alertmanager's, three above it, is free as well.

    Below those that the kernel gives to outgoing connections, which come and go.
    """
    for port in random.sample(range(20_000, 32_000), 100):  # two runs at a time must not choose the same
        with contextlib.suppress(OSError), socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + 3))
            return port
    raise RuntimeError("no two ports are free")
