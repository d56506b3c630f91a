"""The one way to a model: `Serving` over the contracts, the checks, the rooms, the backend and the output policy.

    1 authorise   2 room   3 check   4 write anew   5 ask, with a deadline   6 output policy

What the backend gets is built from what was understood: always the same fields in the same order, the contract's
version, signature and list of outputs, whatever the client asked for.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from garrison.contract import Contract, Signature
from garrison.contract.signatures import SERVING_DEFAULT
from garrison.errors import RequestRefused
from garrison.guard import backend
from garrison.guard.backend import Backend
from garrison.guard.inputs import check_examples, check_inputs, count_bytes, needs_time
from garrison.guard.outputs import check_classes, check_outputs, check_values, check_wanted
from garrison.guard.refusals import refuse_for
from garrison.guard.rooms import Rooms
from garrison.guard.scopes import DESCRIBE, PREDICT
from garrison.guard.serving import Caller, Class, Found, Target, Tensors
from garrison.guard.tensors import receive_tensors, write_tensors, write_varint
from garrison.guard.wire import Shape
from garrison.tensorflow.messages import messages

CHECKING_THREADS = 2  # where checks decode images; all others are Python, one at a time
MAX_ANSWER_FIELDS = 100_000
_INPUTS = b"\x12"  # the tag of PredictRequest.inputs
_INPUT, _EXAMPLE_LIST, _EXAMPLE = b"\x12", b"\x0a", b"\x0a"  # of ClassificationRequest.input, and what is in it
_SHAPES = {
    name: Shape(getattr(messages, name)) for name in ("PredictResponse", "ClassificationResponse", "RegressionResponse")
}

Result = TypeVar("Result")


class GuardServing:
    """Answers for the models of some contracts, each at its one version; belongs to one event loop."""

    def __init__(self, contracts: Sequence[Contract], asked: Backend, rooms: Rooms) -> None:
        self._models = {contract.model: contract for contract in contracts}
        self._signatures = {c.model: {one.name: one for one in c.signatures} for c in contracts}
        self._heads: dict[tuple[str, str], bytes] = {}
        self._backend = asked
        self._rooms = rooms
        self._threads: ThreadPoolExecutor | None = None

    def find(self, caller: Caller, target: Target, method: str) -> Found:
        """Return what is meant; see `Serving.find`.

        Raises:
            NotFound: it is not there, or the caller may not ask it.
            OutOfContract: the signature is there, but not for this method.
        """
        verb = DESCRIBE if method == DESCRIBE else PREDICT
        contract = self._models.get(target.model)
        if contract is None or f"{target.model}:{verb}" not in caller.scopes:
            raise refuse_for("not_found", "no such model for this caller")
        version = int(contract.version)
        if target.version not in (None, version) or (target.label and target.label not in contract.version_labels):
            raise refuse_for("not_found", "no such version or label")
        signatures = self._signatures[contract.model]
        if method == DESCRIBE:
            return Found(contract, version, next(iter(signatures.values())))
        signature = signatures.get(target.signature or SERVING_DEFAULT)
        if signature is None:
            raise refuse_for("not_found", "no such signature")
        if signature.method != method:
            raise refuse_for("wrong_method", f"{signature.name} is for {signature.method}")
        return Found(contract, version, signature)

    async def predict(
        self, caller: Caller, found: Found, inputs: Tensors, outputs: Sequence[str] = (), timeout_s: float | None = None
    ) -> dict[str, NDArray[Any]]:
        """Check the inputs, ask the model, and return the wanted outputs, or all; see `Serving.predict`.

        Raises:
            RequestRefused: with a reason of the catalogue.
        """
        contract, signature = found.contract, found.signature
        wanted, deadline = check_wanted(signature, outputs), _Deadline(contract, timeout_s)
        with self._rooms.take(contract.model, sum(map(count_bytes, inputs.values()))):
            checked = await self._check(signature, lambda: check_inputs(contract, signature, inputs))
            rows = next(iter(checked.values())).shape[0] if signature.batched else 1
            message = b"".join([self._head(found), *write_tensors(_INPUTS, checked)])
            answer = await self._backend.ask(backend.PREDICT, message, deadline.left_s())
            given = check_outputs(contract, signature, _read_outputs(answer), rows)
        return {name: values for name, values in given.items() if name in wanted}

    async def classify(
        self, caller: Caller, found: Found, examples: Sequence[bytes], timeout_s: float | None = None
    ) -> list[list[Class]]:
        """Check serialised tf.Examples, ask the model, and return the classes of each.

        Raises:
            RequestRefused: with a reason of the catalogue.
        """
        answer = await self._ask_about_examples(backend.CLASSIFY, found, examples, timeout_s)
        listed = _parse("ClassificationResponse", answer).result.classifications
        classes = [[(one.label, one.score) for one in row.classes] for row in listed]
        return check_classes(found.contract, found.signature, classes, len(examples))

    async def regress(
        self, caller: Caller, found: Found, examples: Sequence[bytes], timeout_s: float | None = None
    ) -> list[float]:
        """Check serialised tf.Examples, ask the model, and return the value of each.

        Raises:
            RequestRefused: with a reason of the catalogue.
        """
        answer = await self._ask_about_examples(backend.REGRESS, found, examples, timeout_s)
        values = [one.value for one in _parse("RegressionResponse", answer).result.regressions]
        return check_values(found.contract, found.signature, values, len(examples))

    def is_available(self, found: Found) -> bool:
        """Say whether the model takes requests at this moment."""
        return self._backend.is_available(found.contract.model, found.version)

    async def _ask_about_examples(
        self, method: str, found: Found, examples: Sequence[bytes], timeout_s: float | None
    ) -> bytes:
        contract, signature = found.contract, found.signature
        deadline = _Deadline(contract, timeout_s)
        with self._rooms.take(contract.model, sum(map(len, examples))):
            checked = await self._check(signature, lambda: check_examples(contract, signature, examples))
            message = _write_spec(found) + _write_examples(checked)
            return await self._backend.ask(method, message, deadline.left_s())

    async def _check(self, signature: Signature, check: Callable[[], Result]) -> Result:
        """Check at once, or in a thread where images are decoded: other requests go on meanwhile."""
        if not needs_time(signature):
            return check()
        if self._threads is None:
            self._threads = ThreadPoolExecutor(CHECKING_THREADS, thread_name_prefix="check")
        work = asyncio.get_running_loop().run_in_executor(self._threads, check)
        try:
            return await asyncio.shield(work)
        finally:  # a client that goes leaves work behind, which keeps its room until it is done
            await asyncio.wait({work})

    def _head(self, found: Found) -> bytes:
        """Return what is the same in all of a signature's requests: what is asked, and the list of all its outputs."""
        key = (found.contract.model, found.signature.name)
        if key not in self._heads:
            listed = messages.PredictRequest(output_filter=sorted(output.name for output in found.signature.outputs))
            self._heads[key] = _write_spec(found) + listed.SerializeToString()
        return self._heads[key]


class _Deadline:
    """When an answer has to be there: within the contract's time, or the client's if that is less."""

    def __init__(self, contract: Contract, timeout_s: float | None) -> None:
        most = float(contract.workers.timeout_s)
        self._clock = asyncio.get_running_loop().time
        self._at = self._clock() + (most if timeout_s is None else min(most, timeout_s))

    def left_s(self) -> float:
        return self._at - self._clock()


def _write_spec(found: Found) -> bytes:
    request = messages.PredictRequest()  # the field has the same number in all three requests
    request.model_spec.name = found.contract.model
    request.model_spec.version.value = found.version
    request.model_spec.signature_name = found.signature.name
    written: bytes = request.SerializeToString()
    return written


def _write_examples(examples: Sequence[bytes]) -> bytes:
    listed = b"".join(piece for one in examples for piece in (_EXAMPLE, write_varint(len(one)), one))
    listed = _EXAMPLE_LIST + write_varint(len(listed)) + listed
    return _INPUT + write_varint(len(listed)) + listed


def _read_outputs(answer: bytes) -> dict[str, NDArray[Any]]:
    try:
        _SHAPES["PredictResponse"].check(answer, MAX_ANSWER_FIELDS)
        _, received = receive_tensors(answer, "PredictResponse", "outputs")
        return {name: tensor.read() for name, tensor in received.items()}
    except RequestRefused as refusal:
        raise refuse_for("model_failed", f"the answer is {refusal.reason}: {refusal.detail}") from refusal


def _parse(kind: str, answer: bytes) -> Any:
    try:
        _SHAPES[kind].check(answer, MAX_ANSWER_FIELDS)
        return getattr(messages, kind).FromString(answer)
    except (RequestRefused, DecodeError) as error:
        raise refuse_for("model_failed", f"the answer is no {kind}") from error
