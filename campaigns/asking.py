"""Many clients of one gateway at once, over few connections that stay open: keys in, statuses out."""

import asyncio
import contextlib
import re
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_RETRY_AFTER = re.compile(rb"retry-after: *(\d+)", re.IGNORECASE)
_CLOSES = re.compile(rb"connection: *close", re.IGNORECASE)
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


@dataclass(frozen=True)
class Answer:
    """What came back, when, and what the request weighed."""

    status: int
    retry_after_s: int
    at_s: float
    took_s: float
    sent_bytes: int


@dataclass
class Asker:
    """Some connections to a gateway; each takes one request at a time."""

    port: int
    authority: Path
    count: int = 8
    _free: asyncio.Queue["_Connection"] = field(default_factory=asyncio.Queue)

    async def open(self) -> None:
        """Open all connections."""
        tls = ssl.create_default_context(cafile=str(self.authority))
        for _ in range(self.count):
            self._free.put_nowait(_Connection(self.port, tls))

    async def close(self) -> None:
        """Close them, once they are free."""
        for _ in range(self.count):
            (await self._free.get()).drop()

    async def ask(self, key: str, body: bytes = b"x") -> Answer:
        """Send one request with a client's key."""
        connection = await self._free.get()
        try:
            return await connection.ask(key, body)
        finally:
            self._free.put_nowait(connection)


class _Connection:
    def __init__(self, port: int, tls: ssl.SSLContext) -> None:
        self._port, self._tls = port, tls
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, key: str, body: bytes) -> Answer:
        head = f"POST /predictions/digits HTTP/1.1\r\nhost: localhost\r\nx-api-key: {key}\r\n"
        request = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
        began = time.monotonic()
        if self._streams is None:
            self._streams = await asyncio.open_connection(
                "127.0.0.1", self._port, ssl=self._tls, server_hostname="localhost"
            )
        reader, writer = self._streams
        writer.write(request)
        told = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(told)
        await reader.readexactly(int(length[1]) if length else 0)
        if _CLOSES.search(told):
            self.drop()
        retry_after = _RETRY_AFTER.search(told)
        now = time.monotonic()
        return Answer(int(told[9:12]), int(retry_after[1]) if retry_after else 0, now, now - began, len(request))

    def drop(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


@contextlib.asynccontextmanager
async def answering(*sockets: Path) -> AsyncIterator[None]:
    """Answer every request on some unix sockets with 200, as fast as Python can, while the block runs."""
    servers = []
    for path in sockets:
        path.unlink(missing_ok=True)
        servers.append(await asyncio.start_unix_server(_answer, path))
    try:
        yield
    finally:
        for server in servers:
            server.close()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = _LENGTH.search(head)
            await reader.readexactly(int(length[1]) if length else 0)
            writer.write(ANSWER)
    writer.close()
