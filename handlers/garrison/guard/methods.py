"""TensorFlow Serving's gRPC methods: a caller and a message's bytes enter, the answer's bytes leave, or `Refused`.

Each message is walked through before protobuf reads it (`wire`), and read only as far as the contract of the model that
it names is asked about. What none of our models needs is refused: options of streaming, examples with a context that
would be copied into each, outputs beyond the contract.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError

from garrison.contract import Contract
from garrison.contract.signatures import CLASSIFY, PREDICT, REGRESS, SERVING_DEFAULT
from garrison.guard import metadata
from garrison.guard.backend import AVAILABLE
from garrison.guard.inputs import check_declared, count_fields
from garrison.guard.refusals import refuse_for
from garrison.guard.scopes import DESCRIBE
from garrison.guard.serving import Caller, Class, Found, Serving, Target
from garrison.guard.tensors import declare_tensor, receive_tensors, write_tensors
from garrison.guard.wire import Shape
from garrison.tensorflow.messages import messages

PREDICTION = "/tensorflow.serving.PredictionService/"
MODEL = "/tensorflow.serving.ModelService/"
MAX_TASKS = 8  # of one MultiInference
MIN_FIELDS = 1_000  # in a message beside its strings: 32 inputs of 8 dimensions have fewer
_OUTPUTS = b"\x0a"  # the tag of PredictResponse.outputs
_UNKNOWN = 0  # of ModelVersionStatus.State
_TASKS = {metadata.METHOD_NAMES[method]: method for method in (CLASSIFY, REGRESS)}


@dataclass
class Call:
    """One call: who makes it, how long it may take, and, once that is read, which model it is about."""

    caller: Caller
    timeout_s: float | None
    model: str = ""


Method = Callable[[Call, bytes], Awaitable[bytes]]


class Methods:
    """The methods over one way to the models."""

    def __init__(self, serving: Serving, contracts: Sequence[Contract]) -> None:
        self._serving = serving
        self._most_fields = MIN_FIELDS + max(map(count_fields, contracts), default=0)
        self._shapes: dict[str, Shape] = {}

    def listed(self) -> Mapping[str, Method]:
        """Return every method that there is, by its path; all others do not exist."""
        return {
            f"{PREDICTION}Predict": self.predict,
            f"{PREDICTION}Classify": self.classify,
            f"{PREDICTION}Regress": self.regress,
            f"{PREDICTION}MultiInference": self.multi_inference,
            f"{PREDICTION}GetModelMetadata": self.get_model_metadata,
            f"{MODEL}GetModelStatus": self.get_model_status,
        }

    async def predict(self, call: Call, data: bytes) -> bytes:
        """Answer a PredictRequest."""
        self._check("PredictRequest", data)
        request, received = receive_tensors(data, "PredictRequest", "inputs")
        if request.client_id or request.HasField("predict_streamed_options") or request.HasField("request_options"):
            raise refuse_for("unsupported_option")
        found = self._find(call, request.model_spec, PREDICT)
        declared = {name: declare_tensor(tensor.message) for name, tensor in received.items()}
        claims = {name: (dtype.name, sizes) for name, (dtype, sizes) in declared.items()}
        check_declared(found.contract, found.signature, claims)
        inputs = {name: tensor.read() for name, tensor in received.items()}
        given = await self._serving.predict(call.caller, found, inputs, tuple(request.output_filter), call.timeout_s)
        answer = messages.PredictResponse()
        _write_spec(answer.model_spec, found)
        return b"".join([*write_tensors(_OUTPUTS, dict(sorted(given.items()))), answer.SerializeToString()])

    async def classify(self, call: Call, data: bytes) -> bytes:
        """Answer a ClassificationRequest."""
        request = self._read("ClassificationRequest", data)
        found = self._find(call, request.model_spec, CLASSIFY)
        examples = _read_examples(request.input)
        answer = messages.ClassificationResponse()
        _write_classes(answer.result, await self._serving.classify(call.caller, found, examples, call.timeout_s))
        _write_spec(answer.model_spec, found)
        return _finish(answer)

    async def regress(self, call: Call, data: bytes) -> bytes:
        """Answer a RegressionRequest."""
        request = self._read("RegressionRequest", data)
        found = self._find(call, request.model_spec, REGRESS)
        examples = _read_examples(request.input)
        answer = messages.RegressionResponse()
        _write_values(answer.result, await self._serving.regress(call.caller, found, examples, call.timeout_s))
        _write_spec(answer.model_spec, found)
        return _finish(answer)

    async def multi_inference(self, call: Call, data: bytes) -> bytes:
        """Answer a MultiInferenceRequest: several signatures of one model, each once, about the same examples."""
        request = self._read("MultiInferenceRequest", data)
        tasks = request.tasks
        if not 1 <= len(tasks) <= MAX_TASKS:
            raise refuse_for("too_many_tasks" if tasks else "bad_message", f"{len(tasks)} tasks")
        if len({task.model_spec.name for task in tasks}) > 1:
            raise refuse_for("unsupported_option", "tasks about several models")
        found = [self._find_task(call, task) for task in tasks]
        if len({one.signature.name for _, one in found}) < len(found):
            raise refuse_for("unsupported_option", "a signature twice")
        examples = _read_examples(request.input)
        answer = messages.MultiInferenceResponse()
        longest_s = float(found[0][1].contract.workers.timeout_s)
        clock = asyncio.get_running_loop().time
        end = clock() + (longest_s if call.timeout_s is None else min(longest_s, call.timeout_s))
        for method, one in found:  # one after the other, in the time that one call has
            result = answer.results.add()
            _write_spec(result.model_spec, one)
            if method == CLASSIFY:
                classes = await self._serving.classify(call.caller, one, examples, end - clock())
                _write_classes(result.classification_result, classes)
            else:
                values = await self._serving.regress(call.caller, one, examples, end - clock())
                _write_values(result.regression_result, values)
        return _finish(answer)

    async def get_model_metadata(self, call: Call, data: bytes) -> bytes:
        """Answer a GetModelMetadataRequest, from the contract."""
        request = self._read("GetModelMetadataRequest", data)
        found = self._find(call, request.model_spec, DESCRIBE)
        if set(request.metadata_field) != {metadata.FIELD}:
            raise refuse_for("unsupported_option", f"metadata other than {metadata.FIELD}")
        answer = messages.GetModelMetadataResponse()
        answer.model_spec.name, answer.model_spec.version.value = found.contract.model, found.version
        told = answer.metadata[metadata.FIELD]
        told.type_url = metadata.TYPE_URL
        told.value = metadata.describe_signatures(found.contract).SerializeToString(deterministic=True)
        return _finish(answer)

    async def get_model_status(self, call: Call, data: bytes) -> bytes:
        """Answer a GetModelStatusRequest: a model has one version here."""
        request = self._read("GetModelStatusRequest", data)
        found = self._find(call, request.model_spec, DESCRIBE)
        answer = messages.GetModelStatusResponse()
        status = answer.model_version_status.add(version=found.version)
        status.state = AVAILABLE if self._serving.is_available(found) else _UNKNOWN
        status.status.SetInParent()
        return _finish(answer)

    def _check(self, kind: str, data: bytes) -> None:
        if kind not in self._shapes:
            self._shapes[kind] = Shape(getattr(messages, kind))
        self._shapes[kind].check(data, self._most_fields)

    def _read(self, kind: str, data: bytes) -> Any:
        self._check(kind, data)
        try:
            return getattr(messages, kind).FromString(data)
        except DecodeError as error:
            raise refuse_for("bad_message") from error

    def _find(self, call: Call, spec: Any, method: str) -> Found:
        call.model = spec.name
        choice = spec.WhichOneof("version_choice")
        version = spec.version.value if choice == "version" else None
        label = spec.version_label if choice == "version_label" else ""
        if choice == "version_label" and not label:
            raise refuse_for("not_found", "an empty label")
        return self._serving.find(call.caller, Target(spec.name, version, label, spec.signature_name), method)

    def _find_task(self, call: Call, task: Any) -> tuple[str, Found]:
        method = _TASKS.get(task.method_name)
        if method is None:
            call.model = task.model_spec.name
            raise refuse_for("wrong_method", "neither classify nor regress")
        return method, self._find(call, task.model_spec, method)


def _read_examples(given: Any) -> list[bytes]:
    """Return the tf.Examples of an Input, each written by itself."""
    kind = given.WhichOneof("kind")
    if kind == "example_list_with_context":
        raise refuse_for("unsupported_option", "examples with a context")
    examples = [one.SerializeToString() for one in given.example_list.examples]
    if not examples:
        raise refuse_for("no_rows")
    return examples


def _write_spec(spec: Any, found: Found) -> None:
    spec.name, spec.version.value = found.contract.model, found.version
    spec.signature_name = found.signature.name or SERVING_DEFAULT


def _write_classes(result: Any, rows: Sequence[Sequence[Class]]) -> None:
    result.SetInParent()
    for row in rows:
        written = result.classifications.add()
        for one in row:
            written.classes.add(label=one.label, score=one.score)


def _write_values(result: Any, values: Sequence[float]) -> None:
    result.SetInParent()
    for value in values:
        result.regressions.add(value=value)


def _finish(answer: Any) -> bytes:
    written: bytes = answer.SerializeToString(deterministic=True)
    return written
