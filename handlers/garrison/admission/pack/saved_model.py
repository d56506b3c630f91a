"""Pack a SavedModel: a directory as `tf.saved_model.save` or `model.export` wrote it and a contract enter.

A copy of the files that TensorFlow Serving needs, with the contract, leaves. What is of no use to the server is left
behind, and told; what the server would act on besides refuses.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from garrison.admission.pack.delivery import (
    PUBLIC_MESSAGE,
    Delivery,
    Examine,
    Sign,
    even_modes,
    examine_packed,
    find_contradictions,
)
from garrison.admission.pack.sources import check_source, copy_sources
from garrison.admission.rules.members import INNER_DIRECTORIES, Entry, list_entries, open_directory
from garrison.admission.rules.names import show_name
from garrison.admission.settings import Limits
from garrison.admission.unpack import copy_members
from garrison.archive import CONTRACT_FILE
from garrison.contract import TENSORFLOW, TFSERVING, Contract, load_contract
from garrison.errors import ArtifactRefused, ConfigError
from garrison.files import read_file
from garrison.record import RECORD_FILE, SIGNATURE_FILE
from garrison.saved_model import DIRECTORIES, PROGRAM_FILE, is_part

DRAFT_ADVICE = "`garrison describe DIR --contract-draft` writes one to begin with"
KERAS_SUFFIXES = (".keras", ".h5", ".hdf5")
HDF5_BEGINS = b"\x89HDF\r\n\x1a\n"
LEFT_BEHIND = {
    "keras_metadata.pb": "only Keras reads it",
    "debug/": "only debuggers read it",
    SIGNATURE_FILE: "sign again, with --sign-key",
    RECORD_FILE: "only admission writes it",
    CONTRACT_FILE: "the one of --contract goes in",
}
ADVICE = {
    "saved_model.pbtxt": "is another form of the program, which would be loaded if the first were missing",
    "saved_model.cpb": "is a program in pieces, for models over 2 GiB; save it with variables, not with constants",
    "assets.extra/": "holds what TensorFlow Serving acts on (warm-up, settings); the contract says how it is served",
    "model.tflite": "is a program for another runtime",
    "batching_params.pbtxt": "is a setting of the server; write `batch` in the contract",
}
_DIRECTORY_NAMES = frozenset(f"{name}/" for name in DIRECTORIES)


@dataclass(frozen=True)
class SavedModelOrder:
    """Which SavedModel to pack with which contract, and where to."""

    directory: Path
    contract: Path
    delivery: Delivery
    model_name: str | None = None
    version: str | None = None


def pack_saved_model(
    order: SavedModelOrder, examine: Examine, sign: Sign | None = None, *, limits: Limits
) -> tuple[Path, tuple[str, ...]]:
    """Pack a SavedModel; return the directory or `.mar` that was written, and a sentence for what was left behind.

    Raises:
        ConfigError: a file is missing, or an option or the SavedModel contradicts the contract.
        ArtifactRefused: a file must not go in, or the SavedModel must not be loaded.
        Undecided: an examination could not be completed.
    """
    check_saved_model(order.directory)
    contract = load_contract(order.contract)
    _check_contract(order, contract)
    check_source(order.contract)
    target = order.delivery.find_target(contract, (order.contract, order.directory))
    if target.parent.resolve().is_relative_to(order.directory.resolve()):
        raise ConfigError(f"{target}: lies in the SavedModel that is to be packed; give another --export-path")
    try:
        with order.delivery.stage() as name:
            staging = Path(name)
            packed, changes = _copy(order, staging / contract.model, limits)
            examine_packed(packed, limits, examine)
            if sign is not None:
                sign(packed)
            order.delivery.publish(packed, target, staging)
    except OSError as error:  # a full disk, a file that may not be read
        raise ConfigError(f"{error.filename or target}: cannot be packed ({error.strerror})") from error
    return target, changes


def check_saved_model(path: Path) -> None:
    """Check that a path is the directory of a SavedModel, and say what to give instead.

    Raises:
        ArtifactRefused: it is a Keras file, which may hold code.
        ConfigError: it is something else, or nothing.
    """
    if path.is_file() and _is_keras(path):
        advice = (
            "load it where nothing can be harmed, if you trust its author, and write a SavedModel: "
            'keras.saving.load_model(FILE).export("DIR")'
        )
        raise ArtifactRefused("keras_file", PUBLIC_MESSAGE, f"{path}: a Keras file, which may hold code; {advice}")
    if not path.is_dir():
        raise ConfigError(f"{path}: no such directory; give that of a SavedModel, with {PROGRAM_FILE} in it")
    if (path / PROGRAM_FILE).is_file():
        return
    versions = sorted(one.name for one in path.iterdir() if one.name.isdigit() and (one / PROGRAM_FILE).is_file())
    if versions:
        newest = path / max(versions, key=int)
        raise ConfigError(f"{path}: holds versions of a model, {', '.join(versions[:10])}; give one, such as {newest}")
    if (path / "saved_model.pbtxt").exists():
        raise ConfigError(f"{path}: only {PROGRAM_FILE} is served, not saved_model.pbtxt; save the model in that form")
    raise ConfigError(f"{path}: holds no {PROGRAM_FILE}; give the directory of a SavedModel")


def _is_keras(path: Path) -> bool:
    return path.suffix.lower() in KERAS_SUFFIXES or read_file(path, len(HDF5_BEGINS)) == HDF5_BEGINS


def _check_contract(order: SavedModelOrder, contract: Contract) -> None:
    if contract.server != TFSERVING:
        advice = f"write a contract with task: {TENSORFLOW} and signatures; {DRAFT_ADVICE}"
        raise ConfigError(f"{order.contract}: task: {contract.task} is not a SavedModel's; {advice}")
    if problems := find_contradictions(contract, order.contract, order.model_name, order.version):
        raise ConfigError(*problems)


def _copy(order: SavedModelOrder, target: Path, limits: Limits) -> tuple[Path, tuple[str, ...]]:
    """Copy contract and parts to a new directory; return it, and what was left behind."""
    with open_directory(order.directory.resolve()) as opened:
        entries = list_entries(opened, limits.max_files + len(INNER_DIRECTORIES))
        changes = _leave_behind(entries, order)
        names = [entry.name for entry in entries if is_part(entry.name) and entry.name not in _DIRECTORY_NAMES]
        copy_members(opened, names, target, limits.max_bytes)
    copy_sources({CONTRACT_FILE: order.contract}, target, limits.max_bytes)
    even_modes(target)
    return target, changes


def _leave_behind(entries: Sequence[Entry], order: SavedModelOrder) -> tuple[str, ...]:
    """Return a sentence for each file that does not go in.

    Raises:
        ArtifactRefused: there is one that cannot be left behind without anybody's knowing why it was there.
    """
    changes = []
    for name in (entry.name for entry in entries):
        if is_part(name) or name in _DIRECTORY_NAMES:
            continue
        if name not in LEFT_BEHIND:
            detail = f"{show_name(name)}: {ADVICE.get(name, 'is no part of a SavedModel')}; leave it out"
            raise ArtifactRefused("unexpected_file", PUBLIC_MESSAGE, detail)
        if name != CONTRACT_FILE or not order.contract.samefile(order.directory / name):
            changes.append(f"{name} was left behind: {LEFT_BEHIND[name]}")
    return tuple(changes)
