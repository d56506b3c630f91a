"""TorchServe as it comes, with the same model: what the attacks do where Garrison is not.

Packed by the real torch-model-archiver, served by the same java and the same jar, with the release's defaults as far
as one machine allows: only the addresses are ours (unix sockets, and gRPC ports that the kernel picks), and the
collector of system metrics is off, which no attack needs.
"""

import contextlib
import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from garrison.process import Child
from garrison.torchserve.server import find_java, find_server_home
from garrison.unix_http import Answer, send_request
from stack.running import DIGITS, REPOSITORY

STOCK_HANDLER = REPOSITORY / "tests" / "attacks" / "stock_handler.py"
START_TIMEOUT_S = 90
PROPERTIES = """\
inference_address=unix:{0}/inference.sock
management_address=unix:{0}/management.sock
metrics_address=unix:{0}/metrics.sock
grpc_inference_port=0
grpc_management_port=0
disable_token_authorization=true
disable_system_metrics=true
default_workers_per_model=1
"""


@dataclass(frozen=True)
class StockServer:
    """A running TorchServe without any gate."""

    directory: Path
    pid: int

    def predict(self, body: bytes, kind: str = "application/octet-stream") -> Answer:
        """Send an image to the digits model."""
        return self.ask("inference", "POST", "/predictions/digits", body, kind)

    def manage(self, method: str, target: str) -> Answer:
        """Send a request to the management interface."""
        return self.ask("management", method, target)

    def worker_pid(self) -> int:
        """Return the worker's process id, once there is one that can take a request."""
        workers = json.loads(self.manage("GET", "/models/digits").body)[0]["workers"]
        return next(int(worker["pid"]) for worker in workers if worker["status"] == "READY")

    def ask(
        self, socket: str, method: str, target: str, body: bytes = b"", kind: str = "text/plain", timeout_s: float = 60
    ) -> Answer:
        return send_request(self.directory / f"{socket}.sock", method, target, timeout_s, body, {"content-type": kind})


@contextlib.contextmanager
def run_stock(directory: Path, handler: Path = STOCK_HANDLER) -> Iterator[StockServer]:
    """Pack the digits the stock way and serve them; everything happens in one directory."""
    store = pack_stock(directory, handler)
    (directory / "config.properties").write_text(PROPERTIES.format(directory))
    home = find_server_home()
    command = [
        *(str(find_java()), "-Xmx1g", f"-Djava.io.tmpdir={directory}", f"-Dmodel_server_home={home}"),
        *("-cp", str(home / "ts" / "frontend" / "model-server.jar"), "org.pytorch.serve.ModelServer"),
        *("--python", sys.executable, "-f", str(directory / "config.properties"), "-s", str(store), "-ncs"),
        *("-w", str(store), "-m", "digits=digits.mar"),
    ]
    environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": str(directory), "LOG_LOCATION": str(directory)}
    child = Child("TorchServe", command, {**environment, "OMP_NUM_THREADS": "1"}, directory, lambda line: None)
    server = StockServer(directory, child.pid)
    try:
        wait_until_ready(server, child)
        yield server
    finally:
        child.stop(10)


def pack_stock(directory: Path, handler: Path) -> Path:
    """Make digits.mar with torch-model-archiver and a handler; return the model store."""
    store = directory / "store"
    store.mkdir()
    arguments = [
        *("--model-name", "digits", "--version", "1", "--serialized-file", str(DIGITS / "model.pt")),
        *("--handler", str(handler), "--extra-files", str(DIGITS / "labels.json"), "--export-path", str(store)),
    ]
    command = [sys.executable, "-m", "model_archiver.model_packaging", *arguments]
    subprocess.run(command, check=True, capture_output=True, cwd=directory, env={"TMPDIR": str(directory)})
    return store


def wait_until_ready(server: StockServer, child: Child) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and child.exit_code() is None:
        with contextlib.suppress(OSError, http.client.HTTPException, StopIteration, LookupError, ValueError):
            server.worker_pid()
            return
        time.sleep(0.2)
    raise AssertionError(f"stock TorchServe did not start: {list(child.last_lines)}")
