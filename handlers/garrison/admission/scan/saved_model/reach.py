"""What a graph can run from its roots, and whether it may: a graph, its roots and the lists of operators enter.

Within the graph single nodes are followed; a function that is reached counts as a whole, for TensorFlow runs what has
an effect in it, whether its result is used or not.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from garrison.admission.findings import Finding
from garrison.admission.scan.saved_model.graph import Graph
from garrison.admission.scan.saved_model.operators import Operators
from garrison.admission.scan.saved_model.roots import INITIALISER, RESTORE, SAVE, SIGNATURE, UNUSED, Root, node_of
from garrison.saved_model import PROGRAM_FILE

MAX_FINDINGS = 25  # a person reads no more; one refuses as well as a hundred
KINDS = (SIGNATURE, INITIALISER, RESTORE, SAVE, UNUSED)


@dataclass
class Reached:
    """What roots of one kind lead to: nodes of the graph and functions, each with the label of a root."""

    nodes: dict[str, str] = field(default_factory=dict)
    functions: dict[str, str] = field(default_factory=dict)


def follow(graph: Graph, roots: Iterable[Root]) -> dict[str, Reached]:
    """Return what is reached, by the kind of root."""
    reached = {kind: Reached() for kind in KINDS}
    for root in roots:
        reached[root.kind].nodes.setdefault(root.node, root.label)
    earlier: set[str] = set()
    for kind in KINDS:
        if kind == UNUSED:
            left = {name: label for name, label in reached[kind].nodes.items() if name not in earlier}
            reached[kind].nodes = left
        _follow_kind(graph, reached[kind])
        earlier |= reached[kind].nodes.keys()
    return reached


def judge(graph: Graph, reached: dict[str, Reached], operators: Operators) -> Iterator[Finding]:
    """Refuse each operator that may not be where it is reached, once for each kind of root."""
    found: dict[tuple[str, str], tuple[Any, str]] = {}
    for kind in KINDS:
        for node, where in _reached_nodes(graph, reached[kind]):
            if node.op not in graph.functions and (verdict := operators.judge(node.op, kind)):
                found.setdefault((kind, node.op), (verdict, where))
    for node, where in _unreached_nodes(graph, reached):
        if verdict := operators.forbid(node.op):
            found.setdefault((UNUSED, node.op), (verdict, where))
    for (rule, detail), where in list(found.values())[:MAX_FINDINGS]:
        yield Finding(PROGRAM_FILE, rule, f"{detail} It is {where}.")
    if len(found) > MAX_FINDINGS:
        yield Finding(PROGRAM_FILE, "unlisted_operator", f"and {len(found) - MAX_FINDINGS} more like these")


def _follow_kind(graph: Graph, reached: Reached) -> None:
    waiting = deque(reached.nodes)
    while waiting:
        name = waiting.popleft()
        node, label = graph.nodes.get(name), reached.nodes[name]
        if node is None:
            continue  # said by `check_roots`
        for tensor in node.input:
            following = node_of(tensor)
            if following not in reached.nodes:
                reached.nodes[following] = label
                waiting.append(following)
        for function in graph.functions_of(node):
            reached.functions.setdefault(function, label)
    functions = deque(reached.functions)
    while functions:
        name = functions.popleft()
        for function in graph.functions_beside(name):
            if function not in reached.functions:
                reached.functions[function] = reached.functions[name]
                functions.append(function)


def check_roots(graph: Graph, roots: Iterable[Root]) -> Iterator[Finding]:
    """Refuse a root that is not in the graph: what TensorFlow would make of it is not known."""
    for root in roots:
        if root.node not in graph.nodes:
            detail = f"{root.label} names {root.node[:80]!r}, which is not in the graph; export the model again"
            yield Finding(PROGRAM_FILE, "bad_saved_model", detail)
            return


def _reached_nodes(graph: Graph, reached: Reached) -> Iterator[tuple[Any, str]]:
    for name, label in reached.nodes.items():
        if name in graph.nodes:
            yield graph.nodes[name], f"node {name}, reached from {label}"
    for function, label in reached.functions.items():
        for node in graph.nodes_of(function):
            yield node, f"node {node.name} of function {function}, reached from {label}"


def _unreached_nodes(graph: Graph, reached: dict[str, Reached]) -> Iterator[tuple[Any, str]]:
    known = {function for one in reached.values() for function in one.functions}
    for function in graph.functions:
        if function not in known:
            for node in graph.nodes_of(function):
                yield node, f"node {node.name} of function {function}, which nothing calls; leave it out"
