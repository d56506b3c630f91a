"""What can be measured: the shape that every system has, and how long to wait for one.

A system is started once per workload, stays up while the rounds alternate, and is a context manager: leaving it stops
its processes. Its directory is its own.
"""

import contextlib
import http.client
import socket
import ssl
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.load import Target
from bench.workloads import Prepared
from garrison.process import Child

START_TIMEOUT_S = 180
STOP_TIMEOUT_S = 20


@dataclass(frozen=True)
class Running:
    """A system that answers: the process on top of its tree, and where to send requests."""

    pid: int
    target: Target


class System(Protocol):
    """Something that serves a prepared workload over HTTP."""

    name: str
    title: str

    def supports(self, prepared: Prepared) -> bool:
        """Say whether this system has a way to serve the workload."""
        ...

    def run(self, prepared: Prepared, directory: Path) -> contextlib.AbstractContextManager[Running]:
        """Start it, wait until it predicts, stop it on leaving."""
        ...


@contextlib.contextmanager
def run_child(child: Child, target: Target, prepared: Prepared) -> Iterator[Running]:
    """Wait until a started process predicts; stop it on leaving.

    Raises:
        RuntimeError: it ended, or did not predict in time.
    """
    try:
        wait_until_predicts(child, target, prepared)
        yield Running(child.pid, target)
    finally:
        child.stop(STOP_TIMEOUT_S)


def wait_until_predicts(child: Child, target: Target, prepared: Prepared) -> None:
    """Send the workload's first body until it is answered with 200.

    Raises:
        RuntimeError: the process ended, or did not predict in time.
    """
    deadline = time.monotonic() + START_TIMEOUT_S
    status = 0
    while time.monotonic() < deadline and child.exit_code() is None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            status, _ = ask(target, prepared.workload.content_type, prepared.bodies[0])
            if status == http.HTTPStatus.OK:
                return
        time.sleep(0.3)
    words = "\n    ".join(list(child.last_lines)[-15:])
    raise RuntimeError(f"{child.name} does not predict (last status {status}):\n    {words}")


def ask(target: Target, content_type: str, body: bytes) -> tuple[int, bytes]:
    """Send one request and return status and body; certificates are not checked, wrk does not either."""
    parts = urllib.parse.urlsplit(target.url)
    host, port = parts.hostname or "", parts.port or 0
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, port, timeout=60, context=context)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=60)
    headers = {"content-type": content_type} | ({"x-api-key": target.key} if target.key else {})
    with contextlib.closing(connection):
        connection.request("POST", parts.path, body=body, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def ignore(line: bytes) -> None:
    """Drop a line of a server's output; the last ones are kept by `Child`."""
