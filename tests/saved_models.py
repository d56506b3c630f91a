"""A packed SavedModel that is in order, of a tiny graph, written without TensorFlow."""

import copy
import json
from pathlib import Path
from typing import Any

from garrison.tensorflow.messages import messages

FLOAT = 1
CONTRACT: dict[str, Any] = {
    "garrison": 1,
    "model": "tiny_tf",
    "version": "1",
    "task": "tensorflow",
    "signatures": {
        "serving_default": {
            "inputs": {"x": {"kind": "tensor", "dtype": "float32", "shape": [2], "min": 0, "max": 1}},
            "outputs": {"y": {"dtype": "float32", "shape": [2], "decimals": 4}},
        }
    },
    "batch": {"max_items": 8, "max_delay_ms": 1, "max_bytes": "1MiB", "max_instances": 8},
    "workers": {"count": 1, "queue": 8, "timeout_s": 5},
}


def make_contract(**changes: Any) -> str:
    """Return a contract that fits; a keyword `batch__max_items` changes that key. JSON is YAML, too."""
    values = copy.deepcopy(CONTRACT)
    for name, value in changes.items():
        *path, key = name.split("__")
        section = values
        for part in path:
            section = section[part]
        section[key] = value
    return json.dumps(values, indent=2) + "\n"


def make_program() -> Any:
    """Return a SavedModel message: x goes in, y, which is x, comes out."""
    saved = messages.SavedModel(saved_model_schema_version=1)
    graph = saved.meta_graphs.add()
    graph.meta_info_def.tags.append("serve")
    graph.meta_info_def.tensorflow_version = "2.21.0"
    shape = messages.TensorShapeProto(dim=[messages.TensorShapeProto_Dim(size=size) for size in (-1, 2)])
    x = graph.graph_def.node.add(name="x", op="Placeholder")
    x.attr["dtype"].type = FLOAT
    x.attr["shape"].shape.CopyFrom(shape)
    y = graph.graph_def.node.add(name="y", op="Identity", input=["x"])
    y.attr["T"].type = FLOAT
    graph.graph_def.versions.producer = 2000
    signature = graph.signature_def["serving_default"]
    signature.method_name = "tensorflow/serving/predict"
    for side, name in ((signature.inputs, "x"), (signature.outputs, "y")):
        side[name].CopyFrom(messages.TensorInfo(name=f"{name}:0", dtype=FLOAT, tensor_shape=shape))
    return saved


def write_saved_model(directory: Path, program: Any = None) -> Path:
    """Write a SavedModel as `tf.saved_model.save` leaves it: the program, and empty directories."""
    for name in ("variables", "assets"):
        (directory / name).mkdir(parents=True)
    data = (program or make_program()).SerializeToString(deterministic=True)
    (directory / "saved_model.pb").write_bytes(data)
    return directory
