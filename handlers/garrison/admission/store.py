"""The store: every admitted version of every model, each in a directory that nothing changes any more.

    <store>/<model>/<version>-<digest>/    the files, the signature `model.sig`, the record `admission.json`
    <store>/audit.jsonl                    what was admitted and what was refused, chained by digests
    <store>/quarantine/                    what was refused, with the reason beside it
    <store>/.lock, .staging-*              one writer at a time; what is being examined

A version appears all at once, by one rename, after everything about it is on the disk, and counts once the audit log
says so. What a killed admission leaves behind, a `.staging-*` directory or a version without its line, is removed or
replaced by the next one.

The store belongs to one user: one that others can write to is refused. What is read from it is verified all the same,
by the signature at every start of the server and by the record at every start of a worker.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from garrison.archive import PackedModel, open_model
from garrison.audit import LOG_FILE
from garrison.errors import ArtifactRefused, ConfigError
from garrison.files import check_unchanged_by_others, write_atomically
from garrison.record import DIGEST_SHOWN, RECORD_FILE, Record, RecordedFiles, read_record, render_record

QUARANTINE = "quarantine"  # no model is called so: `rules.STORE_NAMES`
REASON_FILE = "reason.json"
KEPT_IN_QUARANTINE = 20  # the newest; whoever sends many bad models, or large ones, must not fill the disk
KEPT_BYTES = 20 * 2**30  # of all of them together, but always the newest one
_STAGING = ".staging-"
_LOCK = ".lock"


@dataclass(frozen=True)
class AdmittedModel:
    """One version in the store: where it lies, what was recorded of it, what it is, how long it took to verify it."""

    directory: Path
    record: Record
    packed: PackedModel
    verified_in_s: float = 0.0


class Store:
    """One directory of admitted models; a `patient` one waits while another admission runs in it.

    Raises:
        ConfigError: it cannot be made or read, or other users can write to it.
    """

    def __init__(self, directory: Path, *, patient: bool = False) -> None:
        self.directory = directory.absolute()
        self._patient = patient
        try:
            self.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{directory}: cannot be made ({error.strerror}); give another --store") from error
        check_unchanged_by_others(self.directory)
        if self.log_path.exists():  # whoever can write it decides which version is the newest
            check_unchanged_by_others(self.log_path)

    @property
    def log_path(self) -> Path:
        """Where the audit log is."""
        return self.directory / LOG_FILE

    @contextlib.contextmanager
    def stage(self) -> Iterator[Path]:
        """Give a new private directory to examine a model in, to nobody else at the same time; empty it at the end.

        Raises:
            ConfigError: another admission runs in this store, or nothing can be written there.
        """
        with self._lock():
            self._sweep()
            with tempfile.TemporaryDirectory(prefix=_STAGING, dir=self.directory, ignore_cleanup_errors=True) as name:
                yield Path(name)

    def publish(self, staged: Path, record: Record) -> Path:
        """Give an examined directory its place, with its record and read-only, all at once; return the place.

        Raises:
            ArtifactRefused: somebody exchanged the directory meanwhile.
        """
        (staged / RECORD_FILE).write_bytes(render_record(record))
        _settle(staged)
        place = self.place(record.model, record.version, record.digest)
        _remove(place)  # of an admission that was killed before it counted
        place.parent.mkdir(mode=0o755, exist_ok=True)
        _sync(self.directory)  # or a power cut could leave a line in the log about a model that is not there
        check_unchanged_by_others(place.parent)
        examined = staged.stat().st_ino
        staged.rename(place)
        _sync(place.parent)
        if place.lstat().st_ino != examined:
            raise ArtifactRefused(
                "tampered", "The model was changed while it was examined.", f"{place}: was exchanged; remove it"
            )
        for directory in (*(path for path in place.iterdir() if path.is_dir() and not path.is_symlink()), place):
            directory.chmod(0o555)
        return place

    def set_aside(self, staged: Path, name: str, reason: bytes) -> Path:
        """Move a refused model to the quarantine, with the reason (JSON) beside it; return where it lies."""
        quarantine = self.directory / QUARANTINE
        quarantine.mkdir(mode=0o700, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=quarantine))
        if staged.is_dir():
            staged.rename(place / "model")
        write_atomically(place / REASON_FILE, reason, 0o400)
        _clear(quarantine)
        return place

    def place(self, model: str, version: str, digest: str) -> Path:
        """Return where a version is, or would be."""
        return self.directory / model / f"{version}-{digest[:DIGEST_SHOWN]}"

    def models(self) -> list[str]:
        """Return the names of the models that have a directory here."""
        names = [path.name for path in sorted(self.directory.iterdir()) if path.is_dir()]
        return [name for name in names if not name.startswith(".") and name != QUARANTINE]

    def open_version(self, directory: Path) -> AdmittedModel:
        """Read one version: its record, and what it is by the files that the record lists.

        Raises:
            ArtifactRefused: the record is missing, was changed, or belongs to another place.
            ConfigError: other users can write to it, or its parts do not fit together.
        """
        for path in (directory.parent, directory, directory / RECORD_FILE):
            if path.exists():  # a missing record is told below
                check_unchanged_by_others(path)
        record = read_record(directory / RECORD_FILE)
        if (record.model, record.directory_name) != (directory.parent.name, directory.name):
            raise ArtifactRefused(
                "tampered",
                "The model is not the one that was admitted.",
                f"{directory}: holds {record.model} {record.directory_name}; admit the model again",
            )
        packed = open_model(RecordedFiles(directory, record))
        if (packed.contract.model, packed.contract.version) != (record.model, record.version):
            raise ArtifactRefused(
                "tampered", "The model is not the one that was admitted.", f"{directory}: the contract names another"
            )
        return AdmittedModel(directory, record, packed)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        try:
            descriptor = os.open(self.directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise ConfigError(
                f"{self.directory}: cannot be written ({error.strerror}); give another --store"
            ) from error
        with os.fdopen(descriptor):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if self._patient else fcntl.LOCK_NB))
            except OSError as error:
                raise ConfigError(f"{self.directory}: another admission runs in this store; wait for it") from error
            yield

    def _sweep(self) -> None:
        """Remove what a killed admission left behind."""
        for left in self.directory.glob(f"{_STAGING}*"):
            _remove(left)


def version_order(version: str) -> tuple[int, ...]:
    """Return what versions are compared by: 1.10 is newer than 1.9, and 1 equals 1.0."""
    numbers = [int(part) for part in version.split(".") if part.isascii() and part.isdigit()]
    return tuple(numbers + [0] * (3 - len(numbers)))


def _settle(staged: Path) -> None:
    """Make every file read-only, and wait until it and the directories are on the disk."""
    for path in sorted(staged.rglob("*"), reverse=True):
        if path.is_file():
            path.chmod(0o444)
        _sync(path)
    staged.chmod(0o755)
    _sync(staged)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _clear(quarantine: Path) -> None:
    """Remove the oldest until the rest is few and small enough."""
    size = 0
    newest_first = sorted(quarantine.iterdir(), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for number, place in enumerate(newest_first):
        size += sum(path.lstat().st_size for path in place.rglob("*") if path.is_file())
        if number >= KEPT_IN_QUARANTINE or (number > 0 and size > KEPT_BYTES):
            _remove(place)


def _remove(directory: Path) -> None:
    """Remove a directory, read-only parts included."""
    for path in [directory, *directory.rglob("*")]:
        if path.is_dir() and not path.is_symlink():
            with contextlib.suppress(OSError):
                path.chmod(0o700)
    shutil.rmtree(directory, ignore_errors=True)
