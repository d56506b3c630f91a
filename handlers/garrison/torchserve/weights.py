"""Load a model's weights: a packed model enters, a callable of tensors leaves.

The file's ending says the format, and no other is tried:

    .pt .pth       TorchScript; with a model file, a state dict, read with `weights_only=True`
    .safetensors   a state dict, for a model file
    .pt2           a program written by torch.export.save
    .onnx          ONNX, by onnxruntime on the CPU

A file is read once, compared with what was admitted, and loaded from those bytes. TorchScript, .pt2 and ONNX are
programs, and a model file is Python: what they compute is not confined here; the cell will.
"""

import importlib
import io
import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from garrison.archive import STATE_SUFFIXES, PackedModel
from garrison.errors import ConfigError
from garrison.torchserve.device import is_out_of_memory
from garrison.torchserve.exported import load_exported
from garrison.torchserve.forbidden import explain
from garrison.torchserve.source import describe_error, load_class

MIN_TORCH = (2, 10)  # older ones can be made to run code by a state dict, `weights_only` or not
NOWHERE = "/dev/null"  # a "folder" in which no file can be


Model = Callable[..., Any]


def load_weights(model: PackedModel, device: torch.device, file: str = "") -> Model:
    """Load a packed model's weights onto a device; `file` names another file of the model, packed as an extra file.

    Raises:
        ConfigError: the file is not what its ending says, or does not fit its model file.
        ArtifactRefused: the file is not the one that was admitted.
    """
    name = file or model.weights
    try:
        return _load_format(model, name, device)
    except ConfigError as error:
        if error.__cause__ is not None and is_out_of_memory(error.__cause__):  # then nothing is wrong with the file
            raise ConfigError(f"{name}: loading it {explain(error.__cause__)}") from error
        raise


def _load_format(model: PackedModel, name: str, device: torch.device) -> Model:
    data = model.read(name)
    if model.model_file is not None and name.endswith(STATE_SUFFIXES):
        return _load_eager(model.read(model.model_file), model.model_file, data, name, device)
    match Path(name).suffix:
        case ".pt" | ".pth":
            return _load_torchscript(data, name, device)
        case ".pt2":
            return load_exported(data, name, device)
        case ".onnx":
            return _load_onnx(data, name, device)
        case ".safetensors":
            raise ConfigError(f"{name}: holds tensors only; pack it together with --model-file")
        case _:
            raise ConfigError(f"{name}: not a format of weights that is known")


def check_torch_version(version: str) -> None:
    """Check that this torch is safe to read a state dict with.

    Raises:
        ConfigError: it is older than `MIN_TORCH`.
    """
    match = re.match(r"([0-9]{1,4})\.([0-9]{1,4})", version)
    if match is None or (int(match[1]), int(match[2])) < MIN_TORCH:
        wanted = ".".join(str(part) for part in MIN_TORCH)
        raise ConfigError(f"torch {version}: a state dict can make it run code; install torch {wanted} or newer")


def _load_torchscript(data: bytes, name: str, device: torch.device) -> torch.nn.Module:
    with warnings.catch_warnings():
        # torch 2.13 warns on every torch.jit call; TorchScript is what most packed models are, so it stays.
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.\w+` is deprecated", category=DeprecationWarning)
        try:
            module: torch.nn.Module = torch.jit.load(io.BytesIO(data), map_location=device)
        except Exception as error:
            advice = "save it with torch.jit.save, or pack a state dict together with --model-file"
            raise ConfigError(f"{name}: not TorchScript ({_first_line(error)}); {advice}") from error
    return module.eval()


def _load_eager(source: bytes, model_file: str, data: bytes, name: str, device: torch.device) -> Model:
    state = _read_state(data, name, device)
    made_by = load_class(source, model_file, torch.nn.Module, "torch.nn.Module")
    try:
        module = made_by()
    except Exception as error:
        told = describe_error(error, model_file)
        raise ConfigError(f"{told}; {made_by.__name__}() is called without arguments") from error
    try:
        module.load_state_dict(state)
    except Exception as error:
        raise ConfigError(f"{name}: does not fit {made_by.__name__}: {str(error)[:1000]}") from error
    return module.to(device).eval().requires_grad_(requires_grad=False)


def _read_state(data: bytes, name: str, device: torch.device) -> dict[str, torch.Tensor]:
    if name.endswith(".safetensors"):
        return _read_safetensors(data, name)
    check_torch_version(torch.__version__)
    try:
        state = torch.load(io.BytesIO(data), map_location=device, weights_only=True)
    except Exception as error:
        advice = "write it with torch.save(model.state_dict(), ...)"
        raise ConfigError(f"{name}: not a plain state dict ({_first_line(error)}); {advice}") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ConfigError(
            f"{name}: not a mapping of names to tensors; write it with torch.save(model.state_dict(), ...)"
        )
    return state


def _read_safetensors(data: bytes, name: str) -> dict[str, torch.Tensor]:
    reader = _import_for(name, "safetensors.torch", "safetensors")
    try:
        state: dict[str, torch.Tensor] = reader.load(data)
    except Exception as error:
        raise ConfigError(f"{name}: not a safetensors file ({_first_line(error)})") from error
    return state


def _load_onnx(data: bytes, name: str, device: torch.device) -> Model:
    # Or it writes an identifier of this machine below HOME and reports each session, from a thread of its own.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    onnxruntime = _import_for(name, "onnxruntime", "'garrison[onnx]'")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # the server has one thread per worker
    options.log_severity_level = 4
    # A model may name files to read its weights from, relative to the working directory: leave it nowhere to look.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", NOWHERE)
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ConfigError(f"{name}: cannot be loaded as one ONNX file ({_first_line(error)})") from error
    return _OnnxModel(session, device)


class _OnnxModel:
    """An ONNX session that takes and gives tensors; one output is given as it is, several as a tuple."""

    def __init__(self, session: Any, device: torch.device) -> None:
        self._session = session
        self._names = [item.name for item in session.get_inputs()]
        self._device = device

    def __call__(self, *tensors: torch.Tensor, **named: torch.Tensor) -> Any:
        given = dict(zip(self._names, tensors, strict=False)) | named
        arrays = {name: np.ascontiguousarray(tensor.cpu().numpy()) for name, tensor in given.items()}
        outputs = tuple(
            torch.from_numpy(np.asarray(output)).to(self._device) for output in self._session.run(None, arrays)
        )
        return outputs[0] if len(outputs) == 1 else outputs


def _import_for(name: str, module: str, package: str) -> Any:
    """Import what only this file's format needs."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(f"{name}: {module} is not installed; install it with: pip install {package}") from error


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:300]}"
