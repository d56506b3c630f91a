"""Pack a model: a contract and its files enter, a directory or archive that TorchServe serves leaves.

A wrapper of torch-model-archiver, which copies and archives. What it cannot express is written over its result: the
manifest with our handler's dotted name, and the server settings taken from the contract. `delivery` examines the result
and gives it its name.

The same inputs give the same bytes, whatever their times and modes and wherever they lie.
"""

import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from garrison.admission.findings import refuse_if_found
from garrison.admission.pack.delivery import (
    DIRECTORY_FORMAT,
    PUBLIC_MESSAGE,
    Delivery,
    Examine,
    Sign,
    even_modes,
    examine_packed,
    find_contradictions,
)
from garrison.admission.pack.sources import Sources, collect_members, copy_sources, expand_extra_files
from garrison.admission.rules.server_settings import check_server_settings, compare_server_settings
from garrison.admission.settings import Limits
from garrison.archive import (
    MANIFEST_FILE,
    MODEL_CONFIG_FILE,
    check_weights_form,
    render_manifest,
    render_model_config,
)
from garrison.contract import TFSERVING, Contract, load_contract
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
    profile: Path | None = None


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
    files = (order.contract, order.serialized_file, *expand_extra_files(order.extra_files))
    delivery = Delivery(order.export_path, order.archive_format, order.force)
    target = delivery.find_target(contract, files)
    members = collect_members(_sources(order, contract), contract)
    try:
        with delivery.stage() as staging:
            packed = _archive(contract, order, members, Path(staging), limits)
            examine_packed(packed, limits, examine)
            if sign is not None:
                sign(packed)
            delivery.publish(packed, target, Path(staging))
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


def _check_agreement(order: PackOrder, contract: Contract) -> None:
    if contract.server == TFSERVING:
        raise ConfigError(
            f"{order.contract}: task: {contract.task} is a SavedModel's; give its directory with --saved-model"
        )
    problems = find_contradictions(contract, order.contract, order.model_name, order.version)
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
    return Sources(order.contract, order.serialized_file, order.extra_files, order.model_file, handler, order.profile)


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
    even_modes(packed)
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
