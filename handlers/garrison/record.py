"""What was admitted, byte for byte: the record of a model's files enters, their contents leave, or a refusal.

Admission writes a record beside an admitted model: the digest of every file, who signed them, when they were admitted
and with which tools. Whoever loads a file of the model later reads it once, compares its digest with the record and
uses those bytes; nothing that was swapped, cut or planted in between is ever used. The launcher hands a verified copy
of the record to the workers in a directory that only it can write, so that a record cannot be swapped either.

It does not say whose signature counts; `admission` does, and the launcher asks it again at every start.
"""

import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from garrison.errors import ArtifactRefused, ConfigError
from garrison.files import read_file

RECORD_FILE = "admission.json"
SIGNATURE_FILE = "model.sig"
MAX_RECORD_BYTES = 4 * 2**20
CHUNK_BYTES = 2**20
FORMAT = 1
DIGEST_SHOWN = 16  # characters of a digest in the name of a version's directory
MEMBER = re.compile(r"((MAR-INF|variables|assets)/)?[A-Za-z0-9][A-Za-z0-9._-]{0,127}")  # a packed model's files
_DIGEST = re.compile(r"[0-9a-f]{64}")


class ModelFiles(Protocol):
    """The files of one model, read by name. `place` names them to a person."""

    place: str

    def names(self) -> frozenset[str]:
        """Return the names of all files, relative to the model's directory."""
        ...

    def read(self, name: str) -> bytes:
        """Return a file's bytes; raises `ConfigError` where there is none, `ArtifactRefused` where it was changed."""
        ...


class PlainFiles:
    """The files of a directory as they are: for `garrison pack`, which wrote them a moment ago."""

    def __init__(self, directory: Path) -> None:
        self.place = str(directory)
        self._directory = directory

    def names(self) -> frozenset[str]:
        """Return the names of all plain files."""
        paths = (path for path in self._directory.rglob("*") if path.is_file() and not path.is_symlink())
        return frozenset(str(path.relative_to(self._directory)) for path in paths)

    def read(self, name: str) -> bytes:
        """Return a file's bytes.

        Raises:
            ConfigError: there is no such file, or it cannot be read.
        """
        path = self._directory / name
        try:
            return read_file(path, path.stat().st_size + 1)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read ({error.strerror}); pack the model again") from error


@dataclass(frozen=True)
class RecordedFile:
    """A file's size in bytes and its SHA-256 in hexadecimal."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Record:
    """What admission decided about one version of one model.

    `files` holds every file but the record and the signature; `digest` is theirs together (see `digest_files`);
    `signer` names the trusted key or identity; times are ISO 8601 in UTC; `findings` are the warnings that stayed.
    """

    model: str
    version: str
    digest: str
    files: Mapping[str, RecordedFile]
    signature_sha256: str
    signer: str
    admitted_at: str
    findings: tuple[Mapping[str, Any], ...]
    tools: Mapping[str, str]

    @property
    def directory_name(self) -> str:
        """The name of the version's directory in the store."""
        return f"{self.version}-{self.digest[:DIGEST_SHOWN]}"


class RecordedFiles:
    """The files of an admitted model: each is read once and compared with the record."""

    def __init__(self, directory: Path, record: Record) -> None:
        self.place = str(directory)
        self._directory = directory
        self._record = record

    def names(self) -> frozenset[str]:
        """Return the names of all recorded files."""
        return frozenset(self._record.files)

    def read(self, name: str) -> bytes:
        """Return a file's bytes, which are those that were admitted.

        Raises:
            ConfigError: the record does not list the file.
            ArtifactRefused: it is gone, is no plain file any more, or its bytes differ.
        """
        expected = self._record.files.get(name)
        if expected is None:
            raise ConfigError(f"{self.place}: {name} is no file of this model; pack the model again")
        try:
            data = _read_exactly(self._directory, name, expected.size)
        except OSError as error:
            raise _changed(self.place, name, error.strerror or "cannot be read") from error
        if len(data) != expected.size or hashlib.sha256(data).hexdigest() != expected.sha256:
            raise _changed(self.place, name, "its bytes are not those that were admitted")
        return data


def digest_files(files: Mapping[str, RecordedFile]) -> str:
    """Return one SHA-256 over the names, sizes and digests of all files."""
    rows = [[name, one.size, one.sha256] for name, one in sorted(files.items())]
    return hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()


def hash_file(directory: Path, name: str, progress: Callable[[int], None] = lambda _: None) -> RecordedFile:
    """Return a file's size and digest, read in chunks and without following a link; `progress` hears of each chunk.

    Raises:
        OSError: it cannot be opened, or is no plain file.
    """
    digest, size = hashlib.sha256(), 0
    for chunk in read_chunks(directory, name):
        digest.update(chunk)
        size += len(chunk)
        progress(len(chunk))
    return RecordedFile(size, digest.hexdigest())


def render_record(record: Record) -> bytes:
    """Return a record as it stands in the store."""
    values = {"garrison": FORMAT, **asdict(record)}
    values["files"] = {name: asdict(one) for name, one in sorted(record.files.items())}
    return (json.dumps(values, indent=2, sort_keys=True) + "\n").encode()


def read_record(path: Path) -> Record:
    """Read a record, and insist that its parts agree.

    Raises:
        ArtifactRefused: it is missing, is not what admission writes, or contradicts itself.
    """
    try:
        data = read_file(path, MAX_RECORD_BYTES + 1)
    except OSError as error:
        raise ArtifactRefused(
            "no_record", "The model was not admitted.", f"{path}: {error.strerror}; admit the model again"
        ) from error
    try:
        record = _parse_record(json.loads(data.decode()))
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise _bad_record(path, "is not what `garrison admit` writes") from error
    if data != render_record(record) or record.digest != digest_files(record.files):
        raise _bad_record(path, "contradicts itself")
    return record


def _parse_record(values: Any) -> Record:
    if values.pop("garrison") != FORMAT:
        raise ValueError("another format")
    files = {name: RecordedFile(**entry) for name, entry in values.pop("files").items()}
    for name, one in files.items():
        if not MEMBER.fullmatch(name) or type(one.size) is not int or one.size < 0 or not _DIGEST.fullmatch(one.sha256):
            raise ValueError(name)
    record = Record(files=files, **(values | {"findings": tuple(values["findings"])}))
    texts = (record.model, record.version, record.digest, record.signature_sha256, record.signer, record.admitted_at)
    if not all(isinstance(text, str) for text in texts) or datetime.fromisoformat(record.admitted_at).tzinfo is None:
        raise ValueError("texts")
    return record


def _read_exactly(directory: Path, name: str, size: int) -> bytes:
    data = bytearray()
    for chunk in read_chunks(directory, name):
        data += chunk
        if len(data) > size:
            break
    return bytes(data)


def read_chunks(directory: Path, name: str) -> Iterator[bytes]:
    """Read a plain file in chunks; no part of its path below the directory may be a link.

    Raises:
        OSError: it cannot be opened, or is no plain file.
    """
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        *parents, last = name.split("/")
        for parent in parents:
            inner = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=opened)
            os.close(opened)
            opened = inner
        descriptor = os.open(last, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=opened)
    finally:
        os.close(opened)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "no plain file", name)
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def _changed(place: str, name: str, what: str) -> ArtifactRefused:
    return ArtifactRefused(
        "tampered", "The model is not the one that was admitted.", f"{place}/{name}: {what}; admit the model again"
    )


def _bad_record(path: Path, what: str) -> ArtifactRefused:
    return ArtifactRefused("tampered", "The model's record was changed.", f"{path}: {what}; admit the model again")
