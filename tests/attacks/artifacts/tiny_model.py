"""A packed model that is in order, of a tiny classifier, and how one thing of it is changed.

Where a case could run something, it would create the file that GARRISON_CANARY names.
"""

import io
import json
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import yaml

from attacks.artifacts import HostileCase
from attacks.artifacts.rawzip import Part, write_zip
from garrison.archive import render_manifest, render_model_config
from garrison.contract import parse_contract

CANARY_CODE = b"import os\nopen(os.environ.get('GARRISON_CANARY', '/tmp/garrison-canary'), 'w').write('ran')\n"
CONTRACT: dict[str, Any] = {
    "garrison": 1,
    "model": "tiny",
    "version": "1",
    "task": "image-classification",
    "inputs": {
        "image": {
            "kind": "image",
            "formats": ["png", "jpeg"],
            "max_bytes": "64KiB",
            "min_side": 2,
            "max_side": 64,
            "max_pixels": 4096,
            "max_frames": 1,
            "colour": "rgb",
            "exact": [4, 4, 3],
        }
    },
    "batch": {"max_items": 8, "max_delay_ms": 5, "max_bytes": "1MiB"},
    "workers": {"count": 1, "queue": 8, "timeout_s": 10},
    "outputs": {"labels": "labels.json", "top_k": 3, "decimals": 4},
}
MANIFEST, CONFIG = "MAR-INF/MANIFEST.json", "model-config.yaml"
GIBIBYTE = 2**30

Files = dict[str, bytes]


@lru_cache
def make_weights(kind: str = "script") -> bytes:
    """Return a tiny classifier of three classes as TorchScript or state dict; a segmenter; or what has no weights."""
    network = Network()
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        match kind:
            case "script":
                torch.jit.save(torch.jit.script(network), buffer)
            case "trace":
                torch.jit.save(torch.jit.trace(network, torch.zeros(1, 3, 4, 4)), buffer)
            case "mask":
                torch.jit.save(torch.jit.script(torch.nn.Conv2d(3, 5, 1)), buffer)
            case "none":
                torch.jit.save(torch.jit.script(torch.nn.ReLU()), buffer)
            case "state":
                torch.save(network.state_dict(), buffer)
    return buffer.getvalue()


class Network(torch.nn.Module):
    """The mean of each colour, and a layer of three classes."""

    def __init__(self) -> None:
        super().__init__()
        self.last = torch.nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        return self.last(x.mean(dim=[2, 3]))


NETWORK_CODE = b"""\
import torch


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.last = torch.nn.Linear(3, 3)

    def forward(self, x):
        return self.last(x.mean(dim=[2, 3]))
"""
LABELS = json.dumps({"0": "red", "1": "green", "2": "blue"}).encode()


def make_files(**changes: Any) -> Files:
    """Return the files of a packed model; a keyword `workers__count` changes that key of the contract."""
    values = json.loads(json.dumps(CONTRACT))
    for name, value in changes.items():
        *path, key = name.split("__")
        section = values
        for part in path:
            section = section[part]
        section[key] = value
    text = yaml.safe_dump(values, sort_keys=False).encode()
    contract = parse_contract(text, "contract.yaml")
    return {
        MANIFEST: render_manifest(contract, "model.pt").encode(),
        "contract.yaml": text,
        "labels.json": LABELS,
        CONFIG: render_model_config(contract).encode(),
        "model.pt": make_weights(),
    }


def change_manifest(top: dict[str, Any] | None = None, **model: Any) -> Files:
    """Return a packed model whose manifest says something else; a key set to None is taken out."""
    files = make_files()
    values = json.loads(files[MANIFEST]) | (top or {})
    values["model"] = {key: value for key, value in (values["model"] | model).items() if value is not None}
    return files | {MANIFEST: json.dumps(values).encode()}


def parts_of(files: Files) -> list[Part]:
    """Return files as members of an archive."""
    return [Part(name.encode(), data) for name, data in files.items()]


def write_model(directory: Path, files: Files) -> Path:
    """Write files to a new directory."""
    for name, data in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return directory


def zip_case(name: str, data: bytes, *rules: str) -> HostileCase:
    """Return a case that is one archive."""

    def make(directory: Path) -> Path:
        path = directory / f"{name}.mar"
        path.write_bytes(data)
        return path

    return HostileCase(name, frozenset(rules), make)


def case_of(name: str, files: Files, *rules: str) -> HostileCase:
    """Return a case that is a well-formed archive of these files."""
    return zip_case(name, write_zip(parts_of(files)), *rules)
