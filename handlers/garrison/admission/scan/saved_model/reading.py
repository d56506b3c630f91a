"""Read saved_model.pb as messages: bytes enter, a `SavedModel` message leaves.

A protobuf parser gives memory by the hundredfold: two bytes say "one more node". So what a large file would become in
memory is counted on its bytes before they are parsed. Depth is bounded by the parser (100 messages), which TensorFlow's
shares. What a field means is not judged here.
"""

from pathlib import Path
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError

from garrison.errors import ArtifactRefused
from garrison.files import read_file
from garrison.saved_model import PROGRAM_FILE
from garrison.tensorflow.messages import messages

MAX_PROGRAM_BYTES = 2**30  # weights stand in variables/; a frozen graph, which holds them itself, fits still
COUNTED_FROM_BYTES = 4 * 2**20  # what is smaller cannot become much
MAX_MEMORY_BYTES = 3 * 2**30
MAX_DEPTH = 100  # protobuf's own
_MESSAGE_BYTES, _VALUE_BYTES = 128, 24  # of one message or value in memory, at least
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types; groups are in none of these messages


def read_program(directory: Path) -> Any:
    """Return the `SavedModel` message of a directory.

    Raises:
        ArtifactRefused: the file is missing, unreadable, too large, or is not such a message.
    """
    path = directory / PROGRAM_FILE
    try:
        data = read_file(path, MAX_PROGRAM_BYTES + 1)
    except OSError as error:
        raise _refuse("incomplete_saved_model", f"it cannot be read ({error.strerror})") from error
    return parse_program(data)


def parse_program(data: bytes) -> Any:
    """Return the `SavedModel` message that some bytes are.

    Raises:
        ArtifactRefused: as for `read_program`.
    """
    if len(data) > MAX_PROGRAM_BYTES:
        raise _refuse("saved_model_too_large", f"more than {MAX_PROGRAM_BYTES} bytes")
    try:
        if len(data) > COUNTED_FROM_BYTES:
            _Counter().count(memoryview(data), messages.SavedModel.DESCRIPTOR)
        return messages.SavedModel.FromString(data)
    except (DecodeError, IndexError, ValueError) as error:
        detail = f"it is not a SavedModel ({error}); export the model again"
        raise _refuse("bad_saved_model", detail) from error


def has_unknown(message: Any) -> bool:
    """Say whether a message, or one in it, has fields that TensorFlow 2.21 does not name."""
    known = type(message)()
    known.CopyFrom(message)
    known.DiscardUnknownFields()
    return bool(known.ByteSize() != message.ByteSize())


class _Counter:
    """Count what bytes become in memory, going through them as the parser would."""

    def __init__(self) -> None:
        self._bytes = 0

    def count(self, data: memoryview, descriptor: Descriptor, depth: int = 0) -> None:
        """Count one message; unknown fields are kept by the parser as they are."""
        if depth > MAX_DEPTH:
            raise ValueError(f"messages nested more than {MAX_DEPTH} deep")
        self._add(_MESSAGE_BYTES)
        place, fields = 0, descriptor.fields_by_number
        while place < len(data):
            key, place = _read_varint(data, place)
            length, place = _read_length(data, place, key & 7)
            self._count_field(data[place : place + length], fields.get(key >> 3), key & 7, depth)
            place += length
        if place != len(data):
            raise ValueError("cut off")

    def _count_field(self, data: memoryview, field: FieldDescriptor | None, wire_type: int, depth: int) -> None:
        self._add(_VALUE_BYTES)
        if field is not None and field.message_type is not None and wire_type == _BYTES:
            self.count(data, field.message_type, depth + 1)
        elif field is None or field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
            self._add(len(data))
        else:
            self._add(8 * len(data))  # numbers in a row, of one byte each and eight in memory

    def _add(self, number: int) -> None:
        self._bytes += number
        if self._bytes > MAX_MEMORY_BYTES:
            raise _refuse("saved_model_too_large", f"more than {MAX_MEMORY_BYTES} bytes in memory")


def _read_varint(data: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError("a number of more than ten bytes")


def _read_length(data: memoryview, place: int, wire_type: int) -> tuple[int, int]:
    """Return how many bytes a field's value has, and where they begin."""
    if wire_type == _VARINT:
        return _read_varint(data, place)[1] - place, place
    if wire_type == _BYTES:
        return _read_varint(data, place)
    if wire_type in (_FIXED64, _FIXED32):
        return 8 if wire_type == _FIXED64 else 4, place
    raise ValueError("a field of a kind that no file has")


def _refuse(reason: str, detail: str) -> ArtifactRefused:
    return ArtifactRefused(reason, "The SavedModel cannot be read.", detail)
