"""The guard as functions of bytes: True if it answered, False if it refused, and anything else is a finding.

It runs in this process, with a backend in memory that insists on what the guard promises: a message is built anew, of
the contract's inputs, types, shapes and ranges, with the contract's version and its whole list of outputs.
"""

import asyncio
import atexit
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h11
import numpy as np

from campaigns.targets import Target, Unexpected, expect
from garrison.contract import Contract, Signature, parse_contract
from garrison.errors import RequestRefused
from garrison.guard import backend, torchserve, torchserve_http
from garrison.guard.methods import Call, Methods
from garrison.guard.refusals import GUARD_REASONS, Verdict, find_words
from garrison.guard.report import SilentReport
from garrison.guard.rest.application import Application
from garrison.guard.rooms import Rooms
from garrison.guard.scopes import decided_by_path, read_caller
from garrison.guard.service import GuardServing
from garrison.guard.serving import Target as Meant
from garrison.guard.tensors import read_tensor, write_tensors
from garrison.reasons import REASONS
from garrison.tensorflow.messages import messages

VERSION = 3
VERBS = ("predict", "classify", "regress")
SERVICE = "/tensorflow.serving.PredictionService/"
RESPONSES = {
    f"{SERVICE}Predict": "PredictResponse",
    f"{SERVICE}Classify": "ClassificationResponse",
    f"{SERVICE}Regress": "RegressionResponse",
    f"{SERVICE}MultiInference": "MultiInferenceResponse",
    f"{SERVICE}GetModelMetadata": "GetModelMetadataResponse",
    "/tensorflow.serving.ModelService/GetModelStatus": "GetModelStatusResponse",
}
MOST_ANSWER = 2**20
ODD = 16  # one in so many bodies goes to a verb that it is not meant for
CALLER = read_caller("fuzz", "digits:describe digits:predict", "1", "fuzz")

_TENSOR = {"kind": "tensor", "dtype": "float32", "shape": [2, [1, 3]], "min": -10, "max": 10}
_FEATURES = {
    "age": {"kind": "tensor", "dtype": "int64", "shape": [1], "min": 0, "max": 150},
    "word": {"kind": "text", "shape": [1], "max_bytes": 16, "max_characters": 8},
}
_EXAMPLES = {"examples": {"kind": "example", "max_bytes": 200, "features": _FEATURES}}
_SCORES = {"scores": {"dtype": "float32", "shape": [2], "decimals": 3}}
_CLASSES = {"classes": {"dtype": "string", "shape": [2], "max_bytes": 8}, **_SCORES}
_SIGNATURES = {
    "serving_default": {"inputs": {"x": _TENSOR}, "outputs": {"y": {"dtype": "int64", "shape": []}, **_SCORES}},
    "strings": {
        "inputs": {
            "words": {"kind": "text", "shape": [[1, 3]], "max_bytes": 16, "max_characters": 8},
            "key": {"kind": "bytes", "max_bytes": 8},
            "small": {"kind": "tensor", "dtype": "uint8", "shape": []},
            "flag": {"kind": "tensor", "dtype": "bool", "shape": [1]},
        },
        "outputs": {"text_bytes": {"dtype": "string", "shape": [], "max_bytes": 8}},
    },
    "whole": {
        "batched": False,
        "inputs": {"d": {"kind": "tensor", "dtype": "float64", "shape": [2]}},
        "outputs": {"d": {"dtype": "float64", "shape": [2]}},
    },
    "classes": {"method": "classify", "inputs": _EXAMPLES, "outputs": _CLASSES},
    "values": {
        "method": "regress", "inputs": _EXAMPLES, "outputs": {"outputs": {"dtype": "float32", "shape": [1]}},
    },
}  # fmt: skip


def make_contract() -> Contract:
    """Return the contract that is fuzzed: every kind of input that takes no image, and every method."""
    written = {
        "garrison": 1, "model": "digits", "version": str(VERSION), "task": "tensorflow", "version_labels": ["stable"],
        "batch": {"max_items": 8, "max_delay_ms": 1, "max_bytes": "64KiB", "max_instances": 4},
        "workers": {"count": 1, "queue": 4, "timeout_s": 5}, "signatures": _SIGNATURES,
    }  # fmt: skip
    return parse_contract(json.dumps(written).encode(), "fuzz.yaml")


CONTRACT = make_contract()
BY_NAME = {signature.name: signature for signature in CONTRACT.signatures}


class Memory:
    """A backend that answers at once: as a model would, or, with `said`, in these words."""

    def __init__(self) -> None:
        self.said: bytes | None = None

    async def ask(self, method: str, message: bytes, timeout_s: float) -> bytes:
        """Insist on what the guard promises, and answer."""
        expect(0 < timeout_s <= CONTRACT.workers.timeout_s, "the deadline")
        kind = {backend.PREDICT: "PredictRequest", backend.CLASSIFY: "ClassificationRequest"}
        request = getattr(messages, kind.get(method, "RegressionRequest")).FromString(message)
        spec = request.model_spec
        expect((spec.name, spec.version.value) == (CONTRACT.model, VERSION), "the model's name and version")
        signature = BY_NAME[spec.signature_name]
        rows = _check_inputs(request, signature) if method == backend.PREDICT else _check_examples(request)
        return _answer(method, signature, rows) if self.said is None else self.said

    def is_available(self, _: str, __: int) -> bool:
        """Say that every model is there."""
        return True


def _check_inputs(request: Any, signature: Signature) -> int:
    expect(list(request.output_filter) == sorted(one.name for one in signature.outputs), "the list of outputs")
    expect(request.inputs.keys() == {one.name for one in signature.inputs}, "the inputs' names")
    rows = 1
    for item in signature.inputs:
        values = read_tensor(request.inputs[item.name])
        shape = values.shape
        if signature.batched:
            rows, shape = shape[0], shape[1:]
            expect(1 <= rows <= CONTRACT.batch.max_instances, "the number of rows")
        bounds = item.shape  # type: ignore[attr-defined] # of a signature, each has one
        expect(len(shape) == len(bounds), "a rank")
        expect(all(low <= size <= high for size, (low, high) in zip(shape, bounds, strict=True)), "a dimension")
        if values.dtype.kind == "O":
            expect(all(len(one) <= item.max_bytes for one in values.ravel()), "the length of a string")
        elif values.dtype.kind == "f":
            expect(bool(np.isfinite(values).all()), "a number that is not finite")
        if item.name == "x":
            expect(bool((np.abs(values) <= 10).all()), "a number beyond the range")
    return rows


def _check_examples(request: Any) -> int:
    expect(request.input.WhichOneof("kind") == "example_list", "the form of examples")
    examples = request.input.example_list.examples
    for one in examples:
        found = one.features.feature
        expect(found.keys() == _FEATURES.keys(), "an example's features")
        expect(len(found["age"].int64_list.value) == 1, "the number of a feature's values")
        expect(len(found["word"].bytes_list.value) == 1, "the number of a feature's values")
    expect(1 <= len(examples) <= CONTRACT.batch.max_instances, "the number of examples")
    return len(examples)


def _answer(method: str, signature: Signature, rows: int) -> bytes:
    if method == backend.CLASSIFY:
        answer = messages.ClassificationResponse()
        for _ in range(rows):
            answer.result.classifications.add().classes.add(label="a", score=0.5)
    elif method == backend.REGRESS:
        answer = messages.RegressionResponse()
        for _ in range(rows):
            answer.result.regressions.add(value=0.5)
    else:
        return b"".join(write_tensors(b"\x0a", {one.name: _zeros(one, signature, rows) for one in signature.outputs}))
    written: bytes = answer.SerializeToString()
    return written


def _zeros(output: Any, signature: Signature, rows: int) -> Any:
    shape = ((rows,) if signature.batched else ()) + tuple(size or 1 for size in output.shape)
    if output.dtype == "string":
        values = np.empty(shape, dtype=object)
        values.fill(b"ab")
        return values
    return np.zeros(shape, dtype=output.dtype)


# The checks -----------------------------------------------------------------------------------------------------------


def _make_serving() -> tuple[GuardServing, Memory]:
    memory = Memory()
    return GuardServing([CONTRACT], memory, Rooms([CONTRACT])), memory  # type: ignore[arg-type] # stands in for the backend


@functools.cache
def _make_loop() -> asyncio.AbstractEventLoop:
    """Return the one loop of this process."""
    loop = asyncio.new_event_loop()
    atexit.register(loop.close)
    return loop


def _run(asked: Any) -> Any:
    return _make_loop().run_until_complete(asked)


def check_refusal(refusal: BaseException) -> None:
    """Insist on a reason of the catalogue, and on its sentence."""
    words = find_words(refusal)
    expect(words.reason != "internal", "an error of the guard's own")
    expect(words.reason in REASONS or words.reason in GUARD_REASONS, f"the reason {words.reason}")
    expect(len(words.message) <= 200 and len(words.detail) <= 400, "many words")


def _make_grpc() -> Callable[[bytes], bool]:
    serving, _ = _make_serving()
    listed = Methods(serving, [CONTRACT]).listed()
    paths = sorted(RESPONSES)

    def execute(payload: bytes) -> bool:
        """Send a message to the method that the first byte chooses."""
        path = paths[(payload[0] if payload else 0) % len(paths)]
        try:
            answer = _run(listed[path](Call(CALLER, 4.0), payload[1:]))
        except RequestRefused as refusal:
            check_refusal(refusal)
            return False
        getattr(messages, RESPONSES[path]).FromString(answer)
        return True

    return execute


def _make_rest(*, fuzz_path: bool) -> Callable[[bytes], bool]:
    serving, _ = _make_serving()
    application = Application(serving, _Strict(), [CONTRACT])

    def execute(payload: bytes) -> bool:
        """Send a body to the verb that it is meant for, or the good body to a path."""
        if fuzz_path:
            head, _, query = payload.partition(b"?")
            method, _, path = head.partition(b" ")
            asked = method.decode("latin-1"), path, query, make_rest_bodies()[0]
        else:
            verb = "classify" if b"classes" in payload else "regress" if b"values" in payload else "predict"
            verb = VERBS[len(payload) % len(VERBS)] if len(payload) % ODD == 0 else verb  # now and then another
            asked = "POST", f"/v1/models/digits:{verb}".encode(), b"", payload
        status, headers, body = _run(_ask_rest(application, *asked))
        said = json.loads(body, parse_constant=_refuse_constant)
        if status == 200:
            return True
        reason = headers[b"x-garrison-reason"].decode()
        expect(said.keys() == {"error"} and 400 <= status <= 504, "the form of a refusal")
        expect(reason in REASONS or reason in GUARD_REASONS, f"the reason {reason}")
        return False

    return execute


class _Strict(SilentReport):
    """Finds an error that nobody raised on purpose."""

    def refused(self, error: BaseException, **told: Any) -> Any:
        if not isinstance(error, RequestRefused):
            raise error
        check_refusal(error)
        return super().refused(error, **told)


async def _ask_rest(
    application: Application, method: str, path: bytes, query: bytes, body: bytes
) -> tuple[int, Mapping[bytes, bytes], bytes]:
    sent: list[Mapping[str, Any]] = []
    headers = [(b"x-garrison-client", b"fuzz"), (b"content-length", b"%d" % len(body))]
    scope = {"type": "http", "method": method, "raw_path": path, "query_string": query, "headers": headers}

    async def receive() -> Mapping[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    await application(scope, receive, send)
    start, rest = sent
    return start["status"], dict(start["headers"]), rest["body"]


def _make_replies() -> Callable[[bytes], bool]:
    serving, memory = _make_serving()
    x, examples = {"x": np.ones((2, 2, 2), dtype=np.float32)}, [_example().SerializeToString()] * 2
    caller = decided_by_path("fuzz", "digits", "predict", "1", "fuzz")

    def execute(payload: bytes) -> bool:
        """Let the server behind say anything to a good request; the first byte chooses of what kind."""
        verb, memory.said = VERBS[(payload[0] if payload else 0) % len(VERBS)], payload[1:]
        signature = {"predict": "serving_default", "classify": "classes", "regress": "values"}[verb]
        found = serving.find(caller, Meant("digits", signature=signature), verb)
        try:
            if verb == "predict":
                given = _run(serving.predict(caller, found, x))
                expect(bool(np.isfinite(given["scores"]).all()) and given["scores"].shape == (2, 2), "scores")
            else:
                expect(len(_run(getattr(serving, verb)(caller, found, examples))) == 2, "rows")
        except RequestRefused as refusal:
            check_refusal(refusal)
            return False
        return True

    return execute


def _make_torchserve() -> Callable[[bytes], bool]:
    handler = torchserve.make_handler([CONTRACT], Path("/nonexistent/inference.sock"), SilentReport())

    def execute(payload: bytes) -> bool:
        """Read a PredictionsRequest as far as its input."""
        try:
            request = torchserve._parse(payload)
            body = torchserve._read_input(request, handler._find(CALLER, request))
        except RequestRefused as refusal:
            if not isinstance(refusal, Verdict):
                check_refusal(refusal)
            return False
        expect(0 < len(body) <= CONTRACT.max_body_bytes, "the length of the input")
        return True

    return execute


def _make_torchserve_replies() -> Callable[[bytes], bool]:
    def execute(payload: bytes) -> bool:
        """Let TorchServe say anything over HTTP."""
        try:
            read = _run(_read_reply(payload))
        except RequestRefused as refusal:
            if not isinstance(refusal, Verdict):
                check_refusal(refusal)
            return False
        expect(len(read) <= MOST_ANSWER, "the length of the answer")
        return True

    return execute


async def _read_reply(payload: bytes) -> bytes:
    reader = asyncio.StreamReader()
    reader.feed_data(payload)
    reader.feed_eof()
    connection = h11.Connection(h11.CLIENT)
    torchserve_http.write_request(connection, "POST", "/predictions/digits", b"x", {})
    answer = await torchserve_http.read_answer(connection, reader)
    if answer.status != torchserve.OK:
        raise await torchserve._read_refusal(answer)
    return await answer.read(MOST_ANSWER)


def _refuse_constant(name: str) -> None:
    expect(False, f"{name} in an answer")


# What they begin with -------------------------------------------------------------------------------------------------


def _example() -> Any:
    made = messages.Example()
    made.features.feature["age"].int64_list.value.append(5)
    made.features.feature["word"].bytes_list.value.append(b"hi")
    return made


def make_messages() -> list[bytes]:
    """Return a good message of every method, with the byte that chooses it."""
    paths = sorted(RESPONSES)
    predict = messages.PredictRequest(output_filter=["scores"])
    strings = messages.PredictRequest()
    classify, regress = messages.ClassificationRequest(), messages.RegressionRequest()
    multi, metadata, status = (
        messages.MultiInferenceRequest(), messages.GetModelMetadataRequest(metadata_field=["signature_def"]),
        messages.GetModelStatusRequest(),
    )  # fmt: skip
    for one in (predict, strings, classify, regress, metadata, status):
        one.model_spec.name = "digits"
    predict.model_spec.version.value = VERSION
    strings.model_spec.signature_name, strings.model_spec.version_label = "strings", "stable"
    classify.model_spec.signature_name, regress.model_spec.signature_name = "classes", "values"
    for one in (classify, regress, multi):
        one.input.example_list.examples.extend([_example(), _example()])
    for method, signature in (("classify", "classes"), ("regress", "values")):
        task = multi.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name, task.model_spec.signature_name = "digits", signature
    content = write_tensors(b"\x12", {"x": np.arange(4, dtype=np.float32).reshape(1, 2, 2)})
    words = write_tensors(b"\x12", _strings())
    listed = messages.PredictRequest.FromString(predict.SerializeToString())
    listed.inputs["x"].dtype = 1
    listed.inputs["x"].float_val.extend([1.0] * 4)
    for size in (1, 2, 2):
        listed.inputs["x"].tensor_shape.dim.add(size=size)
    by_name = {
        "Predict": [
            predict.SerializeToString() + b"".join(content),
            strings.SerializeToString() + b"".join(words),
            listed.SerializeToString(),
        ],
        "Classify": [classify.SerializeToString()],
        "Regress": [regress.SerializeToString()],
        "MultiInference": [multi.SerializeToString()],
        "GetModelMetadata": [metadata.SerializeToString()],
        "GetModelStatus": [status.SerializeToString()],
    }
    return [
        bytes([number]) + message for number, path in enumerate(paths) for message in by_name[path.rpartition("/")[2]]
    ]


def _strings() -> dict[str, Any]:
    words, key = np.empty((1, 2), dtype=object), np.empty((1,), dtype=object)
    words[0, 0], words[0, 1], key[0] = b"ab", "ä".encode(), b"\xff\x00"
    return {"words": words, "key": key, "small": np.array([7], np.uint8), "flag": np.array([[True]])}


def make_rest_bodies() -> list[bytes]:
    """Return good bodies of every form."""
    example = {"age": 5, "word": "hi"}
    bodies: list[Any] = [
        {"instances": [[[1, 2], [3.5, -4]]]},
        {"inputs": {"x": [[[1, 2], [3, 4]], [[1, 2], [3, 4]]]}, "signature_name": "serving_default"},
        {"inputs": [[[1e-3, 2], [3, 4]]]},
        {"signature_name": "strings", "instances": [
            {"words": ["ab", {"b64": "YWI="}], "key": {"b64": "/wA="}, "small": 7, "flag": [True]}
        ]},
        {"signature_name": "whole", "inputs": [1.5, 2.5]},
        {"signature_name": "classes", "examples": [example, {"age": [6], "word": [{"b64": "aGk="}]}]},
        {"signature_name": "classes", "context": {"word": "a"}, "examples": [{"age": 1}]},
        {"signature_name": "values", "examples": [example]},
    ]  # fmt: skip
    return [json.dumps(body).encode() for body in bodies]


def make_paths() -> list[bytes]:
    """Return requests' lines, good and nearly good."""
    root = b"/v1/models/digits"
    ways = (b"", b"/versions/3", b"/labels/stable", b"/versions/99999999999999999999", b"/labels/%C3%A4")
    posts = [b"POST " + root + way + b":" + verb.encode() for way in ways for verb in VERBS]
    gets = [b"GET " + root + way + end for way in ways for end in (b"", b"/metadata")]
    return [*posts, *gets, b"GET /v1/models?x=1", b"POST /v1/models/d%69gits:predict", b"PUT " + root]


def make_replies() -> list[bytes]:
    """Return good answers of the server behind, with the byte that chooses the verb."""
    answers = (
        _answer(backend.PREDICT, BY_NAME["serving_default"], 2), _answer(backend.CLASSIFY, BY_NAME["classes"], 2),
        _answer(backend.REGRESS, BY_NAME["values"], 2),
    )  # fmt: skip
    return [bytes([number]) + answer for number, answer in enumerate(answers)]


def make_torchserve_messages() -> list[bytes]:
    """Return good messages of TorchServe's clients."""
    made = torchserve.messages.PredictionsRequest
    versions: Sequence[str] = ("", str(VERSION))
    found = [made(model_name="digits", model_version=one, input={"data": b"[[1]]"}) for one in versions]
    found.append(made(model_name="digits", sequence_id="7", input={"body": bytes(100)}))
    return [one.SerializeToString() for one in found]


def make_torchserve_replies() -> list[bytes]:
    """Return what TorchServe says, well and less well."""
    verdict = b'{"reason": "bad_json", "message": "No."}'
    return [
        b'HTTP/1.1 200 OK\r\ncontent-length: 9\r\nconnection: close\r\n\r\n{"a": 1}\n',
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
        b"HTTP/1.1 422 no\r\nx-garrison-reason: bad_json\r\ncontent-length: %d\r\n\r\n%s" % (len(verdict), verdict),
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 busy\r\ncontent-length: 0\r\n\r\n",
    ]


_PROTO = (
    b"\x0a\x00",
    b"\x12\x00",
    b"\x0b",
    b"\xff\xff\xff\xff\x7f",
    b"digits",
    b"scores",
    b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
)
_JSON = (
    b'"instances"',
    b'"inputs"',
    b'"b64"',
    b'"signature_name"',
    b'"examples"',
    b'"context"',
    b"1e400",
    b"NaN",
    b"\\ud800",
    b"\\u0000",
    b"[[[[",
    b"]]]]",
)
_PATH = (
    b"%2F",
    b"%00",
    b"..",
    b"//",
    b"/versions/",
    b"/labels/",
    b":predict",
    b"%ff",
    b"?",
    b"#",
    b"\r\n",
    b"/metadata",
    b" ",
)
_HTTP = (
    b"\r\n",
    b"content-length: 5",
    b"transfer-encoding: chunked",
    b"0\r\n\r\n",
    b"HTTP/1.1 ",
    b"x-garrison-reason: ",
    b"\x00",
    b": ",
)

__all__ = ["TARGETS", "Unexpected"]

TARGETS: dict[str, Target] = {
    "grpc": Target(_make_grpc, make_messages, _PROTO),
    "rest": Target(lambda: _make_rest(fuzz_path=False), make_rest_bodies, _JSON),
    "paths": Target(lambda: _make_rest(fuzz_path=True), make_paths, _PATH),
    "replies": Target(_make_replies, make_replies, _PROTO),
    "torchserve": Target(_make_torchserve, make_torchserve_messages, _PROTO),
    "torchserve-replies": Target(_make_torchserve_replies, make_torchserve_replies, _HTTP),
}
