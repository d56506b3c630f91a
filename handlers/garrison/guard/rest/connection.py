"""One connection of the REST socket: how long a head may take to arrive, and an answer to be read.

uvicorn bounds what a head weighs and how long a connection stays unused; whoever sends a byte a minute, or reads none,
would keep theirs for ever. Such a connection is cut: the gateway, which alone can connect, does neither.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

MAX_CONNECTIONS = 1024
HEAD_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 60.0  # for the rest of an answer, once what is not read yet has filled the buffers


class Connection(H11Protocol):
    """A connection that is cut when the other side is too slow, or one too many."""

    max_connections = MAX_CONNECTIONS
    head_timeout_s = HEAD_TIMEOUT_S
    read_timeout_s = READ_TIMEOUT_S

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head, self._reading = _Timer(), _Timer()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a head."""
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            transport.abort()
        else:
            self._head.start(self.head_timeout_s, transport.abort)

    def data_received(self, data: bytes) -> None:
        """Take what has arrived; a head that is complete begins a cycle."""
        if not self._is_answering():
            self._head.start(self.head_timeout_s, self.transport.abort)
        super().data_received(data)
        if self._is_answering():
            self._head.stop()

    def on_response_complete(self) -> None:
        """Go on to the next request, whose head may have arrived already."""
        super().on_response_complete()
        self._head.stop()

    def pause_writing(self) -> None:
        """Wait for the other side to read what it was sent."""
        super().pause_writing()
        self._reading.start(self.read_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on writing."""
        self._reading.stop()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._head.stop()
        self._reading.stop()
        super().connection_lost(exc)

    def _is_answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # None before the first, whatever uvicorn's types say
        return cycle is not None and not cycle.response_complete


class _Timer:
    """Calls something once, if it is not stopped before; started twice, it goes on as it was."""

    def __init__(self) -> None:
        self._handle: asyncio.TimerHandle | None = None

    def start(self, seconds: float, callback: Callable[[], None]) -> None:
        if self._handle is None:
            self._handle = asyncio.get_running_loop().call_later(seconds, callback)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
