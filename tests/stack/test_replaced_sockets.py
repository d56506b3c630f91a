"""A gateway believes who listens at a server's socket now, not who did before.

The attack: an intruder in a server's container puts a link in the place of `ready.sock`, to another socket that the
gateway reaches, such as the gateway's own. Whoever answers there keeps the connection open, and is asked for ever:
also when the server was started again, clean, with sockets of its own.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import Any

import pytest

from garrison.sockets import READY
from stack.observing import wait_for
from stack.split import SplitStack


class Answers(ThreadingUnixStreamServer):
    """A server that says the same to everybody, and ends no connection."""

    daemon_threads = True

    def __init__(self, path: Path, status: int) -> None:
        self.asked = 0
        self.status = status
        super().__init__(str(path), Handler)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Answers

    def do_GET(self) -> None:
        self.server.asked += 1
        self.send_response(self.server.status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def address_string(self) -> str:
        return "local"


@contextmanager
def answering(path: Path, status: int) -> Iterator[Answers]:
    with Answers(path, status) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()


@pytest.fixture
def split() -> Iterator[SplitStack]:
    """A gateway that runs, and the directory of a server that does not."""
    with SplitStack.prepared() as stack:
        stack.admit("1")
        stack.render("one")
        stack.sockets("one").mkdir()
        stack.start_gateway().wait_until_ready()
        yield stack


def test_who_answered_before_is_not_asked_again(split: SplitStack) -> None:
    directory = split.sockets("one")
    elsewhere, ready = directory / "elsewhere.sock", directory / READY
    with answering(elsewhere, 503) as intruder:
        ready.symlink_to(elsewhere)
        wait_for(lambda: intruder.asked > 3, "the gateway asks the intruder")
        assert not split.place.is_ready()
        ready.unlink()
        with answering(ready, 200) as server:
            wait_for(split.place.is_ready, "the gateway asks the server", 20)
            assert server.asked > 0
