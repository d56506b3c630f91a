"""The guard's REST in front of the stand-in, in a thread of this process: real sockets, real models, no gateway.

A client of these tests stands where the gateway stands: it says who asks in `x-garrison-client`.
"""

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from garrison.contract import Contract
from garrison.guard.backend import Backend
from garrison.guard.refusals import REASON_KEY, Words, find_words
from garrison.guard.rest import start_rest
from garrison.guard.rooms import Rooms
from garrison.guard.service import GuardServing
from garrison.guard.serving import Caller

TIMEOUT_S = 20
GATEWAY = {"x-garrison-client": "alice", "x-request-id": "5f1b0b1e-1"}


@dataclass(frozen=True)
class Reply:
    """What came back: the status, the headers by their names in small letters, the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def reason(self) -> str:
        return self.headers.get(REASON_KEY, "")

    def read(self) -> Any:
        """Return the JSON, each number as its text."""
        return read_exactly(self.body)


def read_exactly(text: bytes | str) -> Any:
    """Read JSON, keeping each number as the text that stands there: 1 and 1.0 are not the same."""

    def refuse(constant: str) -> Any:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_int=lambda n: f"#{n}", parse_float=lambda n: f"#{n}", parse_constant=refuse)


class Heard:
    """A report that keeps what it is told: one entry for each request."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, str, str]] = []  # reason or "answered", the model, the detail

    def answered(self, protocol: str, model: str, seconds: float) -> None:
        assert protocol == "tfserving-rest"
        assert 0 <= seconds < TIMEOUT_S
        self.entries.append(("answered", model, ""))

    def refused(
        self, error: BaseException, *, protocol: str, caller: Caller | None, model: str, request_id: str = ""
    ) -> Words:
        assert protocol == "tfserving-rest"
        words = find_words(error)
        self.entries.append((words.reason, model, words.detail))
        return words


class ServedRest:
    """The guard's REST while it runs."""

    def __init__(self, contracts: Sequence[Contract], backend: Path, directory: Path) -> None:
        self.path, self.heard = directory / "rest.sock", Heard()
        self._contracts, self._backend = contracts, backend
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._run(self._start())

    def stop(self) -> None:
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(TIMEOUT_S)
        self._loop.close()

    def ask(
        self, method: str, target: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Send one request as the gateway does, on a connection of its own."""
        connection = _Connection(self.path)
        try:
            connection.request(method, target, body, {**GATEWAY, **(headers or {})})
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, found, response.read())
        finally:
            connection.close()

    def connect(self) -> socket.socket:
        """Return a connection to write bytes on."""
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connected.settimeout(TIMEOUT_S)
        connected.connect(str(self.path))
        return connected

    def _run(self, doing: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(doing, self._loop).result(TIMEOUT_S)

    async def _start(self) -> None:
        self._asked = Backend(self._backend, self._contracts)
        await self._asked.look()
        serving = GuardServing(self._contracts, self._asked, Rooms(self._contracts))
        self._rest = await start_rest(serving, self.heard, self._contracts, self.path)

    async def _stop(self) -> None:
        await self._rest.stop(1)
        await self._asked.close()


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(str(self._path))
