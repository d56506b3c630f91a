"""gRPC on a unix socket: which methods exist, how large a message is, and in which words a refusal goes back.

Handlers see the message's bytes: nothing is parsed before it is known who asks. A method that is not listed does not
exist: no reload of models, no reflection, no profiler. Messages come uncompressed, so that none is larger than it was
on the wire.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc

from garrison.contract import Contract, count_room
from garrison.guard.methods import Call, Method, Methods
from garrison.guard.refusals import REASON_KEY, Words, refuse_for
from garrison.guard.report import Report
from garrison.guard.scopes import CLIENT_HEADER, MAX_SCOPES_BYTES, REQUEST_HEADER, SCOPES_HEADER, read_caller
from garrison.guard.serving import Caller, Serving

PROTOCOL = "tfserving-grpc"
OVERHEAD_BYTES = 64 * 1024  # of a message beside its inputs, as the gateway has it
METADATA_BYTES = MAX_SCOPES_BYTES + 16 * 1024
SPARE_CALLS = 16  # beyond the rooms: descriptions, and those that hear that there is no room
_NO_COMPRESSION = 1  # a set of algorithms with only "none" in it
_PING_STRIKES = 2
_PING_INTERVAL_MS = 60_000


class GuardHandler(grpc.GenericRpcHandler):
    """TensorFlow Serving's services, as far as they exist here."""

    def __init__(self, serving: Serving, contracts: Sequence[Contract], report: Report) -> None:
        self._report = report
        methods = Methods(serving, contracts).listed()
        self._handlers = {path: self._make_handler(method) for path, method in methods.items()}

    def service(self, handler_call_details: Any) -> Any:
        """Return what handles a method, or nothing: grpc says then that it does not exist."""
        return self._handlers.get(handler_call_details.method)

    def _make_handler(self, method: Method) -> Any:
        async def answer(_: Any, context: "grpc.aio.ServicerContext[bytes, bytes]") -> bytes:
            began = time.perf_counter()
            call: Call | None = None
            try:
                call = Call(read_metadata(context, PROTOCOL), context.time_remaining())
                answered = await method(call, await read_message(context))
            except Exception as error:  # noqa: BLE001 - whatever it is, a client hears words of the catalogue
                words = self._refuse(error, call)
            else:
                self._report.answered(PROTOCOL, call.model, time.perf_counter() - began)
                return answered
            await abort(context, words)
            return b""

        return grpc.stream_unary_rpc_method_handler(answer)

    def _refuse(self, error: Exception, call: Call | None) -> Words:
        caller, model = (None, "") if call is None else (call.caller, call.model)
        return self._report.refused(error, protocol=PROTOCOL, caller=caller, model=model)


class NoSuchMethod(grpc.GenericRpcHandler):
    """Answers for every method that no handler before it knows, in words of the catalogue."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def service(self, handler_call_details: Any) -> Any:
        """Return what refuses a method, whatever it is."""

        async def refuse(_: Any, context: "grpc.aio.ServicerContext[bytes, bytes]") -> None:
            words = self._report.refused(refuse_for("unknown_method"), protocol=PROTOCOL, caller=None, model="")
            await abort(context, words)

        return grpc.stream_stream_rpc_method_handler(refuse)


def make_server(contracts: Sequence[Contract], handlers: Sequence[grpc.GenericRpcHandler], path: Path) -> Any:
    """Return a server with these handlers on a unix socket, not started yet."""
    room = count_room(contracts) + SPARE_CALLS
    largest = max((contract.max_body_bytes for contract in contracts), default=0)
    options = [
        ("grpc.max_receive_message_length", largest + OVERHEAD_BYTES),
        ("grpc.max_metadata_size", METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", METADATA_BYTES),
        ("grpc.max_concurrent_streams", room),
        ("grpc.so_reuseport", 0),
        ("grpc.compression_enabled_algorithms_bitset", _NO_COMPRESSION),
        ("grpc.per_message_decompression", 0),
        ("grpc.http.tarpit", 0),  # who asks is the gateway: a refusal that waits holds a place of others
        ("grpc.http2.max_ping_strikes", _PING_STRIKES),
        ("grpc.http2.min_ping_interval_without_data_ms", _PING_INTERVAL_MS),
    ]
    server = grpc.aio.server(options=options, maximum_concurrent_rpcs=room)
    server.add_generic_rpc_handlers(tuple(handlers))
    server.add_insecure_port(f"unix:{path}")
    return server


def read_metadata(context: "grpc.aio.ServicerContext[Any, Any]", protocol: str) -> Caller:
    """Return who makes a call.

    Raises:
        Unidentified: the gateway does not say.
    """
    found: dict[str, Any] = dict(context.invocation_metadata() or ())
    return read_caller(found.get(CLIENT_HEADER), found.get(SCOPES_HEADER), found.get(REQUEST_HEADER), protocol)


async def read_message(context: "grpc.aio.ServicerContext[bytes, Any]") -> bytes:
    """Return a call's message; for handlers of a stream of which only the first message counts.

    grpc.aio never ends a call to a unary handler that has no message: it would hold a place until its client lets go.

    Raises:
        Malformed: there is none.
    """
    data = await context.read()
    if not isinstance(data, bytes):
        raise refuse_for("bad_message", "no message")
    return data


async def abort(context: "grpc.aio.ServicerContext[Any, Any]", words: Words) -> None:
    """End a call with a refusal: a status and a sentence, and the reason where the gateway looks for it."""
    await context.abort(words.code, words.message, ((REASON_KEY, words.reason),))
