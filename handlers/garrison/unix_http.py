"""Speak HTTP/1.1 to a local server on a unix socket: one request in, status and body out.

Used for TorchServe's management socket, Envoy's admin socket and the readiness socket. Answers are cut off at
`MAX_ANSWER_BYTES`; a peer that hangs costs `timeout_s`.
"""

import http.client
import socket
from dataclasses import dataclass
from pathlib import Path

MAX_ANSWER_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Answer:
    """An HTTP answer: status code and the body's bytes."""

    status: int
    body: bytes


def send_request(
    path: Path, method: str, target: str, timeout_s: float, body: bytes = b"", headers: dict[str, str] | None = None
) -> Answer:
    """Send one request to the server listening on `path` and read its answer.

    Raises:
        OSError: nobody listens there, or the peer broke off or took longer than `timeout_s` for one step.
        http.client.HTTPException: the answer is not HTTP.
    """
    connection = _UnixConnection(path, timeout_s)
    try:
        connection.request(method, target, body=body or None, headers=headers or {})
        response = connection.getresponse()
        return Answer(response.status, response.read(MAX_ANSWER_BYTES))
    finally:
        connection.close()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.sock.settimeout(self.timeout)
            self.sock.connect(str(self._path))
        except OSError:
            self.sock.close()
            raise
