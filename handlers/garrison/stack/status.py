"""Say whether a server or a gateway is ready, for health checks: asked every few seconds, so it imports little."""

import http.client
import json
import socket
from dataclasses import dataclass
from pathlib import Path

from garrison.errors import Undecided
from garrison.gateway.admin import ask_admin, find_listener
from garrison.sockets import ADMIN, READY
from garrison.stack.reload_state import read_state
from garrison.unix_http import send_request

TIMEOUT_S = 2.0


@dataclass(frozen=True)
class Status:
    """Whether something is ready, and one sentence about it."""

    part: str
    ready: bool
    message: str

    def as_json(self) -> str:
        """Return it as one JSON object."""
        return json.dumps({"part": self.part, "ready": self.ready, "message": self.message})


def ask_server(directory: Path) -> Status:
    """Ask a model server whether each of its models has a worker."""
    path = directory / READY
    try:
        answer = send_request(path, "GET", "/", TIMEOUT_S)
    except (OSError, http.client.HTTPException) as error:
        return Status("server", ready=False, message=f"no server answers at {path} ({error})")
    if answer.status == http.HTTPStatus.OK:
        return Status("server", ready=True, message="ready: every model has a worker")
    return Status("server", ready=False, message="not ready: a model has no worker yet, or the server stops")


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
