"""Walk through a message's bytes before protobuf reads it: nothing is built, so nothing small can become large.

protobuf turns two bytes (an empty message in a list) into a hundred, keeps fields that nobody knows, and reads groups
to any depth. Here each field has to be one that the message's text names, of the kind that it names, and there are at
most `most_fields` of them, those of messages inside counted too. A packed list of numbers counts once.
"""

from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from garrison.errors import RequestRefused
from garrison.guard.refusals import refuse_for

MAX_DEPTH = 16
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_WIRE_KINDS = {
    **dict.fromkeys((FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FIXED64, FieldDescriptor.TYPE_SFIXED64), 1),
    **dict.fromkeys((FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_FIXED32, FieldDescriptor.TYPE_SFIXED32), 5),
    **dict.fromkeys((FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_MESSAGE), 2),
}

Table = dict[int, "Table | None"]
"""A field's tag as on the wire, and the table of the message in it if it is one."""


class Shape:
    """What a kind of message may look like on the wire."""

    def __init__(self, message: Any) -> None:
        self._table = _make_table(message.DESCRIPTOR, {})

    def check(self, data: bytes, most_fields: int) -> None:
        """Check that a message has only known fields, and not too many.

        Raises:
            Malformed: it breaks off, or has a field that the text does not name or that is written in another way.
            TooLarge: it has more fields than `most_fields`.
        """
        try:
            _walk(data, self._table, most_fields)
        except IndexError as error:
            raise _broken() from error


def cut_out(data: bytes, start: int, end: int, wanted: int) -> tuple[bytes, list[tuple[int, int]]]:
    """Cut fields of one tag out of a message that `Shape.check` has passed, and return the rest and where they lie.

    protobuf copies what it reads; a field of many bytes can be looked at where it is. `wanted` is of a field of bytes
    or messages, and the message is data[start:end].
    """
    rest, spans, place, kept = [], [], start, start
    while place < end:
        begin = place
        tag, place = _read_varint(data, place)
        kind = tag & 7
        if kind == _LENGTH:
            length, place = _read_varint(data, place)
            if tag == wanted:
                rest.append(data[kept:begin])
                spans.append((place, place + length))
                kept = place + length
            place += length
        elif kind == _VARINT:
            _, place = _read_varint(data, place)
        else:
            place += 8 if kind == _FIXED64 else 4
    rest.append(data[kept:end])
    return b"".join(rest), spans


def _walk(data: bytes, table: Table, left: int) -> None:  # noqa: C901 - one loop without calls: each field costs
    place, end = 0, len(data)
    outer: list[tuple[int, Table]] = []
    while True:
        while place == end:
            if not outer:
                return
            end, table = outer.pop()
        left -= 1
        if left < 0:
            raise refuse_for("too_many_fields")
        tag = data[place]
        place += 1
        if tag & 0x80:
            tag, place = _read_varint(data, place - 1)
        if tag not in table:
            raise refuse_for("unknown_field")
        kind = tag & 7
        if kind == _LENGTH:
            length, place = _read_varint(data, place)
            inner = table[tag]
            if inner is None:
                place += length
            elif place + length <= end and len(outer) < MAX_DEPTH:
                outer.append((end, table))
                end, table = place + length, inner
            else:
                raise _broken()
        elif kind == _VARINT:
            _, place = _read_varint(data, place)
        else:
            place += 8 if kind == _FIXED64 else 4
        if place > end:
            raise _broken()


def _read_varint(data: bytes, place: int) -> tuple[int, int]:
    """Return a number and the place behind it, which may lie beyond the message that it stands in."""
    value = data[place]
    if value < 0x80:
        return value, place + 1
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 63:
            raise _broken()
    return value, place


def _make_table(message: Descriptor, known: dict[str, Table]) -> Table:
    if message.full_name in known:
        return known[message.full_name]
    table: Table = {}
    known[message.full_name] = table
    for field in message.fields:
        kind = _WIRE_KINDS.get(field.type, _VARINT)
        table[field.number << 3 | kind] = _make_table(field.message_type, known) if field.message_type else None
        if field.is_repeated and kind != _LENGTH:
            table[field.number << 3 | _LENGTH] = None
    return table


def _broken() -> RequestRefused:
    return refuse_for("bad_message")
