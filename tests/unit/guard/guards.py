"""A guard's gRPC server in this process, over a recording backend, and a client that sends bytes."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from garrison.contract import Contract
from garrison.guard.backend import Backend
from garrison.guard.grpc_server import GuardHandler, NoSuchMethod, make_server
from garrison.guard.report import SilentReport
from garrison.guard.rooms import Rooms
from garrison.guard.service import GuardServing
from unit.guard.backends import RecordingBackend

METADATA = (
    ("x-garrison-client", "alice"),
    ("x-garrison-scopes", "digits:describe digits:predict"),
    ("x-request-id", "id-1"),
)
WAIT_S = 10


@dataclass
class Guarded:
    """A client of the guard, and the backend behind it."""

    channel: Any
    backend: RecordingBackend
    contracts: Sequence[Contract]

    async def ask(self, path: str, message: bytes, metadata: Any = METADATA, **options: Any) -> bytes:
        answer: bytes = await self.channel.unary_unary(path)(message, metadata=metadata, timeout=WAIT_S, **options)
        return answer

    async def refusal(self, path: str, message: bytes, metadata: Any = METADATA, **options: Any) -> tuple[str, str]:
        """Return the status and the reason of a call that has to be refused."""
        try:
            await self.ask(path, message, metadata, **options)
        except grpc.aio.AioRpcError as error:
            trailers = dict(error.trailing_metadata() or ())
            return error.code().name, str(trailers.get("x-garrison-reason", ""))
        raise AssertionError("answered")


def play(
    directory: Path, contracts: Sequence[Contract], use: Callable[[Guarded], Awaitable[Any]], **backend: Any
) -> Any:
    """Run `use` with a client of a guard of these contracts; `backend` is what RecordingBackend is made with."""

    async def run() -> Any:
        served = {"versions": {contract.model: int(contract.version) for contract in contracts}, **backend}
        async with RecordingBackend(directory / "backend.sock", **served) as recording:
            asked = Backend(recording.path, contracts)
            await asked.look()
            serving, report = GuardServing(contracts, asked, Rooms(contracts)), SilentReport()
            handlers = (GuardHandler(serving, contracts, report), NoSuchMethod(report))
            server = make_server(contracts, handlers, directory / "grpc.sock")
            await server.start()
            options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
            async with grpc.aio.insecure_channel(f"unix:{directory}/grpc.sock", options=options) as channel:
                try:
                    return await use(Guarded(channel, recording, contracts))
                finally:
                    await server.stop(0)
                    await asked.close()

    return asyncio.run(asyncio.wait_for(run(), WAIT_S * 2))
