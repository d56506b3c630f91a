"""A TensorFlow Serving that writes down what it is asked, and answers what it is told to: grpc.aio, no TensorFlow.

async with RecordingBackend(path) as backend:
    backend.answers[PREDICT] = b"..."      # bytes, or an exception's status by `Fails`
    backend.called                         # [(path, message, seconds left), ...]
"""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from garrison.guard.backend import AVAILABLE, STATUS
from garrison.tensorflow.messages import messages


@dataclass(frozen=True)
class Call:
    """One call as the backend got it."""

    path: str
    message: bytes
    left_s: float


@dataclass(frozen=True)
class Fails:
    """What the backend says instead of an answer."""

    code: grpc.StatusCode
    details: str = "/srv/models/secret: dense_1/kernel is broken"


@dataclass
class RecordingBackend(grpc.GenericRpcHandler):
    """Answers every model's status with AVAILABLE, and everything else with what stands in `answers`."""

    path: Path
    versions: dict[str, int] = field(default_factory=dict)
    answers: dict[str, bytes | Fails] = field(default_factory=dict)
    called: list[Call] = field(default_factory=list)
    delay_s: float = 0.0
    gate: asyncio.Event | None = None  # waited for before an answer

    async def __aenter__(self) -> "RecordingBackend":
        self._server = grpc.aio.server(options=[("grpc.max_receive_message_length", 64 * 2**20)])
        self._server.add_generic_rpc_handlers((self,))
        self._server.add_insecure_port(f"unix:{self.path}")
        await self._server.start()
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self._server.stop(0)
        self.path.unlink(missing_ok=True)

    def service(self, details: Any) -> Any:
        path = details.method

        async def answer(message: bytes, context: Any) -> bytes:
            if path == STATUS:
                return self._status(message)
            self.called.append(Call(path, message, context.time_remaining() or 0.0))
            await asyncio.sleep(self.delay_s)
            if self.gate is not None:
                await self.gate.wait()
            said = self.answers.get(path, Fails(grpc.StatusCode.UNIMPLEMENTED))
            if isinstance(said, Fails):
                await context.abort(said.code, said.details)
            return said

        return grpc.unary_unary_rpc_method_handler(answer)

    def _status(self, message: bytes) -> bytes:
        name = messages.GetModelStatusRequest.FromString(message).model_spec.name
        answer = messages.GetModelStatusResponse()
        if name in self.versions:
            answer.model_version_status.add(version=self.versions[name], state=AVAILABLE)
        return answer.SerializeToString()
