"""Where the paths come from that a graph reads files at while it is loaded: a graph and what is reached enter.

Two operators read files that belong to a model: tables from text, and the restore of variables. The server gives both
paths, by setting a tensor: that of an asset, or of the saver. A path from anywhere else may lead anywhere; so it is
traced back from the operator, through functions' arguments and through variables, which TensorFlow 2 keeps assets'
paths in, to one of these tensors, and nothing else is accepted.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from garrison.admission.findings import Finding
from garrison.admission.scan.saved_model.graph import Graph
from garrison.admission.scan.saved_model.reach import Reached
from garrison.admission.scan.saved_model.roots import INITIALISER, RESTORE, node_of
from garrison.saved_model import PROGRAM_FILE

READS_ASSET = {"InitializeTableFromTextFile": 1, "InitializeTableFromTextFileV2": 1}  # operator: which input is a path
READS_VARIABLES = {"RestoreV2": 0}
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_PASSES_ON, _READ, _WRITE, _HANDLE = "Identity", "ReadVariableOp", "AssignVariableOp", "VarHandleOp"
_STRING = 7  # TensorFlow's number of the type
GRAPH = ""  # the place of nodes that are in no function

Place = tuple[str, str]  # function, or GRAPH, and the tensor in it


def check_paths(graph: Graph, reached: dict[str, Reached], assets: Iterable[str]) -> Iterator[Finding]:
    """Refuse a reader of files whose path is neither an asset's nor the saver's; both are tensors in the graph."""
    tracer = _Tracer(graph)
    saver = graph.meta_graph.saver_def.filename_tensor_name
    wanted = ((INITIALISER, READS_ASSET, set(assets)), (RESTORE, READS_VARIABLES, {saver}))
    for kind, readers, tensors in wanted:
        given = {_full_name(tensor) for tensor in tensors}
        for place, node in nodes_reached(graph, reached[kind]):
            if node.op in readers:
                inputs = _data_inputs(node)
                which = readers[node.op]
                sources = tracer.trace((place, inputs[which]), given) if len(inputs) > which else {"nothing"}
                if foreign := sources - given:
                    yield _refuse(node, sorted(foreign)[0], kind)


def nodes_reached(graph: Graph, reached: Reached) -> Iterator[tuple[str, Any]]:
    """Go through the nodes that are reached, each with the function that it is in, or GRAPH."""
    yield from ((GRAPH, graph.nodes[name]) for name in reached.nodes if name in graph.nodes)
    for function in reached.functions:
        yield from ((function, node) for node in graph.nodes_of(function))


def list_variables(graph: Graph, reached: Reached) -> set[str]:
    """Return the names that a restore looks up, as far as they stand in the graph as constants."""
    found: set[str] = set()
    for place, node in nodes_reached(graph, reached):
        inputs = _data_inputs(node)
        if node.op in READS_VARIABLES and len(inputs) > 1:
            nodes = graph.nodes.values() if place == GRAPH else graph.nodes_of(place)
            for names in (one for one in nodes if one.name == node_of(inputs[1]) and one.op == "Const"):
                found.update(text.decode(errors="replace") for text in names.attr["value"].tensor.string_val)
    return found


class _Tracer:
    """Trace tensors back to where they come from."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._calls: dict[str, list[tuple[str, Any]]] = defaultdict(list)
        for place, node in self._all_nodes():
            for function in graph.functions_of(node):
                self._calls[function].append((place, node))
        self._inner: dict[str, dict[str, Any]] = {}

    def trace(self, start: Place, given: set[str]) -> set[str]:
        """Return the tensors that a tensor may be: those of `given`, and others by whatever name a person knows."""
        return {" of function ".join(filter(None, reversed(place))) for place in self._sources(start, given)}

    def _sources(self, start: Place, given: set[str]) -> set[Place]:
        """Return where a tensor may come from: the graph or a function, and the tensor's name in it."""
        found: set[Place] = set()
        seen, waiting = {start}, [start]
        while waiting:
            place = waiting.pop()
            if place[0] == GRAPH and _full_name(place[1]) in given:
                found.add((GRAPH, _full_name(place[1])))
                continue
            before = self._step(place)
            if not before:
                found.add(place)
            waiting.extend(one for one in before if one not in seen)
            seen.update(before)
        return found

    def _step(self, place: Place) -> list[Place]:
        """Return what a tensor is without doubt the same as; nothing if it is made here."""
        function, tensor = place
        if function == GRAPH:
            node = self._graph.nodes.get(node_of(tensor))
        elif tensor in (names := [arg.name for arg in self._graph.functions[function].signature.input_arg]):
            return self._arguments(function, names.index(tensor))
        else:
            node = self._nodes_in(function).get(node_of(tensor))
        inputs = _data_inputs(node) if node is not None else []
        if node is None or len(inputs) != 1:
            return []
        if node.op == _READ:
            return self._written_to(self._variables((function, inputs[0])))
        return [(function, inputs[0])] if node.op == _PASSES_ON else []

    def _written_to(self, variables: set[Any]) -> list[Place]:
        """Return what is put into variables; nothing if one of them is not known for certain."""
        found = []
        for place, node in self._all_nodes():
            if node.op == _WRITE and node.attr["dtype"].type == _STRING:
                handle, value = _data_inputs(node)[:2]
                written = self._variables((place, handle))
                if None in written or written & variables:
                    found.append((place, value))
        return [] if None in variables else found

    def _variables(self, handle: Place) -> set[Any]:
        """Return which variables a handle may be of: two nodes of one name share one; None for what is not known.

        A function's node may bear the name of one of the graph's, and is another. What its variable is called, if it
        does not say so, is decided when the function is built into the graph: that is not known here.
        """
        found: set[Any] = set()
        for function, tensor in self._sources(handle, set()):
            nodes = self._graph.nodes if function == GRAPH else self._nodes_in(function)
            node = nodes.get(node_of(tensor))
            if node is None or node.op != _HANDLE or (function != GRAPH and not node.attr["shared_name"].s):
                return {None}
            found.add((node.attr["container"].s, node.attr["shared_name"].s or node.name.encode()))
        return found

    def _arguments(self, function: str, number: int) -> list[Place]:
        """Return what calls of a function give for an argument; nothing if one of them is no plain call."""
        arguments = self._graph.functions[function].signature.input_arg
        plain = not any(argument.number_attr or argument.type_list_attr for argument in arguments)
        found = []
        for place, node in self._calls[function]:
            inputs = _data_inputs(node)
            named = node.op == function or (node.op in _CALLS and node.attr["f"].func.name == function)
            if not plain or not named or len(inputs) != len(arguments):
                return []
            found.append((place, inputs[number]))
        return found

    def _all_nodes(self) -> Iterator[tuple[str, Any]]:
        yield from ((GRAPH, node) for node in self._graph.nodes.values())
        for function in self._graph.functions:
            yield from ((function, node) for node in self._graph.nodes_of(function))

    def _nodes_in(self, function: str) -> dict[str, Any]:
        if function not in self._inner:
            self._inner[function] = {node.name: node for node in self._graph.nodes_of(function)}
        return self._inner[function]


def _data_inputs(node: Any) -> list[str]:
    return [tensor for tensor in node.input if not tensor.startswith("^")]


def _full_name(tensor: str) -> str:
    """Return `a:0` for `a`: they are one."""
    return tensor if ":" in tensor else f"{tensor}:0"


def _refuse(node: Any, source: str, kind: str) -> Finding:
    whose = "an asset of the model" if kind == INITIALISER else "the path that the saver gives"
    detail = (
        f"{node.op} of node {node.name} reads a file whose path is not {whose} but {source}; export the model again"
    )
    return Finding(PROGRAM_FILE, "foreign_path", detail)
