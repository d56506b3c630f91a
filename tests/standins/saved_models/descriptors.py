"""What TensorFlow and TensorFlow Serving say of their own messages: every field of every message that is reachable."""

import json
from pathlib import Path
from typing import Any


def write(file: Path) -> None:
    """Write {message: {field: {number, type, repeated, oneof}}}; nested messages are named Outer_Inner."""
    from tensorflow.core.example import example_pb2
    from tensorflow.core.protobuf import saved_model_pb2, tensor_bundle_pb2
    from tensorflow_serving.apis import (
        classification_pb2,
        get_model_metadata_pb2,
        get_model_status_pb2,
        inference_pb2,
        predict_pb2,
        regression_pb2,
    )

    modules = (
        *(predict_pb2, classification_pb2, regression_pb2, inference_pb2),
        *(get_model_metadata_pb2, get_model_status_pb2, saved_model_pb2, tensor_bundle_pb2, example_pb2),
    )
    found: dict[str, Any] = {}
    for module in modules:
        for message in module.DESCRIPTOR.message_types_by_name.values():
            _collect(message, found)
    file.write_text(json.dumps(found, indent=1, sort_keys=True))


def _collect(message: Any, found: dict[str, Any]) -> None:
    if name_of(message) in found:
        return
    found[name_of(message)] = describe(message)
    for field in message.fields:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            value = field.message_type.fields_by_name["value"]
            if value.message_type is not None:
                _collect(value.message_type, found)
        elif field.message_type is not None:
            _collect(field.message_type, found)


def describe(message: Any) -> dict[str, Any]:
    """Return the fields of a message: an enumeration is its number, a map its key and value."""
    return {
        field.name: {
            "number": field.number,
            "type": _type_of(field),
            "repeated": bool(field.is_repeated),
            "oneof": _oneof_of(field),
        }
        for field in message.fields
    }


def name_of(message: Any) -> str:
    """Return a message's name, with those that it stands in before it."""
    outer = message.containing_type
    return message.name if outer is None else f"{name_of(outer)}_{message.name}"


def _oneof_of(field: Any) -> str:
    """Return the oneof that a field is in; proto3's `optional` is one of its own, and the same on the wire."""
    oneof = field.containing_oneof
    return oneof.name if oneof is not None and oneof.name != f"_{field.name}" else ""


def _type_of(field: Any) -> str:
    message = field.message_type
    if message is None:
        number = field.TYPE_INT32 if field.type == field.TYPE_ENUM else field.type
        return next(
            name[5:].lower() for name in dir(field) if name.startswith("TYPE_") and getattr(field, name) == number
        )
    if message.GetOptions().map_entry:
        return f"map<{', '.join(_type_of(message.fields_by_name[key]) for key in ('key', 'value'))}>"
    return name_of(message)
