"""Build SavedModels node by node, without TensorFlow: what exporters would never write, and what they do, side by side.

A `Program` begins as a small model that is in order: x, any number of rows of two floats, goes in, and y comes out.
"""

import os
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attacks.artifacts import HostileCase
from garrison.tensorflow.messages import messages
from saved_models import make_program

FLOAT, INT32, STRING, INT64, BOOL, RESOURCE = 1, 3, 7, 9, 10, 20
INIT = "__saved_model_init_op"
INDEX, SHARD = "variables/variables.index", "variables/variables.data-00000-of-00001"
_TABLE_MAGIC = 0xDB4775248B80FB57


Build = Callable[["Program"], Mapping[str, bytes] | None]


@dataclass(frozen=True)
class Type:
    """An attribute's value: a type, by its number."""

    number: int


@dataclass(frozen=True)
class Function:
    """An attribute's value: a function, by its name."""

    name: str


class Program:
    """A SavedModel that is being built; `nodes` and `function` add to it."""

    def __init__(self) -> None:
        self.message = make_program()
        self.meta_graph = self.message.meta_graphs[0]
        self.graph = self.meta_graph.graph_def

    def node(self, name: str, op: str, inputs: Iterable[str] = (), **attributes: Any) -> Any:
        """Add a node to the graph, and return it."""
        return add_node(self.graph.node, name, op, inputs, **attributes)

    def text(self, name: str, *values: bytes | str, vector: bool = False) -> Any:
        """Add a constant of one text or, as a vector, of any number."""
        return add_text(self.graph.node, name, *values, vector=vector)

    def function(self, name: str) -> Any:
        """Add a function that returns its argument, and return its nodes, to put more of them there."""
        function = self.graph.library.function.add()
        function.signature.name = name
        function.signature.input_arg.add(name="a", type=FLOAT)
        function.signature.output_arg.add(name="b", type=FLOAT)
        function.signature.is_stateful = True
        add_node(function.node_def, "result", "Identity", ["a"], T=Type(FLOAT))
        function.ret["b"] = "result:output:0"
        return function.node_def

    def call(self, function: str, name: str = "call", op: str = "StatefulPartitionedCall") -> Any:
        """Call a function of x, and let its result be the answer."""
        self.answer(f"{name}:0")
        types = {key: messages.AttrValue(list={"type": [FLOAT]}) for key in ("Tin", "Tout")}
        return self.node(name, op, ["x"], f=Function(function), config=b"", **types)

    def answer(self, tensor: str) -> None:
        """Let a tensor be what the signature gives."""
        self.meta_graph.signature_def["serving_default"].outputs["y"].name = tensor

    def answer_after(self, node: str) -> None:
        """Let the answer wait for a node: a control edge."""
        self.node("after", "Identity", ["x", f"^{node}"], T=Type(FLOAT))
        self.answer("after:0")

    def initialise_with(self, node: str) -> None:
        """Name a node the initialiser, as TensorFlow 2 does."""
        self.meta_graph.signature_def[INIT].outputs[INIT].name = node

    def asset(self, filename: str, tensor: str = "path:0") -> None:
        """Name a file in assets/ and the tensor that gets its path."""
        self.meta_graph.asset_file_def.add(filename=filename).tensor_info.name = tensor

    def write(self, directory: Path, files: Mapping[str, bytes] | None = None) -> Path:
        """Write the SavedModel with more files into a directory."""
        for name, data in {"saved_model.pb": self.message.SerializeToString(), **(files or {})}.items():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_bytes(data)
        return directory


def add_node(nodes: Any, name: str, op: str, inputs: Iterable[str] = (), **attributes: Any) -> Any:
    """Add a node to a graph or a function, and return it."""
    node = nodes.add(name=name, op=op, input=list(inputs))
    for key, value in attributes.items():
        node.attr[key].CopyFrom(_attribute(value))
    return node


def add_text(nodes: Any, name: str, *values: bytes | str, vector: bool = False) -> Any:
    """Add a constant of one text or, as a vector, of any number."""
    encoded = [value.encode() if isinstance(value, str) else value for value in values]
    tensor = messages.TensorProto(dtype=STRING, string_val=encoded)
    tensor.tensor_shape.CopyFrom(shape(len(values)) if vector else shape())
    return add_node(nodes, name, "Const", dtype=Type(STRING), value=tensor)


def canary() -> str:
    """Return the path of the file that a payload writes; if it is there, the payload has run."""
    return os.environ.get("GARRISON_CANARY", "/nowhere/canary")


def add_write(nodes: Any, function: str = "") -> str:
    """Add nodes that write the canary to a graph or a function; return the one to wait for."""
    add_text(nodes, "canary", canary())
    add_text(nodes, "contents", "was here")
    inputs = ["canary:output:0", "contents:output:0"] if function else ["canary", "contents"]
    add_node(nodes, "write", "WriteFile", inputs)
    return "write"


def write_to(program: Program) -> str:
    """Add nodes that write the canary to a program's graph; return the one to wait for."""
    return add_write(program.graph.node)


def write_from_function(program: Program, name: str = "evil") -> None:
    """Add a function that writes the canary before it returns."""
    nodes = program.function(name)
    nodes[0].input.append(f"^{add_write(nodes, name)}")


def add_variable(program: Program) -> dict[str, bytes]:
    """Give the program a variable, its saver and its restore; return the files that hold its value."""
    types, several = {"dtype": Type(FLOAT)}, {"dtypes": messages.AttrValue(list={"type": [FLOAT]})}
    program.node("v", "VarHandleOp", shared_name=b"v", shape=shape(2), **types)
    program.node("read", "ReadVariableOp", ["v"], **types)
    program.node("scaled", "Mul", ["x", "read"], T=Type(FLOAT))
    program.answer("scaled:0")
    program.text("prefix", "")
    program.text("names", "v", vector=True)
    program.text("slices", "", vector=True)
    program.node("name", "Identity", ["prefix"], T=Type(STRING))
    program.node("save", "SaveV2", ["name", "names", "slices", "read"], **several)
    program.node("saved", "Identity", ["prefix", "^save"], T=Type(STRING))
    program.node("restored", "RestoreV2", ["name", "names", "slices"], **several)
    program.node("assigned", "AssignVariableOp", ["v", "restored"], **types)
    saver = program.meta_graph.saver_def
    saver.filename_tensor_name, saver.save_tensor_name, saver.restore_op_name = "prefix:0", "saved:0", "assigned"
    saver.version = 2
    return variable_files()


def add_table(program: Program, path: str = "path") -> dict[str, bytes]:
    """Give the program a table that its initialiser fills from the asset words.txt; return that file."""
    program.text("path", "/home/author/words.txt")
    program.node("table", "HashTableV2", key_dtype=Type(STRING), value_dtype=Type(INT64))
    numbers = {"key_index": -2, "value_index": -1, "vocab_size": -1, "delimiter": b"\t"}
    program.node("fill", "InitializeTableFromTextFileV2", ["table", path], **numbers)
    program.initialise_with("fill")
    program.asset("words.txt")
    return {"assets/words.txt": b"one\ntwo\n"}


def variable_files(shards: int = 1, size: int = 8, names: tuple[bytes, ...] = (b"v",)) -> dict[str, bytes]:
    """Return the files of variables in one shard, whose index says that it has more of them, or more bytes."""
    header = messages.BundleHeaderProto(num_shards=shards)
    header.version.producer = 1
    entry = messages.BundleEntryProto(dtype=FLOAT, size=size, crc32c=_mask(_crc32c(struct.pack("<2f", 0.5, 2))))
    entry.shape.dim.add(size=2)
    entries = {b"": header.SerializeToString(), **dict.fromkeys(names, entry.SerializeToString())}
    return {INDEX: _table(entries), SHARD: struct.pack("<2f", 0.5, 2)}


def _table(entries: Mapping[bytes, bytes]) -> bytes:
    """Write a table as LevelDB has them: one block, one about nothing, one that says where the first is."""
    first = _block(entries)
    nothing = _block({})
    place = varint(0) + varint(len(first) - 5)
    index = _block({b"\xff": place})
    handles = varint(len(first)) + varint(len(nothing) - 5)
    handles += varint(len(first) + len(nothing)) + varint(len(index) - 5)
    return first + nothing + index + handles.ljust(40, b"\0") + struct.pack("<Q", _TABLE_MAGIC)


def _block(entries: Mapping[bytes, bytes]) -> bytes:
    data, restarts = b"", []
    for key, value in sorted(entries.items()):
        restarts.append(len(data))
        data += varint(0) + varint(len(key)) + varint(len(value)) + key + value
    data += b"".join(struct.pack("<I", place) for place in restarts or [0]) + struct.pack("<I", len(restarts or [0]))
    return data + b"\0" + struct.pack("<I", _mask(_crc32c(data + b"\0")))


def varint(number: int) -> bytes:
    return bytes([number & 127 | 128]) + varint(number >> 7) if number > 127 else bytes([number])


def _crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def _mask(crc: int) -> int:
    """Return a checksum as LevelDB stores it."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _attribute(value: Any) -> Any:
    if isinstance(value, messages.AttrValue):
        return value
    if isinstance(value, messages.TensorProto):
        return messages.AttrValue(tensor=value)
    if isinstance(value, messages.TensorShapeProto):
        return messages.AttrValue(shape=value)
    if isinstance(value, Function):
        return messages.AttrValue(func=messages.NameAttrList(name=value.name))
    if isinstance(value, Type):
        return messages.AttrValue(type=value.number)
    kind = {bool: "b", int: "i", float: "f", bytes: "s"}[type(value)]
    return messages.AttrValue(**{kind: value})


def shape(*sizes: int) -> Any:
    """Return a shape as a message."""
    return messages.TensorShapeProto(dim=[messages.TensorShapeProto_Dim(size=size) for size in sizes])


def tensor(*sizes: int, **values: Any) -> Any:
    """Return a value of a shape; of zero, which is repeated, unless others are given."""
    return messages.TensorProto(tensor_shape=shape(*sizes), **(values or {"dtype": FLOAT, "float_val": [0.0]}))


def list_of(**values: Any) -> Any:
    """Return an attribute's value that is a list, such as `type=[FLOAT]`."""
    return messages.AttrValue(list=values)


def hostile(name: str, rules: str | tuple[str, ...], build: Build) -> HostileCase:
    """Return the case of a program that `build` makes, with the files that it returns."""
    return HostileCase(name, frozenset([rules] if isinstance(rules, str) else rules), make_writer(build))


def make_writer(build: Build) -> Callable[[Path], Path]:
    """Return what writes a program that `build` makes into a directory."""

    def write(directory: Path) -> Path:
        program = Program()
        files = build(program)
        return program.write(directory / "model", files)

    return write
