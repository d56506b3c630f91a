"""The catalogue's requests as clients send them: a path and a JSON body for REST, a method and a message for gRPC."""

import base64
import json
from typing import Any

import numpy as np

from garrison.tensorflow.dtypes import BY_NAME as DTYPES
from garrison.tensorflow.messages import messages
from standins.saved_models.catalogue import DEFAULT, PREDICT, Ask

SERVICE = "/tensorflow.serving.PredictionService/"
_MESSAGES = {
    "predict": ("Predict", messages.PredictRequest, messages.PredictResponse),
    "classify": ("Classify", messages.ClassificationRequest, messages.ClassificationResponse),
    "regress": ("Regress", messages.RegressionRequest, messages.RegressionResponse),
}


def path_of(model: str, ask: Ask, way: str = "") -> str:
    """Return the REST path; `way` is "/versions/1" or "/labels/stable"."""
    return f"/v1/models/{model}{way}:{ask.method}"


def rest_body(ask: Ask) -> bytes:
    """Return the JSON body: columns for predict, examples for the others."""
    if ask.method == PREDICT:
        body: dict[str, Any] = {"inputs": {name: _json(serialise(value)) for name, value in ask.inputs.items()}}
    else:
        body = {"examples": [{name: _feature(values) for name, values in one.items()} for one in ask.examples]}
    if ask.signature != DEFAULT:
        body["signature_name"] = ask.signature
    return json.dumps(body).encode()


def row_body(ask: Ask) -> bytes:
    """Return the JSON body in row form, for a Predict request whose inputs all have rows."""
    columns = {name: _json(serialise(value)) for name, value in ask.inputs.items()}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return json.dumps({"signature_name": ask.signature, "instances": rows}).encode()


def grpc_request(model: str, ask: Ask, **spec: Any) -> Any:
    """Return the message; `spec` adds to its model_spec: version_label."""
    request = _MESSAGES[ask.method][1]()
    request.model_spec.name = model
    if ask.signature != DEFAULT:
        request.model_spec.signature_name = ask.signature
    for key, value in spec.items():
        setattr(request.model_spec, key, value)
    if ask.method == PREDICT:
        for name, value in ask.inputs.items():
            write_tensor(serialise(value), request.inputs[name])
    else:
        request.input.example_list.examples.extend(make_example(one) for one in ask.examples)
    return request


def ask_over(channel: Any, request: Any, timeout_s: float | None = 10, metadata: Any = None) -> Any:
    """Send a message of this module over a channel of gRPC, and return the answer."""
    method, _, response = next(one for one in _MESSAGES.values() if isinstance(request, one[1]))
    call = channel.unary_unary(
        SERVICE + method,
        request_serializer=lambda one: one.SerializeToString(),
        response_deserializer=response.FromString,
    )
    return call(request, timeout=timeout_s, metadata=metadata)


def serialise(value: Any) -> Any:
    """Return an input as an array: tf.Examples, which are a tuple of mappings, serialised."""
    if isinstance(value, tuple):
        return np.array([make_example(one).SerializeToString() for one in value], object)
    return np.asarray(value)


def make_example(values: dict[str, Any]) -> Any:
    """Return a tf.Example: bytes, whole numbers or numbers by feature."""
    example = messages.Example()
    example.features.SetInParent()
    for name, listed in values.items():
        feature = example.features.feature[name]
        kind = {bytes: "bytes_list", int: "int64_list", float: "float_list"}[type(listed[0])]
        getattr(feature, kind).value.extend(listed)
    return example


def write_tensor(array: Any, proto: Any) -> None:
    """Write an array into a TensorProto: numbers as their bytes, strings one by one."""
    strings = array.dtype == object
    proto.dtype = DTYPES["string" if strings else array.dtype.name].number
    proto.tensor_shape.SetInParent()
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if strings:
        proto.string_val.extend(array.ravel().tolist())
    else:
        proto.tensor_content = array.tobytes()


def read_tensor(proto: Any) -> Any:
    """Return the array of an answer's TensorProto, however its values are written."""
    dtype = next(one for one in DTYPES.values() if one.number == proto.dtype)
    shape = [dim.size for dim in proto.tensor_shape.dim]
    if dtype.numpy is None:
        return np.array(list(proto.string_val), object).reshape(shape)
    if proto.tensor_content or not len(getattr(proto, dtype.field)):
        return np.frombuffer(proto.tensor_content, dtype.numpy).reshape(shape)
    values = np.array(getattr(proto, dtype.field))
    return (
        values.astype(np.uint16).view(np.float16) if dtype.name == "float16" else values.astype(dtype.numpy)
    ).reshape(shape)


def read_outputs(response: Any) -> dict[str, Any]:
    """Return the arrays of a PredictResponse by name."""
    return {name: read_tensor(proto) for name, proto in response.outputs.items()}


def _json(array: Any) -> Any:
    if array.dtype != object:
        return array.astype(float).tolist() if array.dtype == np.float16 else array.tolist()
    return _encode(array.tolist())


def _encode(value: Any) -> Any:
    return [_encode(one) for one in value] if isinstance(value, list) else {"b64": base64.b64encode(value).decode()}


def _feature(values: list[Any]) -> Any:
    written = [_encode(value) if isinstance(value, bytes) else value for value in values]
    return written[0] if len(written) == 1 else written
