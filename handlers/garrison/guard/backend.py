"""Ask TensorFlow Serving over its unix socket: bytes of a message enter, bytes of the answer or `Refused` leave.

Every call has a deadline. What the server says about a failure stays here: clients hear a reason of the catalogue, and
the log hears the status. A server that is started again is found again within a second.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from garrison.contract import Contract
from garrison.errors import RequestRefused
from garrison.guard.refusals import refuse_for
from garrison.tensorflow.messages import messages

PREDICT = "/tensorflow.serving.PredictionService/Predict"
CLASSIFY = "/tensorflow.serving.PredictionService/Classify"
REGRESS = "/tensorflow.serving.PredictionService/Regress"
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
AVAILABLE = 30  # of ModelVersionStatus.State
OVERHEAD_BYTES = 64 * 1024  # of a message beside its tensors
STATUS_TIMEOUT_S = 2.0
_RECONNECT_MS = 200
_TOO_LARGE = "larger than max"  # grpc's own words, for which it has no status
_Code = grpc.StatusCode
_REASONS = {
    _Code.UNAVAILABLE: "model_unavailable",
    _Code.NOT_FOUND: "model_unavailable",  # it is not loaded, or not yet: whether it exists, the contracts say
    _Code.DEADLINE_EXCEEDED: "deadline_exceeded",
    _Code.INVALID_ARGUMENT: "model_refused",
    _Code.OUT_OF_RANGE: "model_refused",
}


class Backend:
    """One TensorFlow Serving, and what is known about its models; belongs to one event loop."""

    def __init__(self, socket: Path, contracts: Sequence[Contract]) -> None:
        self._contracts = tuple(contracts)
        self._available: frozenset[tuple[str, int]] = frozenset()
        self._channel = grpc.aio.insecure_channel(f"unix:{socket}", options=_make_options(contracts))
        self._calls: dict[str, Any] = {
            path: self._channel.unary_unary(path) for path in (PREDICT, CLASSIFY, REGRESS, STATUS)
        }

    async def ask(self, method: str, message: bytes, timeout_s: float) -> bytes:
        """Return what the server answers.

        Raises:
            Overloaded: it cannot be reached, or has not loaded the model.
            OutOfTime: there was no answer in time.
            OutOfContract: the model itself does not accept these inputs.
            Failed: it failed in any other way.
        """
        if timeout_s <= 0:
            raise refuse_for("deadline_exceeded", "over before the model was asked")
        try:
            answer: bytes = await self._calls[method](message, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise _refuse(error) from None  # its text is the server's, and may hold what a client sent
        return answer

    def is_available(self, model: str, version: int) -> bool:
        """Say whether the server said, when it was asked last, that it takes requests for a version of a model."""
        return (model, version) in self._available

    def all_available(self) -> bool:
        """Say whether it takes requests for every model."""
        return all(self.is_available(one.model, int(one.version)) for one in self._contracts)

    def any_available(self) -> bool:
        """Say whether it takes requests for at least one."""
        return bool(self._available)

    async def look(self) -> None:
        """Ask once how the models are."""
        states = await asyncio.gather(*(self._ask_status(contract) for contract in self._contracts))
        self._available = frozenset().union(*states)

    async def close(self) -> None:
        """Break off what is in progress, and close the connection."""
        await self._channel.close()

    async def _ask_status(self, contract: Contract) -> frozenset[tuple[str, int]]:
        request = messages.GetModelStatusRequest()
        request.model_spec.name, wanted = contract.model, int(contract.version)
        try:
            answer = await self.ask(STATUS, request.SerializeToString(), STATUS_TIMEOUT_S)
            states = messages.GetModelStatusResponse.FromString(answer).model_version_status
        except (RequestRefused, DecodeError):
            return frozenset()
        return frozenset(
            (contract.model, one.version) for one in states if one.state == AVAILABLE and one.version == wanted
        )


def _make_options(contracts: Sequence[Contract]) -> list[tuple[str, Any]]:
    sent = max((c.batch.max_instances * c.item_bytes for c in contracts), default=0)
    received = max((c.outputs.max_bytes for c in contracts), default=0)
    return [
        ("grpc.max_send_message_length", 2 * sent + OVERHEAD_BYTES),  # short strings grow by their lengths
        ("grpc.max_receive_message_length", 2 * received + OVERHEAD_BYTES),
        ("grpc.initial_reconnect_backoff_ms", _RECONNECT_MS),
        ("grpc.min_reconnect_backoff_ms", _RECONNECT_MS),
        ("grpc.max_reconnect_backoff_ms", 1000),
        ("grpc.enable_retries", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]


def _refuse(error: grpc.aio.AioRpcError) -> RequestRefused:
    code = error.code()
    if code == _Code.RESOURCE_EXHAUSTED:
        is_answer = _TOO_LARGE in (error.details() or "")
        return refuse_for(
            "answer_too_large" if is_answer else "model_unavailable", "the server says RESOURCE_EXHAUSTED"
        )
    return refuse_for(_REASONS.get(code, "model_failed"), f"the server says {code.name}")
