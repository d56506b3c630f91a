"""What a packed model consists of: its files enter, a verified description leaves.

A packed model is a directory with `contract.yaml`, the weights, the files that the contract names (labels,
vocabularies), and what TorchServe needs to serve it: `MAR-INF/MANIFEST.json` and `model-config.yaml`. Both of
those are functions of the contract and of which weights there are, so they are compared with what they must be instead
of being believed: an archive cannot choose its own interpreter, queue or time limits. Code of the model's own can only
be `handler.py`, for the task `custom`, and `model.py`, for weights that are a state dict.

A packed SavedModel is the contract and the files of `saved_model`, which TensorFlow Serving gets a copy of.

It does not say who made the files, nor that they are the ones that were reviewed: admission does, and `record` makes
sure that they stay the same.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from garrison.contract import FILE_NAME, GRADIENTS, TENSORFLOW, TFSERVING, Contract, TextInput, parse_contract
from garrison.errors import ConfigError
from garrison.record import ModelFiles, PlainFiles
from garrison.saved_model import PROGRAM_FILE, check_variables

CONTRACT_FILE = "contract.yaml"
MANIFEST_FILE = "MAR-INF/MANIFEST.json"
MODEL_CONFIG_FILE = "model-config.yaml"
HANDLER_FILE = "handler.py"
MODEL_FILE = "model.py"
HANDLERS = {
    "image-classification": "garrison.torchserve.image_classifier",
    "object-detection": "garrison.torchserve.object_detector",
    "image-segmentation": "garrison.torchserve.image_segmenter",
    "text-classification": "garrison.torchserve.text_classifier",
    "tabular": "garrison.torchserve.tabular",
    "tensor": "garrison.torchserve.tensor",
    "custom": "garrison.torchserve.custom",
}
WEIGHT_SUFFIXES = (".pt", ".pth", ".pt2", ".safetensors", ".onnx")
STATE_SUFFIXES = (".pt", ".pth", ".safetensors")  # what a state dict may be in, beside a model file
STARTUP_TIMEOUT_S = 120
MAX_LABELS = 100_000
MAX_LABELS_BYTES = 16 * 2**20


@dataclass(frozen=True)
class PackedModel:
    """A packed model whose manifest and server settings, where its server has some, agree with its contract.

    `weights` is a file's name, of a SavedModel its program's; `labels` is empty where the contract names none;
    `model_file` and `handler_file` are the names of its own code, or None. `read` gives the bytes of any of its files.
    """

    files: ModelFiles
    contract: Contract
    weights: str
    labels: tuple[str, ...]
    model_file: str | None = None
    handler_file: str | None = None

    def read(self, name: str) -> bytes:
        """Return the bytes of one of the model's files.

        Raises:
            ConfigError: it has no such file.
            ArtifactRefused: the file is not the one that was admitted.
        """
        return self.files.read(name)


def render_manifest(contract: Contract, weights: str, *, eager: bool = False) -> str:
    """Return TorchServe's manifest (JSON): our handler by its dotted name, our interpreter, nothing to install.

    `eager` says that the weights are a state dict for the class in `model.py`.
    """
    values = {
        "createdOn": "not recorded",  # the same inputs give the same bytes
        "runtime": "python",
        "model": {
            "modelName": contract.model,
            "modelVersion": contract.version,
            "serializedFile": weights,
            **({"modelFile": MODEL_FILE} if eager else {}),
            "handler": HANDLERS[contract.task],
            "configFile": MODEL_CONFIG_FILE,
        },
        "archiverVersion": "0.12.0",
    }
    return json.dumps(values, indent=2) + "\n"


def render_model_config(contract: Contract) -> str:
    """Return TorchServe's per-model settings (YAML), every one of them taken from the contract."""
    values = {
        "minWorkers": contract.workers.count,
        "maxWorkers": contract.workers.count,
        "batchSize": contract.batch.max_items,
        "maxBatchDelay": contract.batch.max_delay_ms,
        "responseTimeout": contract.workers.timeout_s,
        "startupTimeout": STARTUP_TIMEOUT_S,
        "jobQueueSize": contract.workers.queue,
    }
    return "# Written by `garrison pack` from contract.yaml; change that file and pack again.\n" + yaml.safe_dump(
        values
    )


def open_packed_model(directory: Path) -> PackedModel:
    """Open a directory as `garrison pack` wrote it, without any admission.

    Raises:
        ConfigError: as for `open_model`.
    """
    return open_model(PlainFiles(directory))


def open_model(files: ModelFiles) -> PackedModel:
    """Read a packed model and compare its parts with its contract.

    Raises:
        ConfigError: a part is missing or says something else than the contract; with every problem found.
        ArtifactRefused: a file is not the one that was admitted.
    """
    contract = parse_contract(files.read(CONTRACT_FILE), f"{files.place}/{CONTRACT_FILE}")
    if contract.server == TFSERVING:
        return _open_saved_model(files, contract)
    if PROGRAM_FILE in files.names():
        wanted = f"a SavedModel's is {TENSORFLOW}, with signatures"
        raise ConfigError(
            f"{files.place}/{CONTRACT_FILE}: task: {contract.task} is not what {PROGRAM_FILE} is; {wanted}"
        )
    problems: list[str] = []
    weights, eager = _check_manifest(files, contract, problems)
    if files.read(MODEL_CONFIG_FILE) != render_model_config(contract).encode():
        problems.append(f"{files.place}/{MODEL_CONFIG_FILE}: differs from the contract; pack the model again")
    names = [*([MODEL_FILE] if eager else []), *([HANDLER_FILE] if contract.task == "custom" else [])]
    for name in (*names, *named_files(contract)):
        if name not in files.names():
            problems.append(f"{files.place}/{name}: missing; pack the model again")
    problems.extend(_check_vocabulary(contract))
    if problems:
        raise ConfigError(*problems)
    return PackedModel(
        files=files,
        contract=contract,
        weights=weights,
        labels=_read_labels(files, contract.outputs.labels) if contract.outputs.labels else (),
        model_file=MODEL_FILE if eager else None,
        handler_file=HANDLER_FILE if contract.task == "custom" else None,
    )


def _open_saved_model(files: ModelFiles, contract: Contract) -> PackedModel:
    names = files.names()
    problems = [] if PROGRAM_FILE in names else [f"{PROGRAM_FILE}: missing, which task {TENSORFLOW} needs"]
    problems += check_variables(names)
    if problems:
        raise ConfigError(*(f"{files.place}/{problem}; pack the model again" for problem in problems))
    return PackedModel(files, contract, PROGRAM_FILE, labels=())


def named_files(contract: Contract) -> tuple[str, ...]:
    """Return the names of the files beside the contract that it names: labels and vocabularies, each once."""
    vocabularies = [item.vocabulary for item in contract.inputs if isinstance(item, TextInput) and item.vocabulary]
    labels = [contract.outputs.labels] if contract.outputs.labels else []
    return tuple(dict.fromkeys([*labels, *vocabularies]))


def parse_labels(data: bytes, place: str) -> tuple[str, ...]:
    """Read `{"0": "name", ...}` (TorchServe's index_to_name form; a list stands for its last element).

    `place` is the file's name in messages.

    Raises:
        ConfigError: it is not a gapless numbering of names from 0.
    """
    advice = 'write {"0": "first name", "1": "second name", ...} without gaps'
    try:
        values = json.loads(data) if len(data) <= MAX_LABELS_BYTES else None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{place}: not JSON; {advice}") from error
    if not isinstance(values, dict) or not 1 <= len(values) <= MAX_LABELS:
        raise ConfigError(f"{place}: not a mapping of 1 to {MAX_LABELS} names; {advice}")
    names = [_label_name(values.get(str(index))) for index in range(len(values))]
    if any(name is None for name in names) or len(set(names)) != len(names):
        raise ConfigError(f"{place}: the numbers have gaps, or a name is empty or stands twice; {advice}")
    return tuple(name for name in names if name is not None)


def _read_labels(files: ModelFiles, name: str) -> tuple[str, ...]:
    return parse_labels(files.read(name), f"{files.place}/{name}")


def _check_manifest(files: ModelFiles, contract: Contract, problems: list[str]) -> tuple[str, bool]:
    """Return the name of the weights, and whether a model file goes with them."""
    path = f"{files.place}/{MANIFEST_FILE}"
    written = files.read(MANIFEST_FILE)
    manifest = _parse_manifest(written, path)
    model = manifest.get("model")
    weights = model.get("serializedFile") if isinstance(model, dict) else None
    if not isinstance(weights, str) or not weights.endswith(WEIGHT_SUFFIXES) or not _is_plain_name(weights):
        problems.append(
            f"{path}: model.serializedFile must name a {' or '.join(WEIGHT_SUFFIXES)} file beside the contract"
        )
        return "", False
    eager = isinstance(model, dict) and "modelFile" in model
    if written != render_manifest(contract, weights, eager=eager).encode():  # as bytes: two JSON readers may differ
        problems.append(f"{path}: differs from what the contract says; pack the model again with `garrison pack`")
    problems.extend(f"{files.place}: {problem}" for problem in check_weights_form(weights, contract, eager=eager))
    if weights not in files.names():
        problems.append(f"{files.place}/{weights}: the weights are missing; pack the model again")
    return weights, eager


def check_weights_form(weights: str, contract: Contract, *, eager: bool) -> list[str]:
    """Say what is wrong with weights of this name for this contract, with or without a model file."""
    if eager and not weights.endswith(STATE_SUFFIXES):
        return [f"{weights} is a whole program: leave the model file out"]
    if not eager and weights.endswith(".safetensors"):
        return [f"{weights} holds tensors only: give the class that they belong to with --model-file"]
    if weights.endswith(".onnx") and contract.explanations is not None and contract.explanations.method == GRADIENTS:
        return [f"explanations.method: {weights} has no gradients for {GRADIENTS}; write feature-ablation"]
    return []


def _check_vocabulary(contract: Contract) -> list[str]:
    text = contract.inputs[0]
    if contract.task != "text-classification" or not isinstance(text, TextInput) or text.vocabulary:
        return []
    return [
        f"{CONTRACT_FILE}: inputs.{text.name}.vocabulary: missing; write the name of a JSON file beside the contract"
    ]


def _parse_manifest(written: bytes, path: str) -> dict[str, Any]:
    try:
        manifest = json.loads(written)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not JSON; pack the model again") from error
    if not isinstance(manifest, dict):
        raise ConfigError(f"{path}: not a JSON object; pack the model again")
    return manifest


def _label_name(value: Any) -> str | None:
    name = value[-1] if isinstance(value, list) and value else value
    return name if isinstance(name, str) and 0 < len(name) <= 200 else None


def _is_plain_name(name: str) -> bool:
    return re.fullmatch(FILE_NAME, name) is not None
