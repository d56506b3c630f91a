"""A TorchServe that writes down what it is asked over its unix socket, and answers with whatever bytes it is told to.

It stands behind a guard's gRPC server in this process; `play` gives a test the client's side of both.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from garrison.contract import Contract
from garrison.guard.grpc_server import NoSuchMethod, make_server
from garrison.guard.report import SilentReport
from garrison.guard.torchserve import SERVICE, make_handler, messages
from garrison.sockets import INFERENCE, READY

WAIT_S = 10
CALLER = (
    ("x-garrison-client", "alice"),
    ("x-garrison-scopes", "words:describe words:predict"),
    ("x-request-id", "id-1"),
)


def say(status: int, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", f"content-length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def say_chunks(*chunks: bytes) -> bytes:
    framed = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + framed + b"0\r\n\r\n"


def say_verdict(status: int, reason: str, message: str) -> bytes:
    body = f'{{"reason": "{reason}", "message": "{message}"}}'.encode()
    return say(status, body, f"x-garrison-reason: {reason}")


@dataclass
class RecordingTorchServe:
    """Keeps every request; says `answer` in pieces of `cut` bytes, then closes or stays as `stays_s` has it."""

    answer: bytes = field(default_factory=lambda: say(200, b'{"label": "yes"}'))
    ready: bytes = field(default_factory=lambda: say(200, b'{"ready": true}'))
    cut: int = 2**20
    stays_s: float = 0.0
    heads: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    async def inference(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        self.heads.append(head)
        self.bodies.append(await reader.readexactly(int(length[1]) if length else 0))
        for start in range(0, len(self.answer), self.cut):
            writer.write(self.answer[start : start + self.cut])
            await asyncio.sleep(0)
        with contextlib.suppress(TimeoutError, OSError):  # until the other side hangs up
            await asyncio.wait_for(reader.read(), self.stays_s)
        writer.close()

    async def readiness(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(self.ready)
        writer.close()


@dataclass
class Client:
    """A client that knows the messages, and one that sends any bytes."""

    channel: Any

    async def predict(self, model: str = "words", version: str = "", metadata: Any = CALLER, **inputs: bytes) -> bytes:
        sent = messages.PredictionsRequest(model_name=model, model_version=version, input=inputs or {"data": b"hi"})
        answer = await self.ask("Predictions", sent.SerializeToString(), metadata)
        prediction: bytes = messages.PredictionResponse.FromString(answer).prediction
        return prediction

    async def stream(self, model: str = "words", metadata: Any = CALLER, data: bytes = b"hi") -> list[bytes]:
        sent = messages.PredictionsRequest(model_name=model, input={"data": data}).SerializeToString()
        call = self.channel.unary_stream(f"{SERVICE}StreamPredictions")(sent, metadata=metadata, timeout=WAIT_S)
        return [messages.PredictionResponse.FromString(one).prediction async for one in call]

    async def ask(self, method: str, message: bytes, metadata: Any = CALLER, timeout_s: float = WAIT_S) -> bytes:
        call = self.channel.unary_unary(f"{SERVICE}{method}")
        answer: bytes = await call(message, metadata=metadata, timeout=timeout_s)
        return answer


async def refusal(call: Awaitable[Any]) -> tuple[str, str, str]:
    """Return status, reason and message of a call that has to be refused."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        reason = dict(error.trailing_metadata() or ()).get("x-garrison-reason", "")
        return error.code().name, str(reason), error.details() or ""
    raise AssertionError("answered")


def play(
    directory: Path, contracts: Sequence[Contract], server: RecordingTorchServe, use: Callable[[Client], Awaitable[Any]]
) -> Any:
    """Run `use` with a client of a guard in front of `server`."""

    async def run() -> Any:
        inference = await asyncio.start_unix_server(server.inference, directory / INFERENCE)
        readiness = await asyncio.start_unix_server(server.readiness, directory / READY)
        try:
            async with guarding(directory / "grpc.sock", contracts, directory / INFERENCE) as channel:
                return await use(Client(channel))
        finally:
            inference.close()
            readiness.close()

    return asyncio.run(asyncio.wait_for(run(), WAIT_S * 2))


@contextlib.asynccontextmanager
async def guarding(path: Path, contracts: Sequence[Contract], inference: Path) -> AsyncIterator[Any]:
    """Put a guard's gRPC server on the socket `path`, in front of TorchServe's, and give a channel to it."""
    report = SilentReport()
    guard = make_server(contracts, (make_handler(contracts, inference, report), NoSuchMethod(report)), path)
    await guard.start()
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(f"unix:{path}", options=options) as channel:
        try:
            yield channel
        finally:
            await guard.stop(0)
