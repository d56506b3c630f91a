"""What a packed model consists of: a directory enters, a verified description leaves.

A packed model is a directory with `contract.yaml`, the weights, the labels, and what TorchServe needs to serve it in
place: `MAR-INF/MANIFEST.json` and `model-config.yaml`. Both of those are functions of the contract, so they are
compared with what the contract says instead of being believed: an archive cannot choose its own handler, interpreter,
queue or time limits.

It does not say who made the files, nor that they are the ones that were reviewed; admission will.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from garrison.contract import FILE_NAME, Contract, load_contract
from garrison.errors import ConfigError
from garrison.settings import MAX_FILE_BYTES

CONTRACT_FILE = "contract.yaml"
MANIFEST_FILE = "MAR-INF/MANIFEST.json"
MODEL_CONFIG_FILE = "model-config.yaml"
HANDLERS = {"image-classification": "garrison.torchserve.image_classifier"}
WEIGHT_SUFFIXES = (".pt", ".pth")
STARTUP_TIMEOUT_S = 120
MAX_LABELS = 100_000


@dataclass(frozen=True)
class PackedModel:
    """A packed model whose manifest and server settings agree with its contract."""

    directory: Path
    contract: Contract
    weights: Path
    labels: tuple[str, ...]


def render_manifest(contract: Contract, weights: str) -> str:
    """Return TorchServe's manifest (JSON): our handler by its dotted name, our interpreter, nothing to install."""
    values = {
        "createdOn": "not recorded",  # the same inputs give the same bytes
        "runtime": "python",
        "model": {
            "modelName": contract.model,
            "modelVersion": contract.version,
            "serializedFile": weights,
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
    weights = _check_manifest(directory, contract, problems)
    if _read_part(directory / MODEL_CONFIG_FILE) != render_model_config(contract).encode():
        problems.append(f"{directory / MODEL_CONFIG_FILE}: differs from the contract; pack the model again")
    if problems:
        raise ConfigError(*problems)
    return PackedModel(directory.resolve(), contract, weights, load_labels(directory / contract.outputs.labels))


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
        values = json.loads(path.read_bytes())
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


def _check_manifest(directory: Path, contract: Contract, problems: list[str]) -> Path:
    path = directory / MANIFEST_FILE
    written = _read_part(path)
    manifest = _parse_manifest(written, path)
    model = manifest.get("model")
    weights = model.get("serializedFile") if isinstance(model, dict) else None
    if not isinstance(weights, str) or not weights.endswith(WEIGHT_SUFFIXES) or not _is_plain_name(weights):
        problems.append(
            f"{path}: model.serializedFile must name a {' or '.join(WEIGHT_SUFFIXES)} file beside the contract"
        )
        return directory
    if written != render_manifest(contract, weights).encode():  # as bytes: two JSON readers may differ about the rest
        problems.append(f"{path}: differs from what the contract says; pack the model again with `garrison pack`")
    if not (directory / weights).is_file():
        problems.append(f"{directory / weights}: the weights are missing; pack the model again")
    return directory / weights


def _read_part(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES)
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
