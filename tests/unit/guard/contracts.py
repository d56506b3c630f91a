"""Contracts of SavedModels for the guard's tests: numbers, every kind of string, tf.Examples, three methods."""

import json
from typing import Any

from garrison.contract import Contract, parse_contract

PIXELS = {"pixels": {"kind": "tensor", "dtype": "float32", "shape": [4], "min": 0, "max": 16}}
SCORES = {"scores": {"dtype": "float32", "shape": [2], "decimals": 3}}
FEATURES = {
    "age": {"kind": "tensor", "dtype": "int64", "shape": [1], "min": 0, "max": 150},
    "word": {"kind": "text", "shape": [1], "max_bytes": 16, "max_characters": 8},
}
EXAMPLES = {"examples": {"kind": "example", "max_bytes": 200, "features": FEATURES}}


def make_signature(inputs: Any = None, outputs: Any = None, **changes: Any) -> dict[str, Any]:
    return {"method": "predict", "inputs": inputs or PIXELS, "outputs": outputs or SCORES, **changes}


CLASSIFY = make_signature(
    EXAMPLES,
    {
        "classes": {"dtype": "string", "shape": [2], "max_bytes": 8},
        "scores": {"dtype": "float32", "shape": [2], "decimals": 2},
    },
    method="classify",
)
REGRESS = make_signature(EXAMPLES, {"outputs": {"dtype": "float32", "shape": [1], "decimals": 2}}, method="regress")


def describe_contract(signatures: Any = None, **changes: Any) -> dict[str, Any]:
    """Return a contract as it is written; `signatures` is a mapping, or nothing for one signature of four pixels."""
    return {
        "garrison": 1,
        "model": "digits",
        "version": "3",
        "task": "tensorflow",
        "version_labels": ["stable"],
        "batch": {"max_items": 8, "max_delay_ms": 1, "max_bytes": "64KiB", "max_instances": 4},
        "workers": {"count": 1, "queue": 4, "timeout_s": 5},
        "signatures": signatures or {"serving_default": make_signature()},
        **changes,
    }


def make_contract(signatures: Any = None, **changes: Any) -> Contract:
    """Return a contract."""
    return parse_contract(json.dumps(describe_contract(signatures, **changes)).encode(), "contract.yaml")
