"""Ask TorchServe on its unix socket: a path and a body enter, a status and a bounded body leave.

Each request has a connection of its own, so that no answer is ever taken for another's: TorchServe answers pipelined
requests in any order. h11 reads what comes back; what is not HTTP/1.1, breaks off or grows too large is a failure, and
so is a head of more than 16 KiB.

It does not defend against a server that is slow: whoever asks sets the deadline.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import h11

from garrison.guard.refusals import REASON_KEY, refuse_for

MAX_HEAD_BYTES = 16 * 1024
_READ_BYTES = 64 * 1024


class Answer:
    """An answer whose head is there and whose body comes: status, the reason in its header, and then `pieces`."""

    def __init__(self, head: h11.Response, events: AsyncIterator[h11.Event]) -> None:
        headers = dict(head.headers)
        self.status = head.status_code
        self.reason = headers.get(REASON_KEY.encode(), b"").decode("latin-1")
        self._events = events

    async def pieces(self, most_bytes: int) -> AsyncIterator[bytes]:
        """Yield the chunks of a chunked body as the server cut them, and any other body as one.

        Raises:
            Failed: there is more than `most_bytes`, or the answer breaks off.
        """
        piece, total = bytearray(), 0
        async for event in self._events:
            if not isinstance(event, h11.Data):
                continue
            total += len(event.data)
            if total > most_bytes:
                raise refuse_for("answer_too_large", f"more than {most_bytes} bytes")
            piece += event.data
            if event.chunk_end and piece:
                yield bytes(piece)
                piece.clear()
        if piece or not total:
            yield bytes(piece)

    async def read(self, most_bytes: int) -> bytes:
        """Return the whole body.

        Raises:
            Failed: as for `pieces`.
        """
        return b"".join([piece async for piece in self.pieces(most_bytes)])


@asynccontextmanager
async def ask(socket: Path, method: str, target: str, body: bytes, headers: Mapping[str, str]) -> AsyncIterator[Answer]:
    """Send a request, and give its answer once the head is there; the connection lasts as long as the answer is used.

    Raises:
        Overloaded: nobody listens there.
        Failed: what comes back is no answer.
    """
    try:
        reader, writer = await asyncio.open_unix_connection(str(socket))
    except OSError as error:
        raise refuse_for("model_unavailable", f"TorchServe's socket: {type(error).__name__}") from error
    try:
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
        writer.writelines(write_request(connection, method, target, body, headers))
        yield await read_answer(connection, reader)
    finally:
        writer.transport.abort()


async def read_answer(connection: h11.Connection, reader: asyncio.StreamReader) -> Answer:
    """Return an answer once its head is there.

    Raises:
        Failed: what comes is no answer.
    """
    events = _read(connection, reader)
    head = await anext(events, None)
    if not isinstance(head, h11.Response):
        raise refuse_for("model_failed", "TorchServe gave no answer")
    return Answer(head, events)


def write_request(
    connection: h11.Connection, method: str, target: str, body: bytes, headers: Mapping[str, str]
) -> list[bytes]:
    """Return a request as it goes out; its connection ends with the answer."""
    fixed = {"host": "localhost", "connection": "close", "content-length": str(len(body))}
    request = h11.Request(method=method, target=target, headers=[*fixed.items(), *headers.items()])
    events = [request, h11.Data(body), h11.EndOfMessage()]
    return [written for event in events if (written := connection.send(event))]


async def _read(connection: h11.Connection, reader: asyncio.StreamReader) -> AsyncIterator[h11.Event]:
    """Yield events until the answer is complete."""
    try:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(_READ_BYTES))
            elif isinstance(event, h11.EndOfMessage):
                return
            elif isinstance(event, h11.Response | h11.Data):
                yield event
            elif not isinstance(event, h11.InformationalResponse):
                raise refuse_for("model_failed", "TorchServe broke off")
    except (OSError, h11.RemoteProtocolError) as error:
        raise refuse_for("model_failed", f"no answer of TorchServe: {type(error).__name__}") from error
