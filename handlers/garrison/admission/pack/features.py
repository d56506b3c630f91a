"""What a SavedModel reads out of tf.Examples: its program enters, features by name leave, as far as they stand there.

For the draft of a contract only: what is not found, a person has to write; what is found, a person has to check.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from garrison.contract.signatures import MAX_TENSORS
from garrison.tensorflow.dtypes import BY_NUMBER

PARSERS = ("ParseExampleV2", "ParseExample", "ParseSingleExample")
MAX_NODES = 1_000_000
SERIALISED_AND_NAMES = 2  # inputs before the keys


@dataclass(frozen=True)
class Feature:
    """One feature: `dtype` is float32, int64 or string; None stands in `shape` where a dimension varies."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


def find_features(saved_model: Any) -> tuple[Feature, ...]:
    """Return the features that the nodes of a program parse, in the order of their names, at most as many as fit."""
    found: dict[str, Feature] = {}
    for graph in saved_model.meta_graphs:
        for nodes in _list_nodes(graph.graph_def):
            constants = {node.name: node for node in nodes if node.op == "Const"}
            for node in nodes:
                if node.op in PARSERS:
                    found |= {feature.name: feature for feature in _read_node(node, constants)}
    return tuple(found[name] for name in sorted(found))[:MAX_TENSORS]


def _list_nodes(graph: Any) -> Iterator[list[Any]]:
    """Go through the nodes of a graph, then of each of its functions: names are known within one of them."""
    left = MAX_NODES
    for nodes in (graph.node, *(function.node_def for function in graph.library.function)):
        left -= len(nodes)
        if left < 0:
            return
        yield list(nodes)


def _read_node(node: Any, constants: dict[str, Any]) -> Iterator[Feature]:
    sparse, dense = _read_keys(node, constants)
    for name, number in zip(sparse, node.attr["sparse_types"].list.type, strict=False):
        yield Feature(name, _name(number), (None,))
    shapes = [_read_shape(shape) for shape in node.attr["dense_shapes"].list.shape]
    for name, number, shape in zip(dense, node.attr["Tdense"].list.type, shapes, strict=False):
        yield Feature(name, _name(number), shape)


def _read_keys(node: Any, constants: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Return the names of sparse features, and of dense ones."""
    if node.op == "ParseSingleExample":
        return _decode(node.attr["sparse_keys"].list.s), _decode(node.attr["dense_keys"].list.s)
    inputs = list(node.input[SERIALISED_AND_NAMES:])
    if node.op == "ParseExampleV2":
        sparse, dense = inputs[:1], inputs[1:2]
    else:
        count = node.attr["Nsparse"].i
        sparse, dense = inputs[:count], inputs[count : count + node.attr["Ndense"].i]
    return _read_constants(sparse, constants), _read_constants(dense, constants)


def _read_constants(inputs: list[str], constants: dict[str, Any]) -> list[str]:
    nodes = [constants.get(name.split(":")[0]) for name in inputs]
    return [key for node in nodes if node is not None for key in _decode(node.attr["value"].tensor.string_val)]


def _decode(keys: Any) -> list[str]:
    return [key.decode("utf-8", "replace") for key in keys]


def _read_shape(shape: Any) -> tuple[int | None, ...]:
    return tuple(dim.size if dim.size > 0 else None for dim in shape.dim)


def _name(number: int) -> str:
    return BY_NUMBER[number].name if number in BY_NUMBER else str(number)
