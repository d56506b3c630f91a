"""Pack a model: a contract and its files enter, a directory or archive that TorchServe serves leaves.

A wrapper of torch-model-archiver, which copies and archives. What it cannot express is written over its result: the
manifest with our handler's dotted name, and the server settings taken from the contract. The result is opened again
the way the server opens it, before it gets its final name.

It does not look inside the weights or the code; scanning, vetting and signing will.
"""

import importlib.util
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from garrison.archive import (
    CONTRACT_FILE,
    HANDLER_FILE,
    MANIFEST_FILE,
    MODEL_CONFIG_FILE,
    MODEL_FILE,
    WEIGHT_SUFFIXES,
    check_weights_form,
    named_files,
    open_packed_model,
    render_manifest,
    render_model_config,
)
from garrison.contract import FILE_NAME, Contract, load_contract
from garrison.errors import ArtifactRefused, ConfigError, Undecided

ARCHIVER = "model_archiver.model_packaging"
ARCHIVER_TIMEOUT_S = 600
STOCK_HANDLERS = {
    "image-classification": "image_classifier",
    "object-detection": "object_detector",
    "image-segmentation": "image_segmenter",
    "text-classification": "text_classifier",
}
PLACEHOLDER_HANDLER = "image_classifier"  # the archiver wants one; the manifest is written over with ours
CODE_SUFFIXES = (".py", ".pyc", ".pyo", ".so")


@dataclass(frozen=True)
class PackOrder:
    """What to pack, in torch-model-archiver's own terms plus the contract."""

    contract: Path
    serialized_file: Path
    extra_files: tuple[Path, ...]
    export_path: Path
    archive_format: str = "no-archive"
    model_name: str | None = None
    version: str | None = None
    force: bool = False
    model_file: Path | None = None
    handler: str | None = None


def pack_model(order: PackOrder) -> Path:
    """Pack a model and return the directory or `.mar` file that was written.

    Raises:
        ConfigError: a file is missing, or an option contradicts the contract.
        ArtifactRefused: a file must not go into an archive.
    """
    contract = load_contract(order.contract)
    _check_agreement(order, contract)
    target = _target(order, contract)
    members = _collect_members(order, contract)
    try:
        with _staging(order.export_path) as staging:
            packed = _archive(contract, order, members, Path(staging))
            open_packed_model(packed)
            _publish(packed, target, Path(staging), order)
    except OSError as error:  # a full disk, a file that may not be read
        raise ConfigError(f"{error.filename or target}: cannot be packed ({error.strerror})") from error
    return target


def _check_agreement(order: PackOrder, contract: Contract) -> None:
    given = {"--model-name": (order.model_name, contract.model), "--version": (order.version, contract.version)}
    problems = [
        f"{option} {value} contradicts {order.contract}, which says {said}; leave the option out or change the contract"
        for option, (value, said) in given.items()
        if value is not None and value != said
    ]
    problems.extend(_check_handler(order, contract))
    if not problems:
        problems.extend(check_weights_form(order.serialized_file.name, contract, eager=order.model_file is not None))
    if problems:
        raise ConfigError(*problems)


def _check_handler(order: PackOrder, contract: Contract) -> list[str]:
    """Say what is wrong with --handler: a file for `custom`, at most the stock handler's name for other tasks."""
    given, stock = order.handler, STOCK_HANDLERS.get(contract.task)
    if contract.task == "custom":
        if given is None or not given.endswith(".py"):
            return ["task custom needs --handler FILE.py, which defines one class derived from SafeHandler"]
        return []
    if given is None or (stock is not None and given == stock):
        return []
    accepted = f"leave the option out, or write {stock}" if stock else "leave the option out"
    advice = f"{accepted}; a handler of your own needs task: custom in the contract"
    return [f"--handler {given}: task {contract.task} has Garrison's own handler; {advice}"]


def _collect_members(order: PackOrder, contract: Contract) -> dict[str, Path]:
    """Return archive name → file, refusing what is no plain file or has an unsafe or repeated name."""
    if order.serialized_file.suffix not in WEIGHT_SUFFIXES:
        advice = f"give a {' or '.join(WEIGHT_SUFFIXES)} file"
        raise ArtifactRefused(
            "weight_format", "The weights' format is not accepted.", f"{order.serialized_file}: {advice}"
        )
    members = {CONTRACT_FILE: order.contract}
    if order.model_file is not None:
        members[MODEL_FILE] = order.model_file
    if contract.task == "custom" and order.handler is not None:
        members[HANDLER_FILE] = Path(order.handler)
    for path in [order.serialized_file, *order.extra_files, *_find_named(order, contract)]:
        if path.suffix.lower() in CODE_SUFFIXES:
            advice = "code goes in through --handler and --model-file only"
            raise ArtifactRefused("unexpected_code", "A file is code.", f"{path}: {advice}")
        if path.name.casefold() in {name.casefold() for name in (*members, MODEL_CONFIG_FILE, "MAR-INF")}:
            raise ArtifactRefused(
                "repeated_name", "Two files have the same name.", f"{path}: the name is taken; rename it"
            )
        members[path.name] = path
    for path in members.values():
        _check_member(path)
    return members


def _find_named(order: PackOrder, contract: Contract) -> list[Path]:
    """Return the files that the contract names and that were not given: they lie beside it."""
    given = {path.name for path in order.extra_files}
    return [order.contract.parent / name for name in named_files(contract) if name not in given]


def _check_member(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    if not stat.S_ISREG(mode):
        raise ArtifactRefused("not_a_file", "Only plain files can be packed.", f"{path}: a link, directory or device")
    if not re.fullmatch(FILE_NAME, path.name):
        advice = "use letters, digits, . _ and -, beginning with a letter or digit"
        raise ArtifactRefused("unsafe_name", "A file's name is not accepted.", f"{path}: {advice}")


def _target(order: PackOrder, contract: Contract) -> Path:
    suffix = "" if order.archive_format == "no-archive" else ".mar"
    target = order.export_path / f"{contract.model}{suffix}"
    if os.path.lexists(target) and not order.force:
        raise ConfigError(f"{target}: exists already; give --force to replace it, or another --export-path")
    inputs = (order.contract, order.serialized_file, *order.extra_files)
    if any(path.resolve().is_relative_to(target.resolve()) for path in inputs):
        raise ConfigError(f"{target}: holds a file that is to be packed; give another --export-path")
    if target.is_dir() and not target.is_symlink() and not (target / MANIFEST_FILE).is_file():
        raise ConfigError(f"{target}: is no packed model, and is not replaced; give another --export-path")
    return target


def _staging(export_path: Path) -> "tempfile.TemporaryDirectory[str]":
    try:
        export_path.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix=".garrison-pack-", dir=export_path.resolve())
    except OSError as error:
        raise ConfigError(f"{export_path}: cannot be written ({error.strerror}); give another --export-path") from error


def _archive(contract: Contract, order: PackOrder, members: dict[str, Path], staging: Path) -> Path:
    """Copy the members under their archive names, let torch-model-archiver lay them out, write our two files over."""
    source, output = staging / "source", staging / "output"
    source.mkdir()
    output.mkdir()
    for name, path in members.items():
        shutil.copyfile(path, source / name, follow_symlinks=False)
    (source / MODEL_CONFIG_FILE).write_text(render_model_config(contract))
    extra = [
        name for name in (*members, MODEL_CONFIG_FILE) if name not in (order.serialized_file.name, MODEL_CONFIG_FILE)
    ]
    _run_archiver(
        [
            *("--model-name", contract.model, "--version", contract.version),
            *("--handler", PLACEHOLDER_HANDLER),
            *("--serialized-file", order.serialized_file.name),
            *("--extra-files", ",".join(extra)),  # names only: a comma or * in a directory's name would be taken apart
            *("--config-file", MODEL_CONFIG_FILE),
            *("--export-path", str(output), "--archive-format", "no-archive"),
        ],
        source,
        staging / "archiver",
    )
    packed = output / contract.model
    manifest = render_manifest(contract, order.serialized_file.name, eager=order.model_file is not None)
    (packed / MANIFEST_FILE).write_text(manifest)
    return packed


def _run_archiver(arguments: Sequence[str], cwd: Path, scratch: Path) -> None:
    if importlib.util.find_spec("model_archiver") is None:
        raise ConfigError("torch-model-archiver is not installed; install it with: pip install 'garrison[admission]'")
    # Its temporary directory has a name that anyone can guess, and it empties that first: give it a private one.
    scratch.mkdir()
    environment = {"PATH": "/usr/bin:/bin", "TMPDIR": str(scratch), "LANG": "C.UTF-8"}
    command = [sys.executable, "-I", "-m", ARCHIVER, *arguments]
    try:
        result = subprocess.run(  # noqa: S603 - our own interpreter, and arguments that were checked above
            command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=ARCHIVER_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Undecided(f"torch-model-archiver took longer than {ARCHIVER_TIMEOUT_S} s; try again") from error
    if result.returncode != 0:
        last_line = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise ConfigError(f"torch-model-archiver failed: {last_line}")


def _publish(packed: Path, target: Path, staging: Path, order: PackOrder) -> None:
    """Give the result its final name; what it replaces is moved aside first, so no half is ever seen."""
    result = packed if order.archive_format == "no-archive" else _zip(packed, packed.with_suffix(".mar"))
    if os.path.lexists(target):
        target.rename(staging / "replaced")
    result.replace(target)


def _zip(directory: Path, target: Path) -> Path:
    """Write a `.mar` with sorted members and fixed times: the same inputs give the same bytes."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(path for path in directory.rglob("*") if path.is_file()):
            member = zipfile.ZipInfo(str(path.relative_to(directory)), date_time=(1980, 1, 1, 0, 0, 0))
            member.external_attr = 0o644 << 16
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, path.read_bytes())
    return target
