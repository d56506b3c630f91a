"""What KServe's v2 protocol tells about a model, as far as its contract says it: a contract in, JSON out."""

import json
from collections.abc import Sequence
from typing import Any

from garrison.contract import Contract, ImageInput, Input, TableInput, TensorInput

PLATFORM = "garrison_torchserve"
DATATYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
}
ANY = -1  # a dimension of any size, within the contract's bounds
NUMBERS, REST = "FP64", "BYTES"  # as an answer's numbers are written, and everything else


def describe_model(contract: Contract) -> str:
    """Return the answer to `GET /v2/models/NAME`: the name, the one version, and what goes in and comes out."""
    name = contract.inputs[0].name if len(contract.inputs) == 1 else "output"
    output = {"name": name, "datatype": NUMBERS if contract.task == "tensor" else REST, "shape": [ANY]}
    told = {
        "name": contract.model,
        "versions": [contract.version],
        "platform": PLATFORM,
        "inputs": [_describe_input(item) for item in contract.inputs],
        "outputs": [output],
    }
    return json.dumps(told)


def _describe_input(item: Input) -> dict[str, Any]:
    """Describe a number of items: the first dimension counts them."""
    datatype, shape = _find_type(item)
    return {"name": item.name, "datatype": datatype, "shape": [ANY, *shape]}


def _find_type(item: Input) -> tuple[str, Sequence[int]]:
    if isinstance(item, TensorInput) and "json" in item.forms:
        return DATATYPES[item.dtype], [low if low == high else ANY for low, high in item.shape]
    if isinstance(item, ImageInput) and "list" in item.forms:
        return "UINT8", item.shape
    if isinstance(item, TableInput) and all(not column.categories for column in item.columns):
        return NUMBERS, [len(item.columns)]
    return REST, []
