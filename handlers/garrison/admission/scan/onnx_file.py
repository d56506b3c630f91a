"""Check an ONNX file on the wire, without an ONNX library: an open file enters, findings leave.

ONNX is protobuf. What is known of its messages stands in one table; a field that is not in it refuses, and so does a
known one of another wire type, since such fields are what readers disagree about. Two things must not be in it,
however deep in subgraphs, functions, attributes and sparse tensors: data outside the file (a path that the runtime
opens) and operators that are not ONNX's own (native code that somebody has to load).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from garrison.admission.findings import Finding

MAX_DEPTH = 40  # messages within messages; a subgraph adds three
MAX_MESSAGES = 2_000_000
MAX_TEXT_BYTES = 4096  # of what is compared: names and domains
STANDARD_DOMAINS = {"", "ai.onnx", "ai.onnx.ml"}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WIRES = {"v": _VARINT, "q": _FIXED64, "b": _BYTES, "d": _FIXED32}

# message: {field: wire type, or the message inside it}. "p" is a number or a packed row of them.
_MESSAGES: dict[str, dict[int, str]] = {
    "Model": {1: "v", 2: "b", 3: "b", 4: "b", 5: "v", 6: "b", 7: "Graph", 8: "Opset", 14: "Entry", 25: "Function"},
    "Opset": {1: "domain", 2: "v"},
    "Entry": {1: "b", 2: "b"},
    "Graph": {1: "Node", 2: "b", 5: "Tensor", 10: "b", 11: "Value", 12: "Value", 13: "Value", 14: "Annotation",
              15: "Sparse", 16: "Entry"},
    "Node": {1: "b", 2: "b", 3: "b", 4: "operator", 5: "Attribute", 6: "b", 7: "domain", 8: "b", 9: "Entry"},
    "Attribute": {1: "b", 2: "d", 3: "v", 4: "b", 5: "Tensor", 6: "Graph", 7: "p", 8: "p", 9: "b", 10: "Tensor",
                  11: "Graph", 13: "b", 14: "b", 15: "b", 20: "v", 21: "b", 22: "Sparse", 23: "Sparse"},
    "Tensor": {1: "p", 2: "v", 4: "p", 5: "p", 6: "b", 7: "p", 8: "b", 9: "b", 10: "p", 11: "p", 12: "b",
               13: "external", 14: "location", 16: "Entry"},
    "Sparse": {1: "Tensor", 2: "Tensor", 3: "p"},
    "Function": {1: "name", 4: "b", 5: "b", 6: "b", 7: "Node", 8: "b", 9: "Opset", 10: "domain", 11: "Attribute",
                 12: "Value", 13: "b", 14: "Entry"},
    "Value": {1: "b", 2: "b", 3: "b", 4: "Entry"},
    "Annotation": {1: "b", 2: "Entry"},
}  # fmt: skip


@dataclass
class _Found:
    """What was seen so far: operators used, functions that the model itself defines, faults."""

    operators: set[tuple[str, str]] = field(default_factory=set)
    functions: set[tuple[str, str]] = field(default_factory=set)
    domains: set[str] = field(default_factory=set)
    external: bool = False
    graphs: int = 0
    messages: int = 0


class _FaultError(Exception):
    pass


def check_onnx(file: BinaryIO, size: int, name: str) -> list[Finding]:
    """Return what speaks against an ONNX model of `size` bytes."""
    found = _Found()
    try:
        _read_message(file, "Model", 0, size, found, 0)
    except (_FaultError, UnicodeDecodeError) as fault:
        return [Finding(name, "weight_format", f"not an ONNX model ({fault}); write it with torch.onnx.export")]
    if not found.graphs:
        return [Finding(name, "weight_format", "not an ONNX model: it has no graph; write it with torch.onnx.export")]
    return list(_judge(found, name))


def looks_like_onnx(start: bytes) -> bool:
    """Say whether a file may begin as an ONNX model: with the version of the format, as every exporter writes it."""
    return re.match(rb"\x08[\x01-\x20][\x12\x1a\x22\x28\x32\x3a\x42]", start) is not None


def _judge(found: _Found, name: str) -> Iterator[Finding]:
    if found.external:
        advice = "save it as one file (torch.onnx.export(..., external_data=False))"
        yield Finding(name, "external_data", f"some of its values are in another file; {advice}")
    own = {domain for domain, _ in found.functions}
    for domain, operator in sorted(found.operators - found.functions):
        if domain not in STANDARD_DOMAINS:
            advice = "use operators of ai.onnx and ai.onnx.ml only"
            yield Finding(name, "forbidden_operator", f"{domain}.{operator} is no operator of ONNX's own; {advice}")
    for domain in sorted(found.domains - STANDARD_DOMAINS - own - {domain for domain, _ in found.operators}):
        if not _UNUSED_DOMAINS.fullmatch(domain):
            yield Finding(name, "forbidden_operator", f"it asks for the operators of {domain[:80]!r}")


# Exporters name these whether they use them or not.
_UNUSED_DOMAINS = re.compile(
    r"pkg\.onnxscript\.torch_lib(\.common)?|pkg\.torch\.[A-Za-z0-9_.]+|com\.microsoft|ai\.onnx\.[a-z.]+"
)


def _read_message(file: BinaryIO, kind: str, start: int, end: int, found: _Found, depth: int) -> None:
    found.messages += 1
    if depth > MAX_DEPTH or found.messages > MAX_MESSAGES:
        raise _FaultError("nested too deeply, or too many parts")
    found.graphs += kind == "Graph"
    layout, texts = _MESSAGES[kind], dict.fromkeys(("domain", "operator", "name"), "")
    position = start
    while position < end:
        key, position = _read_varint(file, position, end)
        what = layout.get(key >> 3)
        wire = key & 7
        if what is None:
            raise _FaultError(f"{kind} has no field {key >> 3}")
        value, begin, position = _read_value(file, wire, position, end)
        _check_wire(kind, what, wire, key >> 3)
        if what in _MESSAGES:
            _read_message(file, what, begin, position, found, depth + 1)
        elif what in texts:
            texts[what] = _read_text(file, begin, position)
        elif what == "external" or (what == "location" and value != 0):
            found.external = True
    _note(kind, texts, found)


def _note(kind: str, texts: dict[str, str], found: _Found) -> None:
    if kind == "Node":
        found.operators.add((texts["domain"], texts["operator"]))
    elif kind == "Function":
        found.functions.add((texts["domain"], texts["name"]))
    elif kind == "Opset":
        found.domains.add(texts["domain"])


def _check_wire(kind: str, what: str, wire: int, number: int) -> None:
    if what == "p":
        right = wire in (_VARINT, _FIXED64, _FIXED32, _BYTES)
    elif what == "location":
        right = wire == _VARINT
    else:
        right = wire == _WIRES.get(what, _BYTES)
    if not right:
        raise _FaultError(f"field {number} of {kind} is written in another way than ONNX says")


def _read_value(file: BinaryIO, wire: int, position: int, end: int) -> tuple[int, int, int]:
    """Return a field's number, if it is one, and where its bytes begin and end."""
    if wire == _VARINT:
        value, after = _read_varint(file, position, end)
        return value, position, after
    length = {_FIXED64: 8, _FIXED32: 4}.get(wire)
    if wire == _BYTES:
        length, position = _read_varint(file, position, end)
    if length is None or position + length > end:
        raise _FaultError("a field is longer than what it is in, or of an unknown kind")
    return 0, position, position + length


def _read_varint(file: BinaryIO, position: int, end: int) -> tuple[int, int]:
    file.seek(position)
    value = 0
    for count, byte in enumerate(file.read(min(10, end - position))):
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            return value, position + count + 1
    raise _FaultError("a number without an end")


def _read_text(file: BinaryIO, start: int, end: int) -> str:
    if end - start > MAX_TEXT_BYTES:
        raise _FaultError("a very long name")
    file.seek(start)
    return file.read(end - start).decode()
