"""Serve the application on a unix socket, in an event loop that runs already: uvicorn, with h11 as its parser.

uvicorn is asked for nothing but HTTP: it handles no signals, writes no log, and keeps its own words to itself.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import uvicorn

from garrison.contract import Contract
from garrison.guard.report import Report
from garrison.guard.rest.application import Application
from garrison.guard.rest.connection import Connection
from garrison.guard.serving import Serving

BACKLOG = 128
KEEP_ALIVE_S = 90  # longer than the gateway keeps a connection that it does not use
MAX_HEAD_BYTES = 64 * 1024  # of a request; the gateway's own limit is lower
START_TIMEOUT_S = 10
_POLL_S = 0.01


class RestServer:
    """A server that runs until it is stopped."""

    def __init__(self, server: "_Server", task: "asyncio.Task[None]", path: Path) -> None:
        self._server, self._task, self._path = server, task, path

    async def stop(self, grace_s: float) -> None:
        """Take no more connections, finish what is in flight for at most `grace_s`, and close."""
        self._server.config.timeout_graceful_shutdown = max(1, round(grace_s))
        self._server.should_exit = True
        await asyncio.wait({self._task}, timeout=grace_s + START_TIMEOUT_S)
        self._task.cancel()
        self._path.unlink(missing_ok=True)


async def start_rest(serving: Serving, report: Report, contracts: Sequence[Contract], path: Path) -> RestServer:
    """Listen on a unix socket and answer there until `stop`.

    Raises:
        OSError: nothing can be bound there.
    """
    logging.getLogger("uvicorn").addHandler(logging.NullHandler())
    logging.getLogger("uvicorn").propagate = False
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
    except OSError:
        listener.close()
        raise
    server = _Server(_configure(Application(serving, report, contracts)))
    task = asyncio.get_running_loop().create_task(server.serve(sockets=[listener]))
    async with asyncio.timeout(START_TIMEOUT_S):
        while not server.started and not task.done():
            await asyncio.sleep(_POLL_S)
    if task.done():
        task.result()
    return RestServer(server, task, path)


def _configure(application: Application) -> uvicorn.Config:
    return uvicorn.Config(
        application,
        http=Connection,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
    )


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the guard's process."""
        yield
