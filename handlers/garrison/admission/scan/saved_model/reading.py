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
MAX_ADDED_BYTES = 512 * 2**20  # to what texts and weights have in the file already
MAX_DEPTH = 100  # protobuf's own
_MESSAGE_BYTES, _VALUE_BYTES = 128, 48  # of one message or value in memory, at least
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
            _Counter(data).count(0, len(data), messages.SavedModel.DESCRIPTOR)
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

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._added = 0

    def count(self, place: int, end: int, descriptor: Descriptor, depth: int = 0) -> None:
        """Count the message from one place to another; fields that are not known are kept by the parser as they are."""
        if depth > MAX_DEPTH:
            raise ValueError(f"messages nested more than {MAX_DEPTH} deep")
        self._add(_MESSAGE_BYTES)
        fields = descriptor.fields_by_number
        while place < end:
            key, place = read_varint(self._data, place)
            length, place = self._read_length(place, key & 7)
            if place + length > end:
                raise ValueError("cut off")
            self._count_field(place, place + length, fields.get(key >> 3), key & 7, depth)
            place += length

    def _count_field(self, place: int, end: int, field: FieldDescriptor | None, wire_type: int, depth: int) -> None:
        self._add(_VALUE_BYTES)
        if field is None:
            return
        if field.message_type is not None and wire_type == _BYTES:
            self.count(place, end, field.message_type, depth + 1)
        elif field.type not in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
            self._add(8 * (end - place))  # numbers in a row, of one byte each and eight in memory

    def _read_length(self, place: int, wire_type: int) -> tuple[int, int]:
        """Return how many bytes a field's value has, and where they begin."""
        if wire_type == _BYTES:
            return read_varint(self._data, place)
        if wire_type == _VARINT:
            return read_varint(self._data, place)[1] - place, place
        if wire_type in (_FIXED64, _FIXED32):
            return 8 if wire_type == _FIXED64 else 4, place
        raise ValueError("a field of a kind that no file has")

    def _add(self, number: int) -> None:
        self._added += number
        if self._added > MAX_ADDED_BYTES:
            detail = f"more than {MAX_ADDED_BYTES} bytes of memory beside its values"
            raise _refuse("saved_model_too_large", detail)


def read_varint(data: bytes, place: int) -> tuple[int, int]:
    """Return the number that stands somewhere in bytes, as protobuf and LevelDB write it, and where it ends.

    Raises:
        IndexError, ValueError: there is none.
    """
    if (value := data[place]) < 0x80:
        return value, place + 1
    value &= 0x7F
    for shift in range(7, 70, 7):
        place += 1
        value |= (data[place] & 0x7F) << shift
        if data[place] < 0x80:
            return value, place + 1
    raise ValueError("a number of more than ten bytes")


def _refuse(reason: str, detail: str) -> ArtifactRefused:
    return ArtifactRefused(reason, "The SavedModel cannot be read.", detail)
