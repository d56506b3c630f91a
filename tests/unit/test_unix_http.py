"""The launcher's own sockets: what a hostile caller, such as a gateway that was taken over, costs the others."""

import http
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from garrison.unix_http import CALLER_TIMEOUT_S, Page, UnixServer, send_request

BYTE_EVERY_S = 0.2
PATIENCE_S = 5 * CALLER_TIMEOUT_S


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "page.sock"


@pytest.fixture
def server(place: Path) -> Iterator[UnixServer]:
    """A server that says the same to everybody."""
    found = UnixServer(place, lambda _: Page(http.HTTPStatus.OK, "text/plain", b"x" * 2**20))
    yield found
    found.close()


@pytest.fixture
def dripping(place: Path, server: UnixServer) -> Iterator[None]:
    """A caller whose request never ends, though every byte comes in time."""
    done = threading.Event()

    def drip() -> None:
        end = time.monotonic() + 2 * PATIENCE_S
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(str(place))
            caller.sendall(b"GET / HTTP/1.1\r\nx: ")
            asked.set()
            try:
                while not done.wait(BYTE_EVERY_S) and time.monotonic() < end:
                    caller.sendall(b"x")
            except BrokenPipeError:
                return

    asked = threading.Event()
    thread = threading.Thread(target=drip)
    thread.start()
    assert asked.wait(PATIENCE_S)
    yield
    done.set()
    thread.join()


@pytest.mark.usefixtures("dripping")
def test_who_drips_keeps_the_next_one_waiting_for_a_moment_only(place: Path) -> None:
    assert send_request(place, "GET", "/", PATIENCE_S).status == http.HTTPStatus.OK


@pytest.mark.usefixtures("dripping")
def test_who_drips_does_not_keep_the_server_from_stopping(server: UnixServer) -> None:
    began = time.monotonic()
    server.close()
    assert time.monotonic() - began < PATIENCE_S


@pytest.mark.usefixtures("server")
def test_who_leaves_before_the_answer_leaves_no_traceback(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(place))
        caller.sendall(b"GET / HTTP/1.1\r\n\r\n")
    assert send_request(place, "GET", "/", PATIENCE_S).status == http.HTTPStatus.OK
    assert capfd.readouterr().err == ""
