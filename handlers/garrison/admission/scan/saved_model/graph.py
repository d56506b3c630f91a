"""The graph of a SavedModel: a `MetaGraphDef` message enters, nodes, functions and the edges between them leave.

An edge here is whatever TensorFlow may follow when it runs, rewrites or differentiates a graph: inputs and control
inputs; functions in attributes, however deep, in texts that are a function's name, and where a node's operator is one;
a function's gradient, and others that say they implement the same interface and may be put in its place.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from garrison.admission.findings import Finding
from garrison.admission.scan.saved_model.operators import Operators
from garrison.admission.scan.saved_model.roots import node_of
from garrison.saved_model import PROGRAM_FILE

_NODE_NAME = re.compile(r"[A-Za-z0-9._][A-Za-z0-9_.>/\\-]{0,4000}")  # as TensorFlow's own check has it, and _
_OPERATOR = re.compile(r"[A-Za-z0-9_.>-]{1,1000}")
_SAME_INTERFACE = "api_implements"  # by which TensorFlow's optimiser exchanges functions
_GRADIENT_TYPE = "_gradient_op_type"


class Graph:
    """Nodes and functions of a graph by their names, and the edges between them."""

    def __init__(self, meta_graph: Any) -> None:
        definition = meta_graph.graph_def
        self.meta_graph = meta_graph
        self.nodes = {node.name: node for node in definition.node}
        self.functions = {one.signature.name: one for one in definition.library.function}
        self._gradients: dict[str, list[str]] = defaultdict(list)
        for gradient in definition.library.gradient:
            self._gradients[gradient.function_name].append(gradient.gradient_func)
        for registered in definition.library.registered_gradients:
            self._gradients[registered.registered_op_type].append(registered.gradient_func)
        self._implementations: dict[bytes, list[str]] = defaultdict(list)
        for name, function in self.functions.items():
            self._implementations[function.attr[_SAME_INTERFACE].s].append(name)
        self._called: dict[str, tuple[str, ...]] = {}

    def nodes_of(self, function: str) -> Any:
        """Return the nodes of a function, in their order."""
        return self.functions[function].node_def

    def functions_of(self, node: Any) -> tuple[str, ...]:
        """Return the functions that a node may run."""
        named = {node.op, *_names_in(node.attr.values())}
        if _GRADIENT_TYPE in node.attr:
            named.update(self._gradients.get(node.attr[_GRADIENT_TYPE].s.decode(errors="replace"), ()))
        return tuple(sorted(named & self.functions.keys()))

    def functions_beside(self, function: str) -> tuple[str, ...]:
        """Return the functions that a function may run, or have run in its place."""
        if function not in self._called:
            definition = self.functions[function]
            named = {*_names_in(definition.attr.values()), *self._gradients.get(function, ())}
            if interface := definition.attr[_SAME_INTERFACE].s:
                named.update(self._implementations[interface])
            called = {one for node in definition.node_def for one in self.functions_of(node)}
            self._called[function] = tuple(sorted((named & self.functions.keys()) | called))
        return self._called[function]


def check_graph(meta_graph: Any, operators: Operators) -> Iterator[Finding]:
    """Refuse a graph that TensorFlow could read in another way than this package does, or not at all."""
    definition = meta_graph.graph_def
    functions = [function.signature.name for function in definition.library.function]
    yield from _check_names(definition.node, "the graph")
    yield from _check_unique(functions, "functions")
    for function in definition.library.function:
        yield from _check_names(function.node_def, f"function {function.signature.name!r}")
    yield from _check_function_names(functions, operators)
    yield from _check_inputs(definition.node)


def attributes_in(values: Iterable[Any]) -> Iterator[Any]:
    """Go through attributes, and those of the functions in them, however deep."""
    for value in values:
        yield value
        functions = [value.func] if value.HasField("func") else value.list.func
        for function in functions:
            yield from attributes_in(function.attr.values())


def _names_in(values: Iterable[Any]) -> Iterator[str]:
    """Return what may be the name of a function in attributes: wherever a name or a text can stand."""
    for value in attributes_in(values):
        kind = value.WhichOneof("value")
        if kind == "func":
            yield value.func.name
        elif kind == "placeholder":
            yield value.placeholder
        elif kind == "s":
            yield value.s.decode(errors="replace")
        elif kind == "list":
            yield from (function.name for function in value.list.func)
            yield from (text.decode(errors="replace") for text in value.list.s)


def _check_names(nodes: Any, where: str) -> Iterator[Finding]:
    yield from _check_unique([node.name for node in nodes], f"nodes of {where}")
    for node in nodes:
        if _NODE_NAME.fullmatch(node.name) is None or _OPERATOR.fullmatch(node.op) is None:
            detail = f"in {where}, a node {node.name[:80]!r} of {node.op[:80]!r}: no name that TensorFlow gives"
            yield Finding(PROGRAM_FILE, "unsafe_name", f"{detail}; export the model again")
            return


def _check_function_names(functions: list[str], operators: Operators) -> Iterator[Finding]:
    for name in functions:
        if _OPERATOR.fullmatch(name) is None:
            detail = f"a function {name[:80]!r}: no name that TensorFlow gives; export the model again"
            yield Finding(PROGRAM_FILE, "unsafe_name", detail)
            return
        if operators.knows(name):  # TensorFlow would take the function for the operator
            detail = f"function {name} has the name of an operator; give it another"
            yield Finding(PROGRAM_FILE, "ambiguous_saved_model", detail)
            return


def _check_unique(names: list[str], what: str) -> Iterator[Finding]:
    if len(set(names)) != len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        detail = f"two {what} are called {twice[:80]!r}; export the model again"
        yield Finding(PROGRAM_FILE, "ambiguous_saved_model", detail)


def _check_inputs(nodes: Any) -> Iterator[Finding]:
    names = {node.name for node in nodes}
    for node in nodes:
        for tensor in node.input:
            if node_of(tensor) not in names:
                detail = f"node {node.name} takes {tensor[:80]!r}, which is not there; export the model again"
                yield Finding(PROGRAM_FILE, "bad_saved_model", detail)
                return
