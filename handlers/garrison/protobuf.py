"""Make classes of protobuf messages without a compiler and without generated code: text of a `.proto` file enters.

Understood is the plain part of proto3 that our files use: one package, messages that are not nested, scalars, repeated
fields, maps, and `oneof`. The classes live in a pool of their own, under a package of ours: only numbers and types
matter on the wire, and no other library's descriptors of the same messages can collide with them.

Fields that the text does not name are kept by protobuf as unknown when a message is read; see `has_unknown`.
"""

import re
from types import SimpleNamespace
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, unknown_fields

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    name: getattr(_Field, f"TYPE_{name.upper()}")
    for name in (
        *("double", "float", "int32", "int64", "uint32", "uint64", "sint32", "sint64"),
        *("fixed32", "fixed64", "sfixed32", "sfixed64", "bool", "string", "bytes"),
    )
}
_COMMENT = re.compile(r"//[^\n]*")
_PACKAGE = re.compile(r"\bpackage\s+([\w.]+)\s*;")
_MESSAGE = re.compile(r"\bmessage\s+(\w+)\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_MEMBER = re.compile(
    r"oneof\s+(?P<oneof>\w+)\s*\{(?P<members>[^{}]*)\}"
    r"|map<(?P<key>\w+),\s*(?P<value>\w+)>\s+(?P<map>\w+)\s*=\s*(?P<map_number>\d+)\s*;"
    r"|(?P<repeated>repeated\s+)?(?P<type>\w+)\s+(?P<name>\w+)\s*=\s*(?P<number>\d+)\s*;"
)


def compile_messages(text: str) -> Any:
    """Return a namespace with one class for each message of a `.proto` text.

    Raises:
        ValueError: a field has a type that the text does not define.
    """
    text = _COMMENT.sub("", text)
    package = _PACKAGE.findall(text)[0]
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    bodies = dict(_MESSAGE.findall(text))
    for name, body in bodies.items():
        _add_members(file.message_type.add(name=name), body, f".{package}", bodies.keys())
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    classes = {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in bodies
    }
    return SimpleNamespace(**classes)


def has_unknown(message: Any) -> bool:
    """Say whether a message, or one in it, was read with fields that its text does not name."""
    if len(unknown_fields.UnknownFieldSet(message)):
        return True
    return any(has_unknown(inner) for field, value in message.ListFields() for inner in _messages_in(field, value))


def _messages_in(field: Any, value: Any) -> Any:
    if field.message_type is None:
        return ()
    if field.message_type.GetOptions().map_entry:
        return value.values() if field.message_type.fields_by_name["value"].message_type else ()
    return value if field.is_repeated else (value,)


def _add_members(message: Any, body: str, package: str, known: Any, oneof: int | None = None) -> None:
    for member in _MEMBER.finditer(body):
        if member["oneof"]:
            message.oneof_decl.add(name=member["oneof"])
            _add_members(message, member["members"], package, known, len(message.oneof_decl) - 1)
        elif member["map"]:
            _add_map(message, member, package, known)
        else:
            field = message.field.add(name=member["name"], number=int(member["number"]), label=_Field.LABEL_OPTIONAL)
            if member["repeated"]:
                field.label = _Field.LABEL_REPEATED
            if oneof is not None:
                field.oneof_index = oneof
            _set_type(field, member["type"], package, known)


def _add_map(message: Any, member: re.Match[str], package: str, known: Any) -> None:
    """Add a map as the wire has it: a repeated message of key and value."""
    entry = message.nested_type.add(name="".join(word.capitalize() for word in member["map"].split("_")) + "Entry")
    entry.options.map_entry = True
    for number, name in enumerate(("key", "value"), 1):
        _set_type(entry.field.add(name=name, number=number, label=_Field.LABEL_OPTIONAL), member[name], package, known)
    message.field.add(
        name=member["map"],
        number=int(member["map_number"]),
        label=_Field.LABEL_REPEATED,
        type=_Field.TYPE_MESSAGE,
        type_name=f"{package}.{message.name}.{entry.name}",
    )


def _set_type(field: Any, kind: str, package: str, known: Any) -> None:
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    elif kind in known:
        field.type, field.type_name = _Field.TYPE_MESSAGE, f"{package}.{kind}"
    else:
        raise ValueError(f"{field.name}: no message {kind}")
