"""A guard's REST server in this event loop, over a recording backend, and raw connections to it."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from garrison.guard.backend import Backend
from garrison.guard.report import SilentReport
from garrison.guard.rest import start_rest
from garrison.guard.rooms import Rooms
from garrison.guard.service import GuardServing
from unit.guard.backends import RecordingBackend
from unit.guard.contracts import make_contract

WAIT_S = 10
CONTRACT = make_contract()
LINES = "host: localhost\r\nx-garrison-client: alice\r\n"
STATUS = f"GET /v1/models/digits HTTP/1.1\r\n{LINES}\r\n".encode()


def post(body: str) -> bytes:
    """Return a request to predict."""
    return f"POST /v1/models/digits:predict HTTP/1.1\r\n{LINES}content-length: {len(body)}\r\n\r\n{body}".encode()


@dataclass
class Rest:
    """The server, its socket, and the backend behind it."""

    server: Any
    path: Path
    backend: RecordingBackend
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return a connection, closed at the end at the latest."""
        reader, writer = await asyncio.open_unix_connection(str(self.path))
        self.writers.append(writer)
        return reader, writer

    async def close(self) -> None:
        for writer in self.writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def ask(self, request: bytes) -> bytes:
        """Return what comes back, up to the end of an object."""
        reader, writer = await self.connect()
        writer.write(request)
        return await reader.readuntil(b"}")


def play(directory: Path, use: Callable[[Rest], Awaitable[Any]], **backend: Any) -> Any:
    async def run() -> Any:
        async with RecordingBackend(directory / "backend.sock", {"digits": 3}, **backend) as recording:
            asked = Backend(recording.path, [CONTRACT])
            await asked.look()
            serving = GuardServing([CONTRACT], asked, Rooms([CONTRACT]))
            server = await start_rest(serving, SilentReport(), [CONTRACT], directory / "rest.sock")
            rest = Rest(server, directory / "rest.sock", recording)
            try:
                return await use(rest)
            finally:
                await rest.close()
                await server.stop(0)
                await asked.close()

    return asyncio.run(asyncio.wait_for(run(), 2 * WAIT_S))
