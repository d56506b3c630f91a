"""Say whether a server or a gateway is ready, for health checks: asked every few seconds, so it imports little."""

import contextlib
import http.client
import json
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

from garrison.errors import Undecided
from garrison.gateway.admin import ask_admin, find_listener
from garrison.sockets import ADMIN, READY, STATUS
from garrison.stack.described import ServedModel
from garrison.stack.reload_state import read_state
from garrison.unix_http import send_request

TIMEOUT_S = 2.0


@dataclass(frozen=True)
class Status:
    """Whether something is ready, and one sentence about it."""

    part: str
    ready: bool
    message: str
    models: tuple[ServedModel, ...] = ()  # of a server that was asked in its run directory

    def as_json(self) -> str:
        """Return it as one JSON object."""
        told = {"part": self.part, "ready": self.ready, "message": self.message}
        return json.dumps(told | ({"models": [asdict(one) for one in self.models]} if self.models else {}))


def ask_server(directory: Path) -> Status:
    """Ask a model server whether each of its models has a worker; in its run directory also what it serves."""
    with contextlib.suppress(OSError, http.client.HTTPException, ValueError, TypeError, KeyError):
        told = json.loads(send_request(directory / STATUS, "GET", "/", TIMEOUT_S).body)
        models = tuple(ServedModel(**one) for one in told["models"])
        return _tell_server(models, ready=told["ready"] is True)
    path = directory / READY
    try:
        answer = send_request(path, "GET", "/", TIMEOUT_S)
    except (OSError, http.client.HTTPException) as error:
        return Status("server", ready=False, message=f"no server answers at {path} ({error})")
    if answer.status == http.HTTPStatus.OK:
        return _tell_server(ready=True)
    return _tell_server(ready=False)


def ask_guard(directory: Path) -> Status:
    """Ask each process of a guard whether it takes requests, and whether the servers behind it have their models."""
    found = sorted(path for path in directory.glob("[0-9]*") if path.is_dir())
    refusing = [path.name for path in found if not ask_server(path).ready]
    if not found:
        return Status("guard", ready=False, message=f"no guard has sockets in {directory}")
    if refusing:
        told = f"process {', '.join(refusing)} of {len(found)} takes no requests, or a model is not there behind it"
        return Status("guard", ready=False, message=f"not ready: {told}")
    return Status("guard", ready=True, message=f"ready: {len(found)} processes take requests, and every model is there")


def _tell_server(models: tuple[ServedModel, ...] = (), *, ready: bool) -> Status:
    no = "not ready: a model has no worker yet, or the server stops"
    return Status("server", ready=ready, message="ready: every model has a worker" if ready else no, models=models)


def ask_gateway(run_directory: Path) -> Status:
    """Ask Envoy whether it runs and accepts connections, and look at what became of its last configuration.

    A configuration that was refused changes nothing and is only told; one that Envoy did not take is a fault.
    """
    admin = run_directory / ADMIN
    try:
        ask_admin(admin, "GET", "/ready")
        address, port = find_listener(admin)
        with socket.create_connection((address, port), TIMEOUT_S):
            message = f"ready: connections are accepted on port {port}"
    except (Undecided, OSError) as error:
        return Status("gateway", ready=False, message=f"not ready: {error}")
    state = read_state(run_directory)
    if state is None or not state.problem:
        return Status("gateway", ready=True, message=message)
    if not state.taken:
        return Status("gateway", ready=False, message=f"not sound: {state.problem}")
    return Status("gateway", ready=True, message=f"{message}; {state.problem}")
