"""Pack a model: a contract and its files enter, a directory or archive that TorchServe serves leaves.

A wrapper of torch-model-archiver, which copies and archives. What it cannot express is written over its result: the
manifest with our handler's dotted name, and the server settings taken from the contract. Before the result gets its
name it is examined the way admission will: the rules, the weights, the code; then it is opened as the server opens it.

The same inputs give the same bytes, whatever their times and modes and wherever they lie.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from garrison.admission.findings import Finding, refuse_if_found
from garrison.admission.pack.sources import Sources, collect_members, copy_sources, expand_extra_files
from garrison.admission.rules import check_bounds, check_directory
from garrison.admission.rules.server_settings import check_server_settings, compare_server_settings
from garrison.admission.settings import Limits
from garrison.archive import (
    CONTRACT_FILE,
    MANIFEST_FILE,
    MODEL_CONFIG_FILE,
    check_weights_form,
    open_packed_model,
    render_manifest,
    render_model_config,
)
from garrison.contract import Contract, load_contract
from garrison.errors import ArtifactRefused, ConfigError, Undecided
from garrison.files import read_file
from garrison.settings import MAX_FILE_BYTES

ARCHIVER = "model_archiver.model_packaging"
ARCHIVER_TIMEOUT_S = 600
STOCK_HANDLERS = {
    "image-classification": "image_classifier",
    "object-detection": "object_detector",
    "image-segmentation": "image_segmenter",
    "text-classification": "text_classifier",
}
PLACEHOLDER_HANDLER = "image_classifier"  # the archiver wants one; the manifest is written over with ours
DIRECTORY_FORMAT = "no-archive"
ARCHIVE_FORMATS = (DIRECTORY_FORMAT, "default", "zip-store")  # the last two give the same: weights hardly shrink
PUBLIC_MESSAGE = "The model cannot be packed."

Examine = Callable[[Path], list[Finding]]
Sign = Callable[[Path], None]


@dataclass(frozen=True)
class PackOrder:
    """What to pack, in torch-model-archiver's own terms plus the contract."""

    contract: Path
    serialized_file: Path
    extra_files: tuple[Path, ...]
    export_path: Path
    archive_format: str = DIRECTORY_FORMAT
    model_name: str | None = None
    version: str | None = None
    force: bool = False
    model_file: Path | None = None
    handler: str | None = None
    runtime: str = "python"
    requirements_file: Path | None = None
    config_file: Path | None = None


def pack_model(order: PackOrder, examine: Examine, sign: Sign | None = None, *, limits: Limits) -> Path:
    """Pack a model and return the directory or `.mar` file that was written.

    `examine` looks into the weights and the code of the packed directory, `sign` signs it; nothing gets its final name
    before both are done.

    Raises:
        ConfigError: a file is missing, or an option contradicts the contract.
        ArtifactRefused: a file must not go into an archive, or the archive must not be loaded.
        Undecided: an examination could not be completed.
    """
    _refuse_options(order)
    contract = load_contract(order.contract)
    _check_agreement(order, contract)
    target = _target(order, contract)
    members = collect_members(_sources(order, contract), contract)
    try:
        with _staging(order.export_path) as staging:
            packed = _archive(contract, order, members, Path(staging), limits)
            _examine(packed, limits, examine)
            if sign is not None:
                sign(packed)
            _publish(packed, target, Path(staging), order)
    except OSError as error:  # a full disk, a file that may not be read
        raise ConfigError(f"{error.filename or target}: cannot be packed ({error.strerror})") from error
    return target


def _refuse_options(order: PackOrder) -> None:
    """Refuse what the archiver can ask of a server and Garrison's server does not do."""
    if order.requirements_file is not None:
        advice = "no packages are installed for a model; install them in the image and leave the option out"
        detail = f"--requirements-file {order.requirements_file}: {advice}"
        raise ArtifactRefused("requirements_file", PUBLIC_MESSAGE, detail)
    if order.runtime != "python":
        detail = f"--runtime {order.runtime}: would be another interpreter than ours; leave the option out"
        raise ArtifactRefused("runtime", PUBLIC_MESSAGE, detail)
    if order.archive_format not in ARCHIVE_FORMATS:
        formats = " or ".join(ARCHIVE_FORMATS)
        raise ConfigError(f"--archive-format {order.archive_format}: nothing here serves it; write {formats}")


def _check_agreement(order: PackOrder, contract: Contract) -> None:
    given = {"--model-name": (order.model_name, contract.model), "--version": (order.version, contract.version)}
    problems = [
        f"{option} {value} contradicts {order.contract}, which says {said}; leave the option out or change the contract"
        for option, (value, said) in given.items()
        if value is not None and value != said
    ]
    problems.extend(_check_handler(order, contract))
    problems.extend(_check_config_file(order.config_file, contract))
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


def _check_config_file(path: Path | None, contract: Contract) -> list[str]:
    """Say where stock's model-config.yaml contradicts the contract.

    Raises:
        ArtifactRefused: it asks for what no model gets.
    """
    if path is None:
        return []
    try:
        config = read_file(path, MAX_FILE_BYTES + 1)
    except OSError as error:
        return [f"{path}: cannot be read ({error.strerror})"]
    refuse_if_found(check_server_settings(config, str(path)), PUBLIC_MESSAGE)
    return compare_server_settings(config, contract, str(path))


def _sources(order: PackOrder, contract: Contract) -> Sources:
    handler = Path(order.handler) if contract.task == "custom" and order.handler is not None else None
    return Sources(order.contract, order.serialized_file, order.extra_files, order.model_file, handler)


def _target(order: PackOrder, contract: Contract) -> Path:
    suffix = "" if order.archive_format == DIRECTORY_FORMAT else ".mar"
    target = order.export_path / f"{contract.model}{suffix}"
    if os.path.lexists(target) and not order.force:
        raise ConfigError(f"{target}: exists already; give --force to replace it, or another --export-path")
    inputs = (order.contract, order.serialized_file, *expand_extra_files(order.extra_files))
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


def _archive(contract: Contract, order: PackOrder, members: dict[str, Path], staging: Path, limits: Limits) -> Path:
    """Copy the members under their archive names, let torch-model-archiver lay them out, write our two files over."""
    source, output = staging / "source", staging / "output"
    source.mkdir()
    output.mkdir()
    copy_sources(members, source, limits.max_bytes)
    (source / MODEL_CONFIG_FILE).write_text(render_model_config(contract))
    extra = [name for name in members if name != order.serialized_file.name]
    _run_archiver(
        [
            *("--model-name", contract.model, "--version", contract.version),
            *("--handler", PLACEHOLDER_HANDLER),
            *("--serialized-file", order.serialized_file.name),
            *("--extra-files", ",".join(extra)),  # names only: a comma or * in a directory's name would be taken apart
            *("--config-file", MODEL_CONFIG_FILE),
            *("--export-path", str(output), "--archive-format", DIRECTORY_FORMAT),
        ],
        source,
        staging / "archiver",
    )
    packed = output / contract.model
    manifest = render_manifest(contract, order.serialized_file.name, eager=order.model_file is not None)
    (packed / MANIFEST_FILE).write_text(manifest)
    _even_modes(packed)
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


def _even_modes(packed: Path) -> None:
    """Give every file the same mode, whatever its source had and whatever the umask is."""
    for path in (packed, *packed.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _examine(packed: Path, limits: Limits, examine: Examine) -> None:
    refuse_if_found(check_directory(packed, limits), PUBLIC_MESSAGE)
    model = open_packed_model(packed)
    refuse_if_found([*check_bounds(model.contract, limits, CONTRACT_FILE), *examine(packed)], PUBLIC_MESSAGE)


def _publish(packed: Path, target: Path, staging: Path, order: PackOrder) -> None:
    """Give the result its final name; what it replaces is moved aside first, so no half is ever seen."""
    result = packed if order.archive_format == DIRECTORY_FORMAT else write_archive(packed, packed.with_suffix(".mar"))
    if os.path.lexists(target):
        target.rename(staging / "replaced")
    result.replace(target)


def write_archive(directory: Path, target: Path) -> Path:
    """Write a directory's files as a `.mar` whose bytes depend on theirs alone: sorted, stored, with fixed times.

    Stored, because another zlib would pack them into other bytes, and because weights hardly shrink.
    """
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, path in sorted((str(p.relative_to(directory)), p) for p in directory.rglob("*") if p.is_file()):
            member = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            member.external_attr = 0o644 << 16
            member.create_system = 3  # Unix, wherever this runs
            member.file_size = path.stat().st_size
            with path.open("rb") as source, archive.open(member, "w") as copy:
                shutil.copyfileobj(source, copy, 2**20)
    return target
