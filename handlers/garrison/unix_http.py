"""Speak HTTP on unix sockets, on both sides: one request in, status and body out.

As a client to TorchServe's management socket and Envoy's admin socket: answers are cut off at `MAX_ANSWER_BYTES`, a
peer that hangs costs `timeout_s`. As a server for the launcher's own sockets, for which a function says what is
at a path; its only callers are local, and one that hangs, or sends a byte now and then, costs `CALLER_TIMEOUT_S`.
"""

import contextlib
import http.client
import socket
import socketserver
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

MAX_ANSWER_BYTES = 4 * 2**20
CALLER_TIMEOUT_S = 2
MAX_SOCKET_PATH_BYTES = 107  # the kernel's limit


@dataclass(frozen=True)
class Answer:
    """An HTTP answer: status code and the body's bytes."""

    status: int
    body: bytes


@dataclass(frozen=True)
class Page:
    """What a server of ours says to a GET."""

    status: int
    content_type: str
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


class UnixServer:
    """Answer every GET on a unix socket with the page that `answer` gives for its path, from a thread of its own."""

    def __init__(self, path: Path, answer: Callable[[str], Page]) -> None:
        self._path, self._answer = path, answer
        self._listen()

    def _listen(self) -> None:
        self._server = _Listener(str(self._path), _start_handler)
        self._server.answer = self._answer
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def reopen(self) -> None:
        """Listen on a new socket, in place of one that somebody removed."""
        self.close()
        self._listen()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


class _Listener(socketserver.UnixStreamServer):
    answer: Callable[[str], Page]
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Write nothing about a caller that has gone: that is no error of ours."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    timeout = CALLER_TIMEOUT_S
    server: _Listener

    def do_GET(self) -> None:
        """Answer with the page of the path."""
        self.wfile.write(self._send_head())

    def do_HEAD(self) -> None:
        """Answer as to a GET, without the body; load balancers ask so."""
        self._send_head()

    def _send_head(self) -> bytes:
        page = self.server.answer(self.path)
        self.send_response(page.status)
        self.send_header("content-type", page.content_type)
        self.send_header("content-length", str(len(page.body)))
        self.end_headers()
        return page.body

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Write nothing: the gateway logs."""


def _start_handler(request: socket.socket, _: Any, server: Any) -> _Handler:
    limit = threading.Timer(CALLER_TIMEOUT_S, _hang_up, [request])
    limit.daemon = True
    limit.start()
    try:
        return _Handler(request, ("local", 0), server)  # a unix socket has no peer address to log
    finally:
        limit.cancel()


def _hang_up(request: socket.socket) -> None:
    with contextlib.suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


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
