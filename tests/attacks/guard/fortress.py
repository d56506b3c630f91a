"""A guard as it runs for real, a process of its own, before a TensorFlow Serving that writes down what it is asked.

Behind `Fortress.naive` stands the same server with nothing in front of it but a proxy, as gRPC's examples have it: what
gets through there is what an attack would do.
"""

import contextlib
import json
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from campaigns.guarded import start, wait_until_ready
from garrison.guard.backend import AVAILABLE, STATUS
from garrison.guard.tensors import write_tensors
from garrison.sockets import GUARD_GRPC, GUARD_REST, READY, WATCH
from garrison.tensorflow.messages import messages
from garrison.unix_http import send_request
from unit.guard.contracts import CLASSIFY, PIXELS, REGRESS, describe_contract, make_signature

WAIT_S = 10
TIMEOUT_S = 1  # of the contracts
PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 2**20
MANY_OUTPUTS = {f"out{number}": {"dtype": "float32", "shape": [2], "decimals": 3} for number in range(10)}
NUMBERS = {"bytes": {"kind": "tensor", "dtype": "uint8", "shape": [4]}}
TEXTS = {"words": {"kind": "text", "shape": [2], "max_bytes": 16, "max_characters": 8}}
SIGNATURES = {
    "serving_default": make_signature(),
    "classes": CLASSIFY,
    "values": REGRESS,
    "many": make_signature(PIXELS, MANY_OUTPUTS),
    "small": make_signature(NUMBERS),
    "texts": make_signature(TEXTS),
}
WORKERS = {"count": 1, "queue": 8, "timeout_s": TIMEOUT_S}
CONTRACTS = {
    "digits": describe_contract(SIGNATURES, workers=WORKERS),
    "secrets": describe_contract({"serving_default": make_signature()}, model="secrets", workers=WORKERS),
}


class Backend(grpc.GenericRpcHandler):
    """The server behind: keeps each message, and answers Predict with all outputs that were asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.called: list[tuple[str, bytes, float | None]] = []  # method, message, and the seconds that are left
        self.gate: threading.Event | None = None  # waited for before an answer
        self._server = _listen(path, self, threads=16)

    def service(self, details: Any) -> Any:
        def answer(message: bytes, context: Any) -> bytes:
            if details.method == STATUS:
                return _say_available()
            self.called.append((details.method, message, context.time_remaining()))
            if self.gate is not None:
                self.gate.wait(WAIT_S)
            return _answer(message)

        return grpc.unary_unary_rpc_method_handler(answer)

    def requests(self) -> list[Any]:
        """Return what it was asked to predict."""
        return [messages.PredictRequest.FromString(message) for _, message, _ in self.called]

    def stop(self) -> None:
        self._server.stop(0).wait(WAIT_S)


class NaiveProxy(grpc.GenericRpcHandler):
    """What is no guard: it sends every method and every message on."""

    def __init__(self, path: Path, backend: Path) -> None:
        self._channel = grpc.insecure_channel(f"unix:{backend}", [("grpc.max_send_message_length", -1)])
        self._server = _listen(path, self, threads=4)

    def service(self, details: Any) -> Any:
        call = self._channel.unary_unary(details.method)
        return grpc.unary_unary_rpc_method_handler(lambda message, _: call(message, timeout=WAIT_S))

    def stop(self) -> None:
        self._server.stop(0).wait(WAIT_S)
        self._channel.close()


@dataclass
class Fortress:
    """A guard that runs, what it holds in memory, and what is behind it."""

    directory: Path
    backend: Backend
    pid: int
    naive: Path
    baseline_mb: float = 0.0
    channels: dict[Path, Any] = field(default_factory=dict)

    @property
    def grpc(self) -> Path:
        return self.directory / "0" / GUARD_GRPC

    @property
    def rest(self) -> Path:
        return self.directory / "0" / GUARD_REST

    def settle(self) -> None:
        """Note what the guard holds now that it is warm."""
        self.baseline_mb = self.resident_mb()

    def resident_mb(self) -> float:
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * PAGE_MB

    def peak_growth_mb(self) -> float:
        """Return how much more than when it was warm the guard has held at any moment since it began."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        peak_kb = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
        return peak_kb / 1024 - self.baseline_mb

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def metrics(self) -> str:
        return send_request(self.directory / "0" / WATCH, "GET", "/metrics", 5).body.decode()

    def channel(self, socket: Path) -> Any:
        """Return a channel that lets a client send what it likes."""
        if socket not in self.channels:
            options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
            options += [("grpc.max_metadata_size", 2**22), ("grpc.absolute_max_metadata_size", 2**22)]
            self.channels[socket] = grpc.insecure_channel(f"unix:{socket}", options)
        return self.channels[socket]


@contextlib.contextmanager
def open_fortress() -> Iterator[Fortress]:
    """Start the backend, the proxy and the guard; stop them at the end."""
    with tempfile.TemporaryDirectory(prefix="fort-") as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        (directory / "contracts").mkdir()
        for model, contract in CONTRACTS.items():
            (directory / "contracts" / f"{model}.yaml").write_text(json.dumps(contract))
        (directory / "0").mkdir()
        backend = Backend(directory / "b.sock")
        stack.callback(backend.stop)
        proxy = NaiveProxy(directory / "n.sock", backend.path)
        stack.callback(proxy.stop)
        pid = stack.enter_context(_start_guard(directory))
        fortress = Fortress(directory, backend, pid, directory / "n.sock")
        stack.callback(lambda: [channel.close() for channel in fortress.channels.values()])
        yield fortress


@contextlib.contextmanager
def _start_guard(directory: Path) -> Iterator[int]:
    options = ["--directory", directory / "0", "--contracts", directory / "contracts"]
    command = [sys.executable, "-I", "-m", "garrison.guard", *options, "--backend", directory / "b.sock"]
    with start(list(map(str, command))) as process:
        wait_until_ready(directory / "0" / READY)
        yield process.pid


def _listen(path: Path, handler: grpc.GenericRpcHandler, threads: int) -> Any:
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_metadata_size", 2**22)]
    options.append(("grpc.absolute_max_metadata_size", 2**22))
    server = grpc.server(futures.ThreadPoolExecutor(threads), options=options)
    server.add_generic_rpc_handlers([handler])
    server.add_insecure_port(f"unix:{path}")
    server.start()
    return server


def _say_available() -> bytes:
    answer = messages.GetModelStatusResponse()
    answer.model_version_status.add(version=3, state=AVAILABLE)
    said: bytes = answer.SerializeToString()
    return said


def _answer(message: bytes) -> bytes:
    """Answer a request of one row as a model would: all wanted outputs, or nothing if it is no such request."""
    with contextlib.suppress(Exception):
        wanted = messages.PredictRequest.FromString(message).output_filter
        scores = np.array([[0.25, 0.75]], dtype=np.float32)
        return b"".join(write_tensors(b"\x0a", dict.fromkeys(wanted, scores)))
    return b""
