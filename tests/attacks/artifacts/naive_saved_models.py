"""Load SavedModels as TensorFlow Serving does, one after the other, and ask each once: no scan, no limits.

Written is what TensorFlow says about each, and the registry of its operators.

Run by the environment that has TensorFlow: `python -m attacks.artifacts.naive_saved_models DIRECTORY...`. It goes
through TensorFlow's C interface, whose loader is the server's: Python's own loader runs fewer of a model's parts.
"""

import ctypes
import json
import os
import sys
from pathlib import Path

import tensorflow as tf
from tensorflow.core.framework import op_def_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.client import pywrap_tf_session as tf_session

FLOAT, ROWS, COLUMNS = 1, 1, 2
Pointer = ctypes.c_void_p


class Output(ctypes.Structure):
    """One tensor of a graph."""

    _fields_ = (("operation", Pointer), ("index", ctypes.c_int))


def open_library() -> ctypes.CDLL:
    """Return TensorFlow's C interface."""
    library = ctypes.CDLL(str(Path(tf.__file__).parent / "libtensorflow_cc.so.2"))
    for name in ("TF_NewSessionOptions", "TF_NewStatus", "TF_NewGraph", "TF_LoadSessionFromSavedModel"):
        getattr(library, name).restype = Pointer
    library.TF_GraphOperationByName.restype = library.TF_AllocateTensor.restype = Pointer
    library.TF_Message.restype = ctypes.c_char_p
    return library


def load_and_ask(library: ctypes.CDLL, directory: Path) -> str:
    """Load a SavedModel and fetch the outputs of its signature; return what TensorFlow says about it."""
    status, graph = Pointer(library.TF_NewStatus()), Pointer(library.TF_NewGraph())
    options, tags = Pointer(library.TF_NewSessionOptions()), (ctypes.c_char_p * 1)(b"serve")
    path = str(directory).encode()
    session = library.TF_LoadSessionFromSavedModel(options, None, path, tags, 1, graph, None, status)
    if not session:
        return (library.TF_Message(status) or b"").decode(errors="replace")
    outputs = _find(library, graph, _names_of_outputs(directory))
    inputs = _find(library, graph, ["x:0"])
    dimensions = (ctypes.c_int64 * 2)(ROWS, COLUMNS)
    tensor = library.TF_AllocateTensor(FLOAT, dimensions, 2, ctypes.c_size_t(ROWS * COLUMNS * 4))
    values, results = (Pointer * 1)(tensor), (Pointer * len(outputs))()
    run = (Pointer(session), None, inputs, values, 1, outputs, results, len(outputs), None, 0, None, status)
    library.TF_SessionRun(*run)
    return (library.TF_Message(status) or b"").decode(errors="replace")


def _names_of_outputs(directory: Path) -> list[str]:
    program = saved_model_pb2.SavedModel.FromString((directory / "saved_model.pb").read_bytes())
    signature = program.meta_graphs[0].signature_def["serving_default"]
    return [info.name for info in signature.outputs.values()]


def _find(library: ctypes.CDLL, graph: Pointer, names: list[str]) -> "ctypes.Array[Output]":
    found = (Output * len(names))()
    for place, name in enumerate(names):
        node, _, index = name.partition(":")
        operation = library.TF_GraphOperationByName(graph, node.encode())
        found[place] = Output(operation, int(index or 0))
    return found


if __name__ == "__main__":
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    loaded = open_library()
    said = {argument: load_and_ask(loaded, Path(argument)) for argument in sys.argv[1:]}
    registry = op_def_pb2.OpList.FromString(tf_session.TF_GetBuffer(tf_session.TF_GetAllOpList()))
    names = [operator.name for operator in registry.op]
    sys.stdout.write(json.dumps({"said": said, "version": tf.__version__, "operators": names}))
