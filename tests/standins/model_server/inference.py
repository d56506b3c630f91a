"""Predict, Classify, Regress and MultiInference on a loaded version.

As servables/tensorflow/predict_util.cc, classifier.cc, regressor.cc, multi_inference.cc and util.cc.
"""

from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import inference_pb2

from standins.model_server import tensors
from standins.model_server.failures import Failure, invalid
from standins.model_server.servables import Servables, Version

PREDICT, CLASSIFY, REGRESS = (f"tensorflow/serving/{name}" for name in ("predict", "classify", "regress"))
DEFAULT = "serving_default"
INPUTS, CLASSES, SCORES, VALUES = "inputs", "classes", "scores", "outputs"


def predict(flags: dict[str, Any], servables: Servables, request: Any, response: Any, timeout_ms: int | None) -> None:
    """Answer Predict."""
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    version = servables.find(request.model_spec)
    name = request.model_spec.signature_name or DEFAULT
    if name not in version.signatures:
        raise Failure(grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
    signature = version.signatures[name]
    _check_method(flags, signature)
    inputs = _read_inputs(signature, request.inputs)
    aliases = _choose_outputs(signature, request.output_filter)
    servables.check_batch(inputs)
    arrays = version.run(inputs, [signature.outputs[alias].name for alias in aliases], timeout_ms)
    servables.check_outputs(inputs, arrays)
    content = flags["enable_serialization_as_tensor_content"]
    for alias, array in zip(aliases, arrays, strict=True):
        tensors.write(array, response.outputs[alias], content=content)
    _fill_spec(response.model_spec, request.model_spec, version)


def _check_method(flags: dict[str, Any], signature: Any) -> None:
    if flags["enable_signature_method_name_check"] and signature.method_name not in (PREDICT, CLASSIFY, REGRESS):
        raise Failure(
            grpc.StatusCode.INTERNAL,
            f"Expected prediction signature method_name to be one of {{{PREDICT}, {CLASSIFY}, {REGRESS}}}. "
            f"Was: {signature.method_name}",
        )


def _read_inputs(signature: Any, sent: Any) -> dict[str, Any]:
    """Return arrays by tensor name; an input that is not sent has the signature's default."""
    wanted, given = set(signature.inputs), set(sent)
    if len(given) > len(wanted) or (len(given) < len(wanted) and not signature.defaults):
        raise invalid(
            f"input size does not match signature: {len(given)}!={len(wanted)} len({{{_join(given)}}}) != "
            f"len({{{_join(wanted)}}}). Sent extra: {{{_join(given - wanted)}}}. Missing but required: "
            f"{{{_join(wanted - given)}}}."
        )
    for alias in sorted(given - wanted):
        raise invalid(
            f"input tensor alias not found in signature: {alias}. Inputs expected to be in the set {{{_join(wanted)}}}."
        )
    return {
        signature.inputs[alias].name: tensors.read(sent[alias] if alias in given else signature.defaults[alias], alias)
        for alias in sorted(wanted)
    }


def _choose_outputs(signature: Any, wanted: Sequence[str]) -> list[str]:
    for place, alias in enumerate(wanted):
        if alias not in signature.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{{{_join(signature.outputs)}}}."
            )
        if alias in wanted[:place]:
            raise invalid(f"duplicate output tensor alias: {alias}")
    return list(wanted) or sorted(signature.outputs)


def classify(servables: Servables, request: Any, response: Any, timeout_ms: int | None) -> None:
    """Answer Classify."""
    _ask_one(servables, request, response, CLASSIFY, timeout_ms)


def regress(servables: Servables, request: Any, response: Any, timeout_ms: int | None) -> None:
    """Answer Regress."""
    _ask_one(servables, request, response, REGRESS, timeout_ms)


def _ask_one(servables: Servables, request: Any, response: Any, method: str, timeout_ms: int | None) -> None:
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    version = servables.find(request.model_spec)
    name = request.model_spec.signature_name or DEFAULT
    if name not in version.signatures:
        raise invalid(f"No signature was found with the name: {name}")
    signature = version.signatures[name]
    _, fetched = _check_signature(signature, method)
    arrays, rows = _compute(servables, version, signature, request.input, fetched, timeout_ms)
    _FILL[method](signature, rows, arrays, response.result)
    _fill_spec(response.model_spec, request.model_spec, version)


def infer(servables: Servables, request: Any, response: Any, timeout_ms: int | None) -> None:
    """Answer MultiInference: several signatures of one model, computed at once."""
    if not request.tasks:
        raise invalid("Inference request must have at least one task")
    version = servables.find(request.tasks[0].model_spec)
    chosen = [_check_task(version, request.tasks[0], task) for task in request.tasks]
    names = [task.model_spec.signature_name or DEFAULT for task in request.tasks]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise invalid(f"Duplicate evaluation of signature: {name}")
    if len({name for _, name, _ in chosen}) > 1:
        raise invalid("Input tensor must be the same for all Signatures.")
    fetched = sorted({name for _, _, names in chosen for name in names})
    arrays, rows = _compute(servables, version, chosen[0][0], request.input, fetched, timeout_ms)
    for task, (signature, _, _) in zip(request.tasks, chosen, strict=True):
        result = inference_pb2.InferenceResult()
        part = result.classification_result if task.method_name == CLASSIFY else result.regression_result
        _FILL[task.method_name](signature, rows, arrays, part)
        part.SetInParent()
        _fill_spec(result.model_spec, task.model_spec, version)
        response.results.append(result)


def _check_task(version: Version, first: Any, task: Any) -> tuple[Any, str, list[str]]:
    if not task.model_spec.name:
        raise invalid("Found ModelSpec with an empty model name.")
    if task.model_spec.name != first.model_spec.name:
        raise invalid("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
    name = task.model_spec.signature_name or DEFAULT
    if name not in version.signatures:
        raise invalid(f"Requested signature not found in model graph: {name}")
    if task.method_name not in _FILL:
        raise Failure(grpc.StatusCode.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method_name}")
    return (version.signatures[name], *_check_signature(version.signatures[name], task.method_name))


def _check_signature(signature: Any, method: str) -> tuple[str, list[str]]:
    """Return the names of the one input tensor and of the outputs that a method knows."""
    kind = "classification" if method == CLASSIFY else "regression"
    if signature.method_name != method:
        raise invalid(f"Expected {kind} signature method_name to be {method}. Was: {signature.method_name}")
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if INPUTS not in signature.inputs:
        raise Failure(grpc.StatusCode.FAILED_PRECONDITION, f"No {kind} inputs found in SignatureDef: {signature}")
    known = (CLASSES, SCORES) if method == CLASSIFY else (VALUES,)
    found = [signature.outputs[alias].name for alias in known if alias in signature.outputs]
    if not found or len(signature.outputs) > len(known):
        raise Failure(grpc.StatusCode.FAILED_PRECONDITION, f"Expected {kind} signature outputs. Was: {signature}")
    return signature.inputs[INPUTS].name, found


def _compute(
    servables: Servables, version: Version, signature: Any, sent: Any, fetched: list[str], timeout_ms: int | None
) -> tuple[dict[str, Any], int]:
    examples = serialise(sent)
    inputs = {signature.inputs[INPUTS].name: examples}
    servables.check_batch(inputs)
    arrays = version.run(inputs, fetched, timeout_ms)
    servables.check_outputs(inputs, arrays)
    return dict(zip(fetched, arrays, strict=True)), len(examples)


def serialise(sent: Any) -> Any:
    """Return the examples of an Input as bytes; the context is copied into each of them."""
    kind = sent.WhichOneof("kind")
    examples = list(getattr(sent, kind).examples) if kind else []
    if not examples:
        raise invalid("Input is empty.")
    context = sent.example_list_with_context.context.SerializeToString() if kind.endswith("context") else b""
    return np.array([context + example.SerializeToString() for example in examples], object)


def _fill_classes(signature: Any, rows: int, arrays: dict[str, Any], result: Any) -> None:
    classes = _take(signature, CLASSES, arrays, rows, object)
    scores = _take(signature, SCORES, arrays, rows, np.float32)
    first = classes if classes is not None else scores
    if classes is not None and scores is not None and classes.shape != scores.shape:
        raise invalid(
            f"Tensors class and score should match in dim_size(1). Got {classes.shape[1]} vs. {scores.shape[1]}"
        )
    for row in range(rows):
        one = result.classifications.add()
        for column in range(first.shape[1]):
            added = one.classes.add()
            if classes is not None:
                added.label = tf.compat.as_text(classes[row, column])
            if scores is not None:
                added.score = scores[row, column]


def _take(signature: Any, alias: str, arrays: dict[str, Any], rows: int, dtype: Any) -> Any:
    if alias not in signature.outputs:
        return None
    array = np.asarray(arrays[signature.outputs[alias].name])
    kind = "DT_STRING" if dtype is object else "DT_FLOAT"
    if array.ndim != 2:
        raise invalid(f"Expected Tensor shape: [batch_size num_classes] but got {list(array.shape)}")
    if array.dtype != dtype:
        raise invalid(f"Expected {alias} Tensor of {kind}. Got: {array.dtype}")
    if len(array) != rows:
        raise invalid(f"Expected {alias} output batch size of {rows}. Got: {len(array)}")
    return array


def _fill_values(signature: Any, rows: int, arrays: dict[str, Any], result: Any) -> None:
    array = np.asarray(arrays[signature.outputs[VALUES].name])
    if array.ndim not in (1, 2) or (array.ndim == 2 and array.shape[1] != 1):
        raise invalid(
            f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {array.shape}"
        )
    if array.dtype != np.float32:
        raise invalid(f"Expected output Tensor of DT_FLOAT. Got: {array.dtype}")
    if len(array) != rows:
        raise invalid(f"Expected output batch size to be {rows}. Got: {len(array)}")
    for value in array.ravel():
        result.regressions.add(value=value)


def _fill_spec(answer: Any, asked: Any, version: Version) -> None:
    answer.name = asked.name
    answer.signature_name = asked.signature_name or DEFAULT
    answer.version.value = version.number


def _join(names: Any) -> str:
    return ",".join(sorted(names))


_FILL = {CLASSIFY: _fill_classes, REGRESS: _fill_values}
