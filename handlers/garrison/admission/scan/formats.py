"""Say what a file is by its contents, and check it as that: an open file and its name enter, findings leave.

    weights      safetensors, TorchScript, torch's state dicts (zip or older), torch.export programs, ONNX, .npy, .npz
    containers   zip (.mar), whose members are examined in turn, to a bounded depth
    texts        UTF-8: labels, vocabularies, JSON, YAML, source code (which `vet` judges)

Nothing else is accepted. A name never makes a file safe; but a file must be what its name says, because loaders choose
by the name.
"""

import codecs
import json
import re
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import BinaryIO

from garrison.admission.findings import Finding
from garrison.admission.scan.hidden import (
    START_BYTES,
    find_pickle,
    find_pickle_at_start,
    find_zip_end,
    name_archive,
    name_program,
)
from garrison.admission.scan.onnx_file import check_onnx, looks_like_onnx
from garrison.admission.scan.pickles import MAX_PICKLE_BYTES, STATE_GLOBALS, check_pickles
from garrison.admission.scan.tensors import check_npy, check_safetensors, looks_like_npy, looks_like_safetensors
from garrison.admission.scan.torch_archive import (
    LEGACY_MAGIC,
    MAX_RECORDS,
    Collect,
    check_legacy,
    check_records,
    find_records,
    kind_of,
)
from garrison.admission.settings import Limits
from garrison.admission.zips import StrictZip, open_zip
from garrison.errors import ArtifactRefused

MAX_DEPTH = 4  # a zip in a zip ...: an archive, its weights, their sample inputs, and one more
MAX_JSON_BYTES = 64 * 2**20
CHUNK_BYTES = 2**20
ACCEPTED = "safetensors, TorchScript, a state dict by torch.save, torch.export, ONNX, .npy or .npz"
# What a file of this name must be; other names may be anything that is accepted.
_KINDS = {
    ".pt": {"script", "state", "legacy state"},
    ".pth": {"script", "state", "legacy state"},
    ".bin": {"script", "state", "legacy state"},
    ".ckpt": {"state", "legacy state"},
    ".pt2": {"exported"},
    ".safetensors": {"safetensors"},
    ".onnx": {"onnx"},
    ".npy": {"npy"},
    ".npz": {"npz"},
    ".mar": {"container"},
    ".zip": {"container"},
    **{suffix: {"text"} for suffix in (".json", ".txt", ".yaml", ".yml", ".py", ".md", ".csv", ".tsv", ".vocab")},
}
_NEVER = {".pkl", ".pickle", ".joblib", ".h5", ".hdf5", ".keras", ".pb", ".gguf", ".ggml", ".dill", ".pmml", ".marshal",
          ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar", ".war", ".jar", ".whl", ".egg",
          ".so", ".dll", ".exe", ".dylib", ".pyc", ".pyo", ".pyd"}  # fmt: skip
_KERAS_SUFFIXES = (".h5", ".hdf5", ".keras")
_KERAS = (
    "layers of Keras can be code that runs when it is loaded: load it where you trust it, export it with "
    "model.export(DIRECTORY), and give the SavedModel's directory"
)
_OTHERS = f"give {ACCEPTED}, the directory of a SavedModel, and other files as UTF-8 text"
_CONTROLS = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]")
Progress = Callable[[str, int], None]


class Examiner:
    """Examine one file and all that is in it.

    `progress` is told each file's name and size before it is read; `collect` is given the pickles of torch's files.
    """

    def __init__(self, limits: Limits, collect: Collect, progress: Progress | None = None) -> None:
        self._limits = limits
        self._collect = collect
        self._progress = progress

    def examine(self, file: BinaryIO, name: str, depth: int = 0) -> list[Finding]:
        """Return what speaks against an open file."""
        size = file.seek(0, 2)
        if self._progress is not None:
            self._progress(name, size)
        if depth > MAX_DEPTH:
            return [Finding(name, "not_scannable", f"nested more than {MAX_DEPTH} deep; pack it flat")]
        try:
            kind, findings = self._identify(file, size, name, depth)
        except ArtifactRefused as refused:
            return [Finding(name, refused.reason, refused.detail)]
        return findings or list(_check_name(name, kind))

    def _identify(self, file: BinaryIO, size: int, name: str, depth: int) -> tuple[str, list[Finding]]:
        """Return what a file is, and what speaks against it."""
        file.seek(0)
        start = file.read(START_BYTES)
        if start.startswith((b"PK\3\4", b"PK\5\6")):
            with open_zip(file, self._limits, MAX_RECORDS) as archive:
                return self._examine_zip(archive, name, depth)
        if what := name_program(start):
            return "program", [Finding(name, "unexpected_code", f"it is {what}; models are data and Python source")]
        if _is_text(file):
            return "text", list(_check_text(file, size, start, name))
        if what := name_archive(start):
            return what, [_not_accepted(name, f"it is {what}")]
        kind, findings = self._identify_weights(file, size, start, name)
        return kind, findings or list(_check_whole(file, size, name))

    def _examine_zip(self, archive: StrictZip, name: str, depth: int) -> tuple[str, list[Finding]]:
        records = find_records(archive, name, self._collect)
        if records is not None:
            return kind_of(records), check_records(records)
        findings: list[Finding] = []
        members = [member for member in archive.members() if not member.is_directory]
        if len(members) > self._limits.max_files:
            return "container", [Finding(name, "too_many_files", f"{len(members)}; at most {self._limits.max_files}")]
        for member in members:
            with archive.open(member.name) as file:
                findings.extend(self.examine(file, f"{name} > {member.name}", depth + 1))
        arrays = bool(members) and all(member.name.endswith(".npy") for member in members)
        return "npz" if arrays else "container", findings

    def _identify_weights(self, file: BinaryIO, size: int, start: bytes, name: str) -> tuple[str, list[Finding]]:
        if looks_like_safetensors(start, size):
            return "safetensors", check_safetensors(file, size, name)
        if looks_like_npy(start):
            return "npy", check_npy(file, size, name)
        if start.startswith(LEGACY_MAGIC):
            return "legacy state", check_legacy(file, size, name, self._collect)
        pickled = list(_check_pickled(file, name))
        if not pickled and (looks_like_onnx(start) or PurePosixPath(name).suffix.lower() == ".onnx"):
            return "onnx", check_onnx(file, size, name)
        return "unknown", pickled or [_not_accepted(name, "it is of no format that is known")]


def _check_pickled(file: BinaryIO, name: str) -> Iterator[Finding]:
    """Refuse a bare pickle, and say what it would have called."""
    file.seek(0)
    data = file.read(MAX_PICKLE_BYTES)
    if find_pickle_at_start(data) is not None:
        yield from (one for one in check_pickles(data, name, STATE_GLOBALS) if one.rule == "forbidden_global")
        yield _not_accepted(name, "it is a pickle")


def _check_text(file: BinaryIO, size: int, start: bytes, name: str) -> Iterator[Finding]:
    if start.startswith(b"#!") and not name.endswith(".py"):
        yield Finding(name, "unexpected_code", "it is a script; models are data and Python source")
    if start.startswith((b"%PDF", b"%!PS")):
        yield _not_accepted(name, "it is a PDF or PostScript document")
    yield from _check_pickled(file, name)
    if name.endswith(".json") and not _is_json(file, size):
        yield Finding(name, "bad_text", "it is no JSON; write it again")
    yield from _check_whole(file, size, name)


def _check_whole(file: BinaryIO, size: int, name: str) -> Iterator[Finding]:
    """Look through a whole file that is no zip for what else somebody could read it as."""
    if hidden := find_pickle(file):
        yield Finding(name, "hidden_pickle", f"{hidden}; leave it out")
    if find_zip_end(file, size):
        yield Finding(name, "polyglot", "it is also a zip; write it again")


def _check_name(name: str, kind: str) -> Iterator[Finding]:
    """Compare what a file is with what its name makes a loader believe."""
    last = PurePosixPath(name.rpartition(" > ")[2])
    suffix = last.suffix.lower()
    if suffix in _NEVER:
        yield _not_accepted(name, f"{suffix} is not accepted")
    elif kind not in _KINDS.get(suffix, {kind}):
        yield _not_accepted(name, f"its contents are {kind}, not what {suffix} says")


def _is_text(file: BinaryIO) -> bool:
    """Say whether a file is UTF-8 without control characters, reading it in pieces."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    file.seek(0)
    try:
        while chunk := file.read(CHUNK_BYTES):
            if _CONTROLS.search(chunk):
                return False
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _is_json(file: BinaryIO, size: int) -> bool:
    file.seek(0)
    try:
        json.loads(file.read(MAX_JSON_BYTES)) if size <= MAX_JSON_BYTES else _too_large()
    except (ValueError, RecursionError):
        return False
    return True


def _too_large() -> None:
    raise ValueError("larger than any table of labels")


def _not_accepted(name: str, what: str) -> Finding:
    advice = _KERAS if PurePosixPath(name.rpartition(" > ")[2]).suffix.lower() in _KERAS_SUFFIXES else _OTHERS
    return Finding(name, "weight_format", f"{what}; {advice}")
