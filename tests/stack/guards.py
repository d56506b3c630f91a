"""A guard that writes down everything it sees: REST and gRPC on unix sockets, one answer to all.

It knows no messages: whatever bytes come are kept, whatever bytes are wanted go back.
"""

import contextlib
import threading
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from garrison.gateway.upstreams import GuardSockets
from stack.gateways import WAIT_S, Gateway, RecordingServer

MOST_MESSAGE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Called:
    """A gRPC call as the guard got it."""

    method: str
    headers: dict[str, str]
    message: bytes
    time_left_s: float


@dataclass
class Say:
    """What the guard says to every call: messages, then a status with its message and further trailers."""

    messages: list[bytes] = field(default_factory=lambda: [b"\x0a\x03yes"])
    code: grpc.StatusCode = grpc.StatusCode.OK
    details: str = ""
    trailers: tuple[tuple[str, str], ...] = ()
    gate: threading.Event | None = None  # waited for in front of the message `gated`
    gated: int = 1


class RecordingGuard(grpc.GenericRpcHandler):
    """Both of its servers, and the socket that says whether it takes requests."""

    def __init__(self, directory: Path) -> None:
        self.sockets = GuardSockets.in_directory(directory)
        self.rest, self.readiness = RecordingServer(self.sockets.rest), RecordingServer(self.sockets.readiness)
        self.reset()
        self._server = grpc.server(
            futures.ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", MOST_MESSAGE_BYTES)]
        )
        self._server.add_generic_rpc_handlers([self])
        self._server.add_insecure_port(f"unix:{self.sockets.grpc}")
        self._server.start()

    def reset(self) -> None:
        self.called: list[Called] = []
        self.say = Say()
        self.rest.reset()
        self.readiness.reset()

    def stop(self) -> None:
        self._server.stop(0).wait(WAIT_S)
        self.rest.stop()
        self.readiness.stop()

    def service(self, details: Any) -> grpc.RpcMethodHandler:
        headers = {key: value for key, value in details.invocation_metadata if isinstance(value, str)}

        def answer(message: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            self.called.append(Called(details.method, headers, message, context.time_remaining()))
            said = self.say
            context.set_trailing_metadata(said.trailers)
            for number, one in enumerate(said.messages):
                if number == said.gated and said.gate is not None:
                    said.gate.wait(WAIT_S)
                yield one
            context.set_code(said.code)
            context.set_details(said.details)

        return grpc.unary_stream_rpc_method_handler(answer)


@dataclass(frozen=True)
class Outcome:
    """How a call ended for the client."""

    code: grpc.StatusCode
    details: str
    messages: list[bytes]
    trailers: dict[str, Any]
    headers: dict[str, Any]

    @property
    def reason(self) -> str:
        return str(self.trailers.get("x-garrison-reason", self.headers.get("x-garrison-reason", "")))


def open_channel(gateway: Gateway, *options: tuple[str, Any]) -> grpc.Channel:
    # The certificate itself: gRPC does not know how to check the authority's constraint on IP addresses.
    credentials = grpc.ssl_channel_credentials((gateway.ca_path.parent / "server.pem").read_bytes())
    sizes = [("grpc.max_send_message_length", MOST_MESSAGE_BYTES), *options]
    return grpc.secure_channel(f"localhost:{gateway.port}", credentials, sizes)


def call(
    gateway: Gateway, method: str, key: str | None, message: bytes = b"message", *, timeout_s: float = WAIT_S,
    metadata: tuple[tuple[str, str], ...] = (), options: tuple[tuple[str, Any], ...] = (), **kwargs: Any,
) -> Outcome:  # fmt: skip
    """Call a method as gRPC clients do, with bytes as its message."""
    with open_channel(gateway, *options) as channel:
        sent = (*metadata, *((("x-api-key", key),) if key else ()))
        started = channel.unary_stream(method)(message, timeout_s, metadata=sent, **kwargs)
        messages: list[bytes] = []
        with contextlib.suppress(grpc.RpcError):
            messages.extend(started)
        trailers, headers = dict(started.trailing_metadata() or ()), dict(started.initial_metadata() or ())
        return Outcome(started.code(), started.details(), messages, trailers, headers)
