"""What a packed model consists of: a directory enters, a verified description leaves.

A packed model is a directory with `contract.yaml`, the weights, the files that the contract names (labels,
vocabularies), and what TorchServe needs to serve it in place: `MAR-INF/MANIFEST.json` and `model-config.yaml`. Both of
those are functions of the contract and of which weights there are, so they are compared with what they must be instead
of being believed: an archive cannot choose its own interpreter, queue or time limits. Code of the model's own can only
be `handler.py`, for the task `custom`, and `model.py`, for weights that are a state dict.

It does not say who made the files, nor that they are the ones that were reviewed; admission will.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from garrison.contract import FILE_NAME, GRADIENTS, Contract, TextInput, load_contract
from garrison.errors import ConfigError
from garrison.files import read_file
from garrison.settings import MAX_FILE_BYTES

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
    """A packed model whose manifest and server settings agree with its contract.

    `labels` is empty where the contract names none; `model_file` and `handler_file` are its own code, or None.
    """

    directory: Path
    contract: Contract
    weights: Path
    labels: tuple[str, ...]
    model_file: Path | None = None
    handler_file: Path | None = None


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
    """Read a packed model and compare its parts with its contract.

    Raises:
        ConfigError: a part is missing or says something else than the contract; with every problem found.
    """
    contract = load_contract(directory / CONTRACT_FILE)
    problems: list[str] = []
    weights, eager = _check_manifest(directory, contract, problems)
    if _read_part(directory / MODEL_CONFIG_FILE) != render_model_config(contract).encode():
        problems.append(f"{directory / MODEL_CONFIG_FILE}: differs from the contract; pack the model again")
    names = [*([MODEL_FILE] if eager else []), *([HANDLER_FILE] if contract.task == "custom" else [])]
    for name in (*names, *named_files(contract)):
        if not (directory / name).is_file():
            problems.append(f"{directory / name}: missing; pack the model again")
    problems.extend(_check_vocabulary(contract))
    if problems:
        raise ConfigError(*problems)
    root = directory.resolve()
    return PackedModel(
        directory=root,
        contract=contract,
        weights=root / weights,
        labels=load_labels(directory / contract.outputs.labels) if contract.outputs.labels else (),
        model_file=root / MODEL_FILE if eager else None,
        handler_file=root / HANDLER_FILE if contract.task == "custom" else None,
    )


def named_files(contract: Contract) -> tuple[str, ...]:
    """Return the names of the files beside the contract that it names: labels and vocabularies, each once."""
    vocabularies = [item.vocabulary for item in contract.inputs if isinstance(item, TextInput) and item.vocabulary]
    labels = [contract.outputs.labels] if contract.outputs.labels else []
    return tuple(dict.fromkeys([*labels, *vocabularies]))


def find_packed_models(directory: Path) -> tuple[PackedModel, ...]:
    """Open every packed model below a directory, one per subdirectory, in the order of their names.

    Raises:
        ConfigError: there is none, two carry the same name, or one of them is not as it should be.
    """
    if not directory.is_dir():
        raise ConfigError(f"{directory}: no such directory; give the one that `garrison pack --export-path` wrote to")
    archives = sorted(path.name for path in directory.iterdir() if path.suffix in (".mar", ".war"))
    if archives:
        raise ConfigError(f"{directory / archives[0]}: archives are not served; pack with --archive-format no-archive")
    found = [path for path in sorted(directory.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    if not found:
        raise ConfigError(
            f"{directory}: holds no packed model; make one with `garrison pack --export-path {directory}`"
        )
    return tuple(_open_all(found))


def load_labels(path: Path) -> tuple[str, ...]:
    """Read `{"0": "name", ...}` (TorchServe's index_to_name form; a list stands for its last element).

    Raises:
        ConfigError: the file is missing, or is not a gapless numbering of names from 0.
    """
    advice = 'write {"0": "first name", "1": "second name", ...} without gaps'
    try:
        values = json.loads(read_file(path, MAX_LABELS_BYTES))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); outputs.labels names it") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not JSON; {advice}") from error
    if not isinstance(values, dict) or not 1 <= len(values) <= MAX_LABELS:
        raise ConfigError(f"{path}: not a mapping of 1 to {MAX_LABELS} names; {advice}")
    names = [_label_name(values.get(str(index))) for index in range(len(values))]
    if any(name is None for name in names) or len(set(names)) != len(names):
        raise ConfigError(f"{path}: the numbers have gaps, or a name is empty or stands twice; {advice}")
    return tuple(name for name in names if name is not None)


def _open_all(directories: list[Path]) -> list[PackedModel]:
    models: dict[str, PackedModel] = {}
    problems: list[str] = []
    for directory in directories:
        try:
            model = open_packed_model(directory)
        except ConfigError as error:
            problems.extend(error.problems)
            continue
        if model.contract.model in models:
            problems.append(
                f"{directory}: a second model named {model.contract.model!r}; one version is served at a time"
            )
        models[model.contract.model] = model
    if problems:
        raise ConfigError(*problems)
    return list(models.values())


def _check_manifest(directory: Path, contract: Contract, problems: list[str]) -> tuple[str, bool]:
    """Return the name of the weights, and whether a model file goes with them."""
    path = directory / MANIFEST_FILE
    written = _read_part(path)
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
    problems.extend(f"{directory}: {problem}" for problem in check_weights_form(weights, contract, eager=eager))
    if not (directory / weights).is_file():
        problems.append(f"{directory / weights}: the weights are missing; pack the model again")
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


def _read_part(path: Path) -> bytes:
    try:
        return read_file(path, MAX_FILE_BYTES)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); make the model with `garrison pack`") from error


def _parse_manifest(written: bytes, path: Path) -> dict[str, Any]:
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
