"""Where TensorFlow Serving begins to run a graph: a `MetaGraphDef` message enters, roots leave.

    a request       each signature's outputs; its inputs too, which a client may leave out
    while loading   the initialiser: of three places the loader takes the first that is there, and here all count
    while loading   the restore, with the path of the variables as its input
    never           the save, which every exporter writes along
    while loading   whatever else is in the graph: shapes that depend on constants are computed by running nodes

The last was tried: a node that nothing leads to, and that is registered as stateless, ran before the first request.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

SIGNATURE, INITIALISER, RESTORE, SAVE, UNUSED = "signature", "initialiser", "restore", "save", "unused"
INIT_SIGNATURE = "__saved_model_init_op"
INIT_COLLECTIONS = ("saved_model_main_op", "legacy_init_op")


@dataclass(frozen=True)
class Root:
    """One node that is run: `kind` is one of those above, `label` says to a person which."""

    kind: str
    label: str
    node: str


def list_roots(meta_graph: Any) -> Iterator[Root]:
    """Go through all roots of a graph, those that are run by requests first."""
    for name, signature in sorted(meta_graph.signature_def.items()):
        kind = INITIALISER if name == INIT_SIGNATURE else SIGNATURE
        label = "the initialiser" if name == INIT_SIGNATURE else f"signature {name}"
        yield from (Root(kind, label, node) for node in _nodes_in(signature))
    for key in INIT_COLLECTIONS:
        if key in meta_graph.collection_def:
            for name in meta_graph.collection_def[key].node_list.value:
                yield Root(INITIALISER, f"the initialiser ({key})", node_of(name))
    saver = meta_graph.saver_def
    for kind, name in ((RESTORE, saver.restore_op_name), (SAVE, saver.save_tensor_name)):
        if name:
            yield Root(kind, f"the {kind} of variables", node_of(name))
    for node in meta_graph.graph_def.node:
        yield Root(UNUSED, "nothing, but run all the same while the graph is built", node.name)


def node_of(tensor: str) -> str:
    """Return the node that a tensor or an input of a node names: `^a`, `a` and `a:1` are node a's."""
    return tensor.removeprefix("^").partition(":")[0]


def _nodes_in(signature: Any) -> Iterator[str]:
    for infos in (signature.outputs, signature.inputs):
        for _, info in sorted(infos.items()):
            yield from (node_of(name) for name in _tensors_in(info))


def _tensors_in(info: Any) -> Iterator[str]:
    kind = info.WhichOneof("encoding")
    if kind == "name":
        yield info.name
    elif kind == "coo_sparse":
        sparse = info.coo_sparse
        yield from (sparse.values_tensor_name, sparse.indices_tensor_name, sparse.dense_shape_tensor_name)
    elif kind == "composite_tensor":
        for component in info.composite_tensor.components:
            yield from _tensors_in(component)
