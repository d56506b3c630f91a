"""Write messages, good and bad ones, as bytes."""

from typing import Any

from garrison.tensorflow.dtypes import BY_NAME
from garrison.tensorflow.messages import messages

PREDICT = "/tensorflow.serving.PredictionService/Predict"
CLASSIFY = "/tensorflow.serving.PredictionService/Classify"
METADATA = (
    ("x-garrison-client", "alice"),
    ("x-garrison-scopes", "digits:describe digits:predict"),
)
ROW = [0.0, 1.0, 2.0, 16.0]


def tensor(values: Any = (), dims: Any = (1, 4), dtype: str = "float32", **fields: Any) -> Any:
    """Return a TensorProto: its dimensions are what is claimed, its values what is there."""
    number = BY_NAME[dtype].number if dtype in BY_NAME else int(dtype)
    made = messages.TensorProto(dtype=number, float_val=values, **fields)
    made.tensor_shape.SetInParent()
    for size in dims:
        made.tensor_shape.dim.add(size=size)
    return made


def predict(
    pixels: Any = None, *, model: str = "digits", signature: str = "", name: str = "pixels",
    version: int | None = None, label: str | None = None, outputs: Any = (), **fields: Any,
) -> bytes:  # fmt: skip
    """Return a PredictRequest, a good one unless something else is asked for."""
    request = messages.PredictRequest(output_filter=outputs, **fields)
    request.model_spec.name, request.model_spec.signature_name = model, signature
    if version is not None:
        request.model_spec.version.value = version
    if label is not None:
        request.model_spec.version_label = label
    request.inputs[name].CopyFrom(tensor(ROW) if pixels is None else pixels)
    written: bytes = request.SerializeToString()
    return written


def example(age: int = 5, word: bytes = b"hi") -> Any:
    made = messages.Example()
    made.features.feature["age"].int64_list.value.append(age)
    made.features.feature["word"].bytes_list.value.append(word)
    return made


def classify(*examples: Any, context: Any = None, signature: str = "classes") -> bytes:
    """Return a ClassificationRequest; with `context`, all examples share it."""
    request = messages.ClassificationRequest()
    request.model_spec.name, request.model_spec.signature_name = "digits", signature
    if context is None:
        request.input.example_list.examples.extend(examples)
    else:
        request.input.example_list_with_context.examples.extend(examples)
        request.input.example_list_with_context.context.CopyFrom(context)
    written: bytes = request.SerializeToString()
    return written


def field_of(number: int, content: bytes) -> bytes:
    """Return a field of bytes as it stands in a message."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])
