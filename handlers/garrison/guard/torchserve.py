"""TorchServe's gRPC inference service: its messages enter, requests to its REST socket leave, and the answers back.

    1 who asks   2 the message, within bounds   3 which model   4 room   5 ask, with a deadline   6 verdict or answer

TorchServe's own gRPC server listens on TCP, cannot be switched off, and drops the status that a handler gives to one
request of a batch. Here that status arrives: HTTP's as gRPC's, as TorchServe itself maps them, with the handler's
reason and sentence. What the server says without a handler's reason never leaves.

A request has exactly one input, named `data` or `body`: what every handler of ours takes as the body of a REST request.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from garrison.checks.reasons import refuse, too_many_bytes
from garrison.contract import Contract
from garrison.errors import RequestRefused
from garrison.guard.grpc_server import abort, read_message, read_metadata
from garrison.guard.refusals import Verdict, Words, refuse_for
from garrison.guard.report import Report
from garrison.guard.rooms import Rooms
from garrison.guard.scopes import CLIENT_HEADER, DESCRIBE, PREDICT, REQUEST_HEADER
from garrison.guard.serving import Caller
from garrison.guard.torchserve_http import Answer, ask
from garrison.guard.wire import Shape
from garrison.protobuf import compile_messages
from garrison.sockets import READY

PROTOCOL = "torchserve-grpc"
SERVICE = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/"
INPUTS = ("data", "body")
MAX_FIELDS = 64  # of a message; it needs 6
MAX_VERDICT_BYTES = 64 * 1024  # of an answer with a handler's refusal
HEALTH_TIMEOUT_S = 2.0
OK = 200
_STATUSES = {
    404: "model_unavailable",  # which models there are, the contracts say: this one is not loaded, or not yet
    408: "deadline_exceeded",
    503: "model_unavailable",
    504: "deadline_exceeded",
}

messages = compile_messages((resources.files(__package__) / "torchserve.proto").read_text())
_REQUEST, _EMPTY = Shape(messages.PredictionsRequest), Shape(messages.Empty)


@dataclass
class _Asked:
    """One call: who makes it, and, once that is read, the contract of the model that it is about."""

    caller: Caller | None = None
    contract: Contract | None = None


class TorchServeHandler(grpc.GenericRpcHandler):
    """The service over TorchServe's sockets; belongs to one event loop."""

    def __init__(self, contracts: Sequence[Contract], socket: Path, report: Report) -> None:
        self._models = {contract.model: contract for contract in contracts}
        self._socket, self._ready = socket, socket.with_name(READY)
        self._rooms = Rooms(contracts)
        self._report = report
        self._handlers: dict[str, Any] = {
            f"{SERVICE}Ping": grpc.stream_unary_rpc_method_handler(self._ping),
            f"{SERVICE}Predictions": grpc.stream_unary_rpc_method_handler(self._predict),
            f"{SERVICE}StreamPredictions": grpc.stream_stream_rpc_method_handler(self._stream),
        }

    def service(self, handler_call_details: Any) -> Any:
        """Return what handles a method, or nothing: another handler may know it."""
        return self._handlers.get(handler_call_details.method)

    async def close(self) -> None:
        """Do nothing: a connection lasts no longer than its request."""

    async def _ping(self, _: Any, context: Any) -> bytes:
        """Say in TorchServe's words whether each of its models has a worker."""
        async with self._telling(context) as asked:
            caller = asked.caller = read_metadata(context, PROTOCOL)
            if not any(scope.endswith(f":{DESCRIBE}") for scope in caller.scopes):
                raise refuse_for("not_found", "no model of this caller's to describe")
            _EMPTY.check(await read_message(context), MAX_FIELDS)
            health = json.dumps({"status": "Healthy" if await self._is_ready() else "Unhealthy"}, indent=2)
            said: bytes = messages.TorchServeHealthResponse(health=health).SerializeToString()
        return said

    async def _predict(self, _: Any, context: Any) -> bytes:
        async with self._telling(context) as asked, self._asking(asked, context) as answer:
            body = await answer.read(_most(asked))
        return _respond(body)

    async def _stream(self, _: Any, context: Any) -> None:
        async with self._telling(context) as asked, self._asking(asked, context) as answer:
            async for piece in answer.pieces(_most(asked)):
                await context.write(_respond(piece))

    @asynccontextmanager
    async def _telling(self, context: Any) -> AsyncIterator[_Asked]:
        """Report how a call ends, and say it to the client if it was refused."""
        asked, began = _Asked(), time.perf_counter()
        try:
            yield asked
        except Exception as error:  # noqa: BLE001 - whatever it is, a client hears words of the catalogue
            await abort(context, self._refuse(error, asked))
        else:
            if asked.contract:  # a ping is about no model
                self._report.answered(PROTOCOL, asked.contract.model, time.perf_counter() - began)

    @asynccontextmanager
    async def _asking(self, asked: _Asked, context: Any) -> AsyncIterator[Answer]:
        """Check a request, and give TorchServe's answer to it if that is one."""
        caller = asked.caller = read_metadata(context, PROTOCOL)  # 1
        request = _parse(await read_message(context))  # 2
        contract = asked.contract = self._find(caller, request)  # 3
        body = _read_input(request, contract)
        headers = {"content-type": "application/octet-stream", CLIENT_HEADER: caller.client}
        if caller.request_id:
            headers[REQUEST_HEADER] = caller.request_id
        try:
            async with (
                _in_time(contract, context.time_remaining()),
                self._room(contract, body),  # 4
                ask(self._socket, "POST", f"/predictions/{contract.model}", body, headers) as answer,  # 5
            ):
                if answer.status != OK:
                    raise await _read_refusal(answer)  # 6
                yield answer
        except TimeoutError as error:
            raise refuse_for("deadline_exceeded") from error

    @asynccontextmanager
    async def _room(self, contract: Contract, body: bytes) -> AsyncIterator[None]:
        with self._rooms.take(contract.model, len(body)):
            yield

    def _find(self, caller: Caller, request: Any) -> Contract:
        contract = self._models.get(request.model_name)
        if contract is None or f"{request.model_name}:{PREDICT}" not in caller.scopes:
            raise refuse_for("not_found", "no such model for this caller")
        if request.model_version not in ("", contract.version):
            raise refuse_for("not_found", "no such version")
        return contract

    async def _is_ready(self) -> bool:
        try:
            async with asyncio.timeout(HEALTH_TIMEOUT_S), ask(self._ready, "GET", "/", b"", {}) as answer:
                return answer.status == OK
        except (RequestRefused, TimeoutError):
            return False

    def _refuse(self, error: Exception, asked: _Asked) -> Words:
        model = asked.contract.model if asked.contract else ""
        return self._report.refused(error, protocol=PROTOCOL, caller=asked.caller, model=model)


def make_handler(contracts: Sequence[Contract], socket: Path, report: Report) -> TorchServeHandler:
    """Return the handler for a server of grpc.aio: `contracts` of TorchServe's models, and its inference socket."""
    return TorchServeHandler(contracts, socket, report)


def _parse(data: bytes) -> Any:
    _REQUEST.check(data, MAX_FIELDS)
    try:
        return messages.PredictionsRequest.FromString(data)
    except DecodeError as error:
        raise refuse_for("bad_message", "not a PredictionsRequest") from error


def _read_input(request: Any, contract: Contract) -> bytes:
    names = list(request.input)
    if len(names) != 1 or names[0] not in INPUTS:
        raise refuse_for("bad_form", f"{len(names)} inputs")
    body: bytes = request.input[names[0]]
    if not body:
        raise refuse("empty_body", "The request has no body.")
    if len(body) > contract.max_body_bytes:
        refusal = too_many_bytes(len(body), contract.max_body_bytes)
        raise Verdict(refusal.http_status, refusal.reason, refusal.public_message)
    return body


@asynccontextmanager
async def _in_time(contract: Contract, left_s: float | None) -> AsyncIterator[None]:
    """Bound what is done: by the contract's time, or the client's if that is less."""
    most = float(contract.workers.timeout_s)
    async with asyncio.timeout(most if left_s is None else min(most, left_s)):
        yield


def _most(asked: _Asked) -> int:
    return asked.contract.outputs.max_bytes if asked.contract else 0


def _respond(body: bytes) -> bytes:
    written: bytes = messages.PredictionResponse(prediction=body).SerializeToString()
    return written


async def _read_refusal(answer: Answer) -> RequestRefused:
    """Return a handler's verdict, or the catalogue's words for what the server itself says."""
    detail = f"TorchServe says {answer.status}"
    if answer.reason:
        try:
            said = json.loads(await answer.read(MAX_VERDICT_BYTES))
            return Verdict(answer.status, answer.reason, said["message"])
        except (ValueError, LookupError, TypeError, RecursionError):
            detail += ", with a reason but no words"
    return refuse_for(_STATUSES.get(answer.status, "model_failed"), detail)
