"""What the sample models' training scripts share: a trained network in, TorchScript and its description out.

The same network gives the same bytes, on any machine with the same library versions. It does not say whether the
network is any good; each script measures that itself.
"""

import hashlib
import io
import platform
import warnings
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn


def save_torchscript(model: nn.Module, example: torch.Tensor, path: Path) -> None:
    """Write a network as TorchScript; `example` is an input of at least two items.

    Traced, not scripted: a scripted file orders its constants by Python's random hash seed. Rewritten without the
    debug records: they hold the paths of this machine, and the serialisation id depends on them.
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        _ignore_torchscript_deprecation()
        torch.jit.save(torch.jit.trace(model, example, strict=False), buffer)  # strict: no dictionary as an answer
    with zipfile.ZipFile(buffer) as traced, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        for name in traced.namelist():
            if not name.endswith((".debug_pkl", "/.data/serialization_id")):
                file.writestr(zipfile.ZipInfo(name), traced.read(name))  # dated 1980, to stay the same


def load_torchscript(path: Path) -> nn.Module:
    """Read a TorchScript file onto the CPU, in evaluation mode."""
    with warnings.catch_warnings():
        _ignore_torchscript_deprecation()
        model: nn.Module = torch.jit.load(str(path), map_location="cpu")
    return model.eval()


def describe_weights(path: Path) -> dict[str, Any]:
    """Return size and SHA-256 of a file of weights, as `metrics.json` records them."""
    return {"model_bytes": path.stat().st_size, "model_sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def list_versions(**modules: ModuleType) -> dict[str, str]:
    """Return Python's version and those of the modules, under the names given, with dashes for underscores."""
    versions = {name.replace("_", "-"): str(module.__version__) for name, module in modules.items()}
    return {"python": platform.python_version(), **versions}


def _ignore_torchscript_deprecation() -> None:
    # torch 2.13 warns on every torch.jit call; TorchServe 0.12 serves TorchScript, so it stays the format here.
    warnings.filterwarnings("ignore", message=r"`torch\.jit\.\w+` is deprecated", category=DeprecationWarning)
