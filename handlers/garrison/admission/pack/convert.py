"""Turn a stock archive into what `garrison pack` takes: a `.mar` enters, an author's files and a contract leave.

Nothing of the archive is run or loaded. What it asks of the server that no model gets is refused; what Garrison has its
own of (handler, manifest, settings) is replaced; what the archive does not say and a model needs, a person has to say.
Every change is told in a sentence.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from garrison.admission.findings import Finding, describe_finding, refuse_if_found
from garrison.admission.pack.drafts import STOCK_VOCABULARY, choose_numbers, draft_contract, explain_missing
from garrison.admission.pack.labels import ADVICE as LABELS_ADVICE
from garrison.admission.pack.labels import STOCK_LABELS, convert_labels, render_labels
from garrison.admission.pack.packing import STOCK_HANDLERS, PackOrder
from garrison.admission.pack.shapes import count_classes
from garrison.admission.rules.manifest import check_manifest, parse_manifest
from garrison.admission.rules.names import CODE, REQUIREMENTS
from garrison.admission.rules.server_settings import ServerSettings, check_server_settings, read_server_settings
from garrison.admission.settings import Limits
from garrison.admission.unpack import copy_model, unpack_archive
from garrison.archive import CONTRACT_FILE, HANDLER_FILE, HANDLERS, MANIFEST_FILE, MODEL_CONFIG_FILE, MODEL_FILE
from garrison.contract import MODEL_NAME, load_contract
from garrison.errors import ArtifactRefused, ConfigError
from garrison.files import read_file
from garrison.record import RECORD_FILE, SIGNATURE_FILE
from garrison.settings import MAX_FILE_BYTES

PUBLIC_MESSAGE = "The archive cannot be converted."
VERSION = r"[0-9]{1,6}(\.[0-9]{1,6}){0,2}"
DRAFTED_TASKS = ("image-classification", "image-segmentation")
MAX_LABELS_FILE_BYTES = 16 * 2**20
HANDLER_ADVICE = (
    "derive one class from SafeHandler (docs/howto.md#custom-handlers), write a contract with task: custom, and give "
    "both with --handler FILE.py and --contract"
)


@dataclass(frozen=True)
class Given:
    """What the person gives besides the archive; it goes before what the archive says."""

    contract: Path | None = None
    extra_files: tuple[Path, ...] = ()
    model_file: Path | None = None
    handler: str | None = None
    model_name: str | None = None
    version: str | None = None


@dataclass(frozen=True)
class Conversion:
    """The sources that an archive became, in the staging directory, and what was changed on the way."""

    contract: Path
    serialized_file: Path
    extra_files: tuple[Path, ...]
    model_file: Path | None
    handler: str | None
    changes: tuple[str, ...]

    def order(self, export_path: Path, archive_format: str = "no-archive", *, force: bool = False) -> PackOrder:
        """Return the order to pack them; the staging directory has to last until that is done."""
        return PackOrder(
            contract=self.contract,
            serialized_file=self.serialized_file,
            extra_files=self.extra_files,
            export_path=export_path,
            archive_format=archive_format,
            force=force,
            model_file=self.model_file,
            handler=self.handler,
        )


def convert_archive(source: Path, staging: Path, limits: Limits, given: Given | None = None) -> Conversion:
    """Turn a stock `.mar`, or its unpacked directory, into sources below `staging`, which is private.

    Raises:
        ArtifactRefused: the archive asks for what no model gets, or is not what it says.
        ConfigError: something is not in the archive and has to be written; with what and where.
    """
    unpacked = staging / "unpacked"
    if source.is_dir():
        copy_model(source, unpacked, limits, foreign=True)
    else:
        unpack_archive(source, unpacked, limits)
    return _Converter(unpacked, staging, limits, given or Given(), source.stem).convert()


class _Converter:
    """One conversion: the parts of the archive, and the changes so far."""

    def __init__(self, unpacked: Path, staging: Path, limits: Limits, given: Given, stem: str) -> None:
        self._unpacked, self._staging, self._limits, self._given = unpacked, staging, limits, given
        self._files = {path.name for path in unpacked.iterdir() if path.is_file()}
        self._changes: list[str] = []
        self._model = self._read_manifest(stem)
        self._settings = self._read_settings()

    def convert(self) -> Conversion:
        weights = self._find_weights()
        handler = self._find_handler()
        model_file = self._find_model_file()
        contract = self._find_contract(weights)
        extra = self._find_extra_files(contract)
        return Conversion(contract, weights, extra, model_file, handler, tuple(self._changes))

    def _read_manifest(self, stem: str) -> dict[str, Any]:
        """Check the manifest with the settings that it names, and return its `model`."""
        if not (self._unpacked / MANIFEST_FILE).is_file():
            advice = "make it with torch-model-archiver, or pack its files with --serialized-file and --contract"
            raise ArtifactRefused("no_manifest", PUBLIC_MESSAGE, f"{MANIFEST_FILE}: missing; {advice}")
        manifest = self._read(MANIFEST_FILE)
        findings = check_manifest(manifest, b"")
        refuse_if_found(findings, PUBLIC_MESSAGE)
        return {"modelName": stem, **parse_manifest(manifest)["model"]}

    def _read_settings(self) -> ServerSettings:
        """Take the numbers of model-config.yaml, and say what of it is left behind."""
        name = self._model.get("configFile")
        if name is None:
            return ServerSettings()
        self._need(name, "configFile")
        config = self._read(name)
        findings = check_server_settings(config, name)
        refuse_if_found(findings, PUBLIC_MESSAGE)
        self._changes.extend(_leave_behind(finding) for finding in findings)
        self._changes.append(f"{name} is written anew from the contract")
        return read_server_settings(config, name)

    def _find_weights(self) -> Path:
        name: str | None = self._model.get("serializedFile")
        if name is None:
            advice = "pack them with --serialized-file"
            raise ConfigError(f"{MANIFEST_FILE}: model.serializedFile: missing, so there are no weights; {advice}")
        self._need(name, "serializedFile")
        return self._unpacked / name

    def _find_handler(self) -> str | None:
        """Replace stock's handler by ours; a person's own has to be given anew."""
        name = self._model["handler"]
        if self._given.handler is not None:
            self._changes.append(f"handler {name} became {self._given.handler}")
            return self._given.handler
        if name in HANDLERS.values():  # packed by Garrison before
            return str(self._unpacked / HANDLER_FILE) if name == HANDLERS["custom"] else None
        if name in self._files or f"{name}.py" in self._files:  # also if it is named like a handler of stock's
            detail = f"{name}: a handler of stock's kind checks no input; {HANDLER_ADVICE}"
            raise ArtifactRefused("custom_handler", PUBLIC_MESSAGE, detail)
        if name in STOCK_HANDLERS.values():
            self._changes.append(f"handler {name} became {HANDLERS[_find_task(name)]}")
            return None
        if self._given.contract is None:
            raise ConfigError(
                f"handler {name}: Garrison has no counterpart; write a contract with task: tensor or custom"
            )
        self._changes.append(f"handler {name} became the one of the contract's task")
        return None

    def _find_model_file(self) -> Path | None:
        if self._given.model_file is not None:
            return self._given.model_file
        name: str | None = self._model.get("modelFile")
        if name is None:
            return None
        self._need(name, "modelFile")
        if name != MODEL_FILE:
            self._changes.append(f"{name} became {MODEL_FILE}")
        return self._unpacked / name

    def _find_contract(self, weights: Path) -> Path:
        if self._given.contract is not None:
            self._fit_labels(self._given.contract, weights)
            return self._given.contract
        if CONTRACT_FILE in self._files:  # packed by Garrison before
            return self._unpacked / CONTRACT_FILE
        stock = self._model["handler"]
        task = _find_task(stock) if stock in STOCK_HANDLERS.values() else ""
        if task not in DRAFTED_TASKS:
            raise ConfigError(explain_missing(stock, task, self._files))
        labels = self._convert_labels(weights, required=task == "image-classification")
        numbers, changes = choose_numbers(self._settings, self._limits)
        text = draft_contract(stock, task, self._name_model(), self._number_version(), labels, numbers)
        self._changes.extend(changes)
        self._changes.append(
            f"wrote {CONTRACT_FILE}: JPEG and PNG up to 8 MiB and 25,000,000 pixels, scaled and normalised as stock; "
            f"{numbers.count} worker(s), batches of {numbers.max_items}, a queue of {numbers.queue}, "
            f"{numbers.timeout_s} s; read it, and give your own with --contract"
        )
        path = self._staging / CONTRACT_FILE
        path.write_text(text)
        load_contract(path)
        return path

    def _name_model(self) -> str:
        name = str(self._given.model_name or self._model["modelName"])
        fit = re.sub(r"[^A-Za-z0-9_-]", "-", name).lstrip("-_")[:64]
        if re.fullmatch(MODEL_NAME, fit) is None:
            raise ConfigError(f"model name {name!r}: give one of letters, digits, - and _ with --model-name")
        if fit != name:
            self._changes.append(f"model name {name!r} became {fit!r}: clients ask /predictions/{fit}")
        return fit

    def _number_version(self) -> str:
        version = str(self._given.version or self._model.get("modelVersion", "1"))
        found = re.search(VERSION, version)
        fit = found[0] if found else "1"
        if fit != version:
            self._changes.append(f"version {version!r} became {fit!r}: versions are compared, so they are numbers")
        return fit

    def _convert_labels(self, weights: Path, *, required: bool) -> str:
        """Leave a labels file for the contract in the staging directory; return its name, or nothing."""
        given = [path for path in self._given.extra_files if path.name == STOCK_LABELS]
        if given or STOCK_LABELS in self._files:
            return self._take_labels(given[0] if given else self._unpacked / STOCK_LABELS, weights)
        if not required:
            return ""
        classes = count_classes(weights, self._limits)
        if classes is None:
            raise ConfigError(
                f"{STOCK_LABELS}: not in the archive, and {weights.name} does not show how many classes there are; "
                f"{LABELS_ADVICE}"
            )
        (self._staging / STOCK_LABELS).write_bytes(render_labels(tuple(str(index) for index in range(classes))))
        self._changes.append(
            f"wrote {STOCK_LABELS}: classes are answered by number, as stock does without it; there are {classes}, as "
            f"the last layer of {weights.name} shows. If the server says otherwise, {LABELS_ADVICE}"
        )
        return STOCK_LABELS

    def _fit_labels(self, contract: Path, weights: Path) -> None:
        """Convert the archive's labels, if a contract that was given names them and no others were given."""
        given = (contract.parent / STOCK_LABELS, *self._given.extra_files)
        if load_contract(contract).outputs.labels != STOCK_LABELS or STOCK_LABELS not in self._files:
            return
        if not any(path.name == STOCK_LABELS and path.exists() for path in given):
            self._take_labels(self._unpacked / STOCK_LABELS, weights)

    def _take_labels(self, path: Path, weights: Path) -> str:
        try:
            names, changes = convert_labels(read_file(path, MAX_LABELS_FILE_BYTES + 1))
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
        (self._staging / STOCK_LABELS).write_bytes(render_labels(names))
        self._changes.extend(changes)
        classes = count_classes(weights, self._limits)
        if classes not in (None, len(names)):
            self._changes.append(
                f"{STOCK_LABELS} has {len(names)} names, {weights.name} seems to have {classes} classes"
            )
        return STOCK_LABELS

    def _find_extra_files(self, contract: Path) -> tuple[Path, ...]:
        """Take along the archive's other data; one that was given, or lies beside the contract, is better."""
        drafted = self._staging / STOCK_LABELS
        chosen = {path.name: path for path in (*self._given.extra_files, *([drafted] if drafted.is_file() else []))}
        used = {self._model.get(key) for key in ("serializedFile", "modelFile", "configFile")}
        used |= {CONTRACT_FILE, MODEL_CONFIG_FILE, SIGNATURE_FILE, RECORD_FILE}
        used |= {HANDLER_FILE} if self._model["handler"] == HANDLERS["custom"] else set()
        if SIGNATURE_FILE in self._files:
            self._changes.append(f"{SIGNATURE_FILE} was left behind: sign again, with --sign-key")
        for name in sorted(self._files - used - chosen.keys()):
            if self._stays(name) and not (self._given.contract and (self._given.contract.parent / name).exists()):
                chosen[name] = self._unpacked / name
        return tuple(chosen.values())

    def _stays(self, name: str) -> bool:
        """Say whether one of the archive's further files goes along; code among them refuses the archive."""
        if name in (self._model["handler"], f"{self._model['handler']}.py"):  # replaced by one that was given
            return False
        if name.lower().endswith(CODE):
            detail = f"{name}: is code; one file holds all of a handler's code, and one the network's"
            raise ArtifactRefused("unexpected_code", PUBLIC_MESSAGE, detail)
        if name == STOCK_VOCABULARY or REQUIREMENTS.fullmatch(name.casefold()):
            self._changes.append(f"{name} was left behind")
            return False
        return True

    def _need(self, name: str, key: str) -> None:
        if name not in self._files:
            detail = f"model.{key} names {name}, which is not in the archive; make the archive anew"
            raise ArtifactRefused("missing_member", PUBLIC_MESSAGE, f"{MANIFEST_FILE}: {detail}")

    def _read(self, name: str) -> bytes:
        try:
            return read_file(self._unpacked / name, MAX_FILE_BYTES + 1)
        except OSError as error:
            raise ConfigError(f"{name}: cannot be read ({error.strerror})") from error


def _find_task(stock: str) -> str:
    return next(task for task, name in STOCK_HANDLERS.items() if name == stock)


def _leave_behind(finding: Finding) -> str:
    return f"left behind: {describe_finding(finding)}"
