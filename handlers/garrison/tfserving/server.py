"""Start TensorFlow Serving as we want it: admitted models and a binary enter, written files and a command line leave.

What it does not defend against: a binary that is not what it says. It comes from upstream's image by digest, or from
whoever starts `garrison serve` with it.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from garrison.contract import Contract
from garrison.errors import ConfigError
from garrison.files import write_atomically
from garrison.record import Record
from garrison.sockets import GUARD_GRPC
from garrison.tfserving.batching import can_share_batches, render_batching
from garrison.tfserving.copying import copy_version
from garrison.tfserving.flags import FILE, read_flags, render_flags
from garrison.tfserving.models import render_models
from garrison.unix_http import MAX_SOCKET_PATH_BYTES

MODELS_CONFIG, BATCHING_CONFIG = "models.config", "batching.config"
MESSAGE_OVERHEAD_BYTES = 64 * 1024  # names, shapes and frames around the values
MOST_MESSAGE_BYTES = 2**31 - 1
_KEPT_VARIABLES = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "LD_LIBRARY_PATH")


@dataclass(frozen=True)
class Served:
    """One admitted version: its contract, its record, and where it lies in the store."""

    contract: Contract
    record: Record
    directory: Path


@dataclass(frozen=True)
class TensorFlowPlan:
    """Where TensorFlow Serving runs and what it serves.

    `run_directory` is the launcher's own: the copies of the models, the rendered files, and `scratch`, where the server
    is at home. `sockets_directory` holds the one socket that it listens on.
    """

    models: tuple[Served, ...]
    binary: Path
    config_directory: Path
    run_directory: Path
    sockets_directory: Path

    @property
    def socket(self) -> Path:
        """Where the server takes gRPC."""
        return self.sockets_directory / GUARD_GRPC

    @property
    def scratch_directory(self) -> Path:
        """The server's working directory, home and temporary directory."""
        return self.run_directory / "scratch"

    @property
    def models_directory(self) -> Path:
        """Where the copies of the models are."""
        return self.run_directory / "models"


def check_plan(plan: TensorFlowPlan) -> None:
    """Check everything about a plan that can be known before anything is written.

    Raises:
        ConfigError: the binary cannot be run, a flag is not what it must be, or a path is too long.
    """
    if not plan.binary.is_file() or not os.access(plan.binary, os.X_OK):
        advice = "give the path of tensorflow_model_server, as the image tensorflow/serving holds it"
        raise ConfigError(f"{plan.binary}: no program that can be run; {advice}")
    read_flags(plan.config_directory / FILE)
    if len(os.fsencode(plan.socket)) > MAX_SOCKET_PATH_BYTES:
        raise ConfigError(f"{plan.sockets_directory}: too long for a unix socket; give a shorter --sockets")


def prepare_files(plan: TensorFlowPlan) -> None:
    """Copy the models and write what the server reads.

    Raises:
        ArtifactRefused: a file is not the one that was admitted.
        ConfigError: something cannot be written.
    """
    plan.scratch_directory.mkdir(mode=0o700)
    plan.models_directory.mkdir(mode=0o700)
    for model in plan.models:
        copy_version(model.directory, model.record, plan.models_directory / model.record.model)
    contracts = [model.contract for model in plan.models]
    models = render_models(contracts, plan.models_directory)
    write_atomically(plan.run_directory / MODELS_CONFIG, models.encode(), 0o400)
    write_atomically(plan.run_directory / BATCHING_CONFIG, render_batching(contracts).encode(), 0o400)


def build_command(plan: TensorFlowPlan) -> list[str]:
    """Return the server's command line."""
    contracts = [model.contract for model in plan.models]
    shared = can_share_batches(contracts)
    places = {
        "BATCHING": "true" if shared else "false",
        "BATCHING_FILE": str(plan.run_directory / BATCHING_CONFIG) if shared else "",
        "SOCKETS": str(plan.sockets_directory),
        "RUN": str(plan.run_directory),
        "MESSAGE_BYTES": str(count_message_bytes(contracts)),
    }
    return [str(plan.binary), *render_flags(read_flags(plan.config_directory / FILE), places)]


def build_environment(plan: TensorFlowPlan) -> dict[str, str]:
    """Return the server's whole environment; nothing else of ours reaches it."""
    scratch = str(plan.scratch_directory)
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return kept | {"PATH": "/nonexistent", "LANG": "C.UTF-8", "HOME": scratch, "TMPDIR": scratch}


def count_message_bytes(contracts: Sequence[Contract]) -> int:
    """Return the length of the largest gRPC message that the guard may send for any of these models."""
    most = max(contract.batch.max_instances * contract.item_bytes for contract in contracts)
    strings = max((_count_strings(contract) for contract in contracts), default=0)
    return min(most + 8 * strings + MESSAGE_OVERHEAD_BYTES, MOST_MESSAGE_BYTES)


def _count_strings(contract: Contract) -> int:
    """Return how many values, at most, a request of the model has: each string has a few bytes before it."""
    values = (getattr(item, "max_values", 1) for signature in contract.signatures for item in signature.inputs)
    return contract.batch.max_instances * max(values, default=1)
