"""Say whether the model server can be used: the management socket's answers enter, one yes or no leaves.

TorchServe's own `/ping` says Healthy while a model cannot load. Here a model is ready once a worker of it has answered
a round trip (TorchServe's "customized" describe, which every `SafeHandler` answers), and stays so while TorchServe
lists a worker as READY. `ReadinessServer` tells the gateway over a unix socket: at `/` whether every model is ready, at
`/serving` whether requests may be sent at all. Both say 503 from the moment a stop begins.
"""

import http.client
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from garrison.sockets import SERVING_PATH
from garrison.unix_http import Page, UnixServer, send_request

_STATUS_TIMEOUT_S = 2.0
_ROUND_TRIP_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class ModelState:
    """What is known about one model's workers: process ids of those that can take a request, and of all listed."""

    model: str
    ready: bool
    pids: frozenset[int]
    tried_pids: frozenset[int]


class ModelMonitor:
    """Ask TorchServe about every model, and remember which have answered a round trip."""

    def __init__(self, management_socket: Path, models: Sequence[str]) -> None:
        self._socket = management_socket
        self._models = models
        self._answered: set[str] = set()

    def forget(self) -> None:
        """Start again, after the server was restarted."""
        self._answered.clear()

    def poll(self) -> list[ModelState]:
        """Return the state of every model now; a server that does not answer has no ready model."""
        return [self._poll_model(model) for model in self._models]

    def _poll_model(self, model: str) -> ModelState:
        workers = _list_workers(self._get(f"/models/{model}", _STATUS_TIMEOUT_S))
        pids = frozenset(pid for pid, status in workers.items() if status == "READY")
        if pids and model not in self._answered and self._answers(model):
            self._answered.add(model)
        return ModelState(model, ready=bool(pids) and model in self._answered, pids=pids, tried_pids=frozenset(workers))

    def _answers(self, model: str) -> bool:
        answer = self._get(f"/models/{model}?customized=true", _ROUND_TRIP_TIMEOUT_S)
        described = answer[0] if isinstance(answer, list) and answer else None
        metadata = described.get("customizedMetadata") if isinstance(described, dict) else None
        return isinstance(metadata, dict) and metadata.get("ready") is True

    def _get(self, target: str, timeout_s: float) -> Any:
        try:
            answer = send_request(self._socket, "GET", target, timeout_s)
            return json.loads(answer.body) if answer.status == http.HTTPStatus.OK else None
        except (OSError, http.client.HTTPException, ValueError, RecursionError):
            return None


class ReadinessServer:
    """Answer on a unix socket with 200 or 503.

    `ready` says whether each model has a worker at this moment, `serving` whether the server takes requests: one model
    without a worker does not keep the others' clients away.
    """

    def __init__(self, socket_path: Path) -> None:
        self.ready = False
        self.serving = False
        self._server = UnixServer(socket_path, self._answer)

    def refuse(self) -> None:
        """Say no to both from now on."""
        self.ready = self.serving = False

    def reopen(self) -> None:
        """Listen on a new socket, in place of one that somebody removed."""
        self._server.reopen()

    def close(self) -> None:
        """Stop listening."""
        self._server.close()

    def _answer(self, path: str) -> Page:
        good = self.serving if path == SERVING_PATH else self.ready
        body = json.dumps({"status": "ready" if good else "not ready"}).encode()
        status = http.HTTPStatus.OK if good else http.HTTPStatus.SERVICE_UNAVAILABLE
        return Page(status, "application/json", body)


def _list_workers(description: Any) -> dict[int, str]:
    """Return process id and status of each worker; one that has no process yet has the id 0 or -1 and is left out."""
    first = description[0] if isinstance(description, list) and description else None
    listed = first.get("workers") if isinstance(first, dict) else None
    workers = listed if isinstance(listed, list) else []
    known = [worker for worker in workers if isinstance(worker, dict) and isinstance(worker.get("pid"), int)]
    return {worker["pid"]: str(worker.get("status")) for worker in known if worker["pid"] > 0}
