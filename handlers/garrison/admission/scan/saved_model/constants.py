"""The values that stand in a graph: attributes enter, findings leave.

bombs           a few bytes that say "this value, a thousand million times"
handles         resources and variants, which are pointers into the server written as values
hidden graphs   texts that are a graph or a function to whoever parses them
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from google.protobuf.message import DecodeError

from garrison.admission.findings import Finding
from garrison.admission.scan.saved_model.graph import attributes_in
from garrison.admission.scan.saved_model.reading import read_varint
from garrison.saved_model import PROGRAM_FILE
from garrison.tensorflow.messages import messages

MAX_REPEATED_BYTES = 256 * 2**20  # of all values that stand for more than themselves, as zeros do
MAX_RANK = 254  # TensorFlow's own
_STRING, _RESOURCE, _VARIANT = 7, 20, 21
_STRING_BYTES = 24  # of an empty one in memory
_BYTES = {
    **{1: 4, 2: 8, 3: 4, 4: 1, 5: 2, 6: 1, 7: _STRING_BYTES, 8: 8, 9: 8, 10: 1, 11: 1, 12: 1, 13: 4, 14: 2, 15: 2},
    **{16: 2, 17: 2, 18: 16, 19: 2, 22: 4, 23: 8, 24: 1, 25: 1, 26: 1, 27: 1, 28: 1, 29: 1, 30: 1, 31: 1, 32: 1},
}  # by TensorFlow's numbers of types
_VALUES = (
    *("float_val", "double_val", "int_val", "string_val", "int64_val", "bool_val", "half_val", "uint32_val"),
    *("uint64_val", "scomplex_val", "dcomplex_val"),
)
_WITH_VALUES = ("tensor", "list", "s")
_NAME = re.compile(r"[A-Za-z0-9._/\\>-]{1,500}")
_OPERATOR = re.compile(r"[A-Z_][A-Za-z0-9_>]{1,100}")
_SHORTEST_GRAPH = 8  # bytes


def check_constants(meta_graph: Any) -> Iterator[Finding]:
    """Refuse values in a graph that are bombs, handles or graphs themselves."""
    repeated = 0
    for where, value in _attributes(meta_graph):
        if value.WhichOneof("value") not in _WITH_VALUES:
            continue
        for tensor in (value.tensor, *value.list.tensor):
            if problem := find_fault(tensor):
                yield Finding(PROGRAM_FILE, "bad_constant", f"{where}: {problem}; export the model again")
                return
            repeated += count_repeated(tensor)
            if repeated > MAX_REPEATED_BYTES:
                detail = f"{where}: values that a few bytes stand for would take more than {MAX_REPEATED_BYTES} bytes"
                yield Finding(PROGRAM_FILE, "constant_bomb", f"{detail}; compute them where they are used")
                return
        if any(is_graph(text) for text in _texts_in(value)):
            detail = f"{where}: a text that is itself a graph or a function; take it out"
            yield Finding(PROGRAM_FILE, "hidden_graph", detail)
            return


def find_fault(tensor: Any) -> str:
    """Return what is wrong with a value, or nothing."""
    if tensor.dtype in (_RESOURCE, _VARIANT) or tensor.resource_handle_val or tensor.variant_val:
        return "a handle of a resource or variant where a value belongs"
    sizes = [dim.size for dim in tensor.tensor_shape.dim]
    if len(sizes) > MAX_RANK or any(size < 0 for size in sizes) or tensor.tensor_shape.unknown_rank:
        return "a value without a certain shape" if sizes or tensor.tensor_shape.unknown_rank else ""
    if tensor.dtype not in _BYTES:
        return "a value of a type that is not known" if tensor.ByteSize() else ""
    count, held = math.prod(sizes), _count_values(tensor)
    if tensor.tensor_content and tensor.dtype != _STRING and len(tensor.tensor_content) != count * _BYTES[tensor.dtype]:
        return f"{len(tensor.tensor_content)} bytes where its shape needs {count * _BYTES[tensor.dtype]}"
    return f"{held} values where its shape has {count}" if held > count else ""


def count_repeated(tensor: Any) -> int:
    """Return the bytes in memory of a value whose shape has more places than there are values; 0 if they are as many.

    TensorFlow repeats the last one, or fills up with nothing.
    """
    count = math.prod(dim.size for dim in tensor.tensor_shape.dim)
    if tensor.dtype not in _BYTES or tensor.tensor_content or _count_values(tensor) >= count:
        return 0
    longest = max((len(text) for text in tensor.string_val[-1:]), default=0)
    return int(count * (_BYTES[tensor.dtype] + longest))


def is_graph(data: bytes) -> bool:
    """Say whether bytes are a graph, a function, a library of them or a SavedModel, to whoever parses them as such."""
    if len(data) < _SHORTEST_GRAPH:
        return False
    for kind, nodes in _NODES.items():
        try:
            parsed = kind.FromString(data)
        except DecodeError:
            continue
        if any(_is_node(node) for node in nodes(parsed)):
            return True
    return False


def _functions_nodes(library: Any) -> Iterator[Any]:
    return (node for function in library.function for node in function.node_def)


def _graphs_nodes(graph: Any) -> Iterator[Any]:
    yield from graph.node
    yield from _functions_nodes(graph.library)


_NODES: dict[Any, Callable[[Any], Iterable[Any]]] = {
    messages.GraphDef: _graphs_nodes,
    messages.FunctionDef: lambda function: function.node_def,
    messages.FunctionDefLibrary: _functions_nodes,
    messages.MetaGraphDef: lambda meta_graph: _graphs_nodes(meta_graph.graph_def),
    messages.SavedModel: lambda model: (node for one in model.meta_graphs for node in _graphs_nodes(one.graph_def)),
}


def _is_node(node: Any) -> bool:
    return bool(_NAME.fullmatch(node.name) and _OPERATOR.fullmatch(node.op))


def _attributes(meta_graph: Any) -> Iterator[tuple[str, Any]]:
    """Go through all attributes of a graph, each with the words for where it is."""
    graph = meta_graph.graph_def
    for node in graph.node:
        yield from ((f"node {node.name}", value) for value in attributes_in(node.attr.values()))
    for function in graph.library.function:
        name = function.signature.name
        values: list[Any] = [*function.attr.values(), *(a.default_value for a in function.signature.attr)]
        values.extend(value for argument in function.arg_attr.values() for value in argument.attr.values())
        yield from ((f"function {name}", value) for value in attributes_in(values))
        for node in function.node_def:
            where = f"node {node.name} of function {name}"
            yield from ((where, value) for value in attributes_in(node.attr.values()))
    for name, signature in meta_graph.signature_def.items():
        for tensor in signature.defaults.values():
            yield f"a default of signature {name}", messages.AttrValue(tensor=tensor)


def _texts_in(value: Any) -> Iterable[bytes]:
    tensors = (value.tensor, *value.list.tensor)
    yield from (value.s, *value.list.s)
    for tensor in tensors:
        yield from tensor.string_val
        if tensor.tensor_content and tensor.dtype == _STRING:
            yield from _split_content(tensor)


def _split_content(tensor: Any) -> Iterator[bytes]:
    """Return the texts in TensorFlow's other form: all their lengths, then all of them."""
    data, place, lengths = tensor.tensor_content, 0, []
    try:
        for _ in range(min(len(data), math.prod(dim.size for dim in tensor.tensor_shape.dim))):
            length, place = read_varint(data, place)
            lengths.append(length)
    except (IndexError, ValueError):
        return  # TensorFlow cannot read it either
    for length in lengths:
        yield data[place : place + length]
        place += length


def _count_values(tensor: Any) -> int:
    if tensor.tensor_content:
        return 0
    return max(len(getattr(tensor, field)) // (2 if "complex" in field else 1) for field in _VALUES)
