"""Fetch a model as a whole: one archive, or the directory of a packed model in a bucket."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from garrison.admission.fetch.address import Address, parse_address
from garrison.admission.fetch.gs import GsSource
from garrison.admission.fetch.https import HttpsSource
from garrison.admission.fetch.s3 import S3Source
from garrison.admission.fetch.source import Pinned, Source, failed, not_found
from garrison.admission.fetch.transfer import Pace, Part, Patience, Progress, fill_part
from garrison.admission.settings import FetchSettings, Limits
from garrison.errors import ArtifactRefused, ConfigError
from garrison.files import make_private_directory
from garrison.record import MEMBER, RecordedFile, digest_files


@dataclass(frozen=True)
class FetchedObject:
    """One object that was fetched: its address, the version that the service calls it by, size and SHA-256."""

    address: str
    version: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Fetched:
    """A model that is here now, and nothing more: an archive, or a directory.

    `digest` is the archive's SHA-256, or for a directory that of all its files together (see `record.digest_files`).
    """

    path: Path
    digest: str
    objects: tuple[FetchedObject, ...]

    @property
    def size(self) -> int:
        """The bytes of all objects together."""
        return sum(one.size for one in self.objects)


def connect(address: Address, settings: FetchSettings) -> Source:
    """Return the source that an address belongs to.

    Raises:
        ConfigError: a package or credentials are missing.
    """
    if address.scheme == "s3":
        return S3Source(unsafe_allow_unencrypted=settings.unsafe_allow_unencrypted)
    return GsSource() if address.scheme == "gs" else HttpsSource(settings)


def fetch_model(
    url: str,
    target_directory: Path,
    settings: FetchSettings,
    limits: Limits,
    *,
    progress: Progress | None = None,
    pace: Pace | None = None,
    connect: Callable[[Address, FetchSettings], Source] = connect,
) -> Fetched:
    """Fetch a model into a private directory; `progress` is told the bytes that are here and those announced.

    Raises:
        ArtifactRefused: the address is not allowed, or what is there is not what may be fetched.
        ConfigError: a package, credentials or a writable private directory is missing.
        Undecided: the service cannot be asked, or does not answer well in time.
    """
    address = parse_address(url, settings)
    patience = Patience(pace or Pace())
    with _claim(target_directory):
        source = patience.call(address, connect, address, settings)
        pinned = _pin_objects(source, address, limits, patience)
        size = _check_size(address, pinned, limits, target_directory)
        patience.expect(size)
        delivery = _Delivery(source, patience, progress or _say_nothing, size)
        bring = _bring_directory if address.is_directory else _bring_archive
        return bring(delivery, pinned, address, target_directory / address.name)


def _pin_objects(source: Source, address: Address, limits: Limits, patience: Patience) -> Sequence[Pinned]:
    if not address.is_directory:
        return [patience.call(address, source.describe, address)]
    objects = patience.call(address, source.list_objects, address, limits.max_files)
    if not objects:
        raise not_found(address)
    if len(objects) > limits.max_files:
        raise ArtifactRefused(
            "too_many_files",
            "The directory holds too many objects.",
            f"{address}: more than {limits.max_files} objects; name the directory of one packed model",
        )
    for one in objects:
        _check_member(address, one)
    if len(set(objects)) != len(objects):
        raise failed(address, "the service lists an object twice")
    return [patience.call(one, source.describe, one) for one in objects]


def _check_member(directory: Address, member: Address) -> None:
    name = member.key.removeprefix(directory.key)
    if not MEMBER.fullmatch(name):
        raise ArtifactRefused(
            "forbidden_name",
            "The directory holds an object that no packed model has.",
            f"{directory}: {name!r} is not the name of a packed model's file; name the directory of one packed model",
        )


def _check_size(address: Address, pinned: Sequence[Pinned], limits: Limits, directory: Path) -> int:
    size = sum(one.size for one in pinned)
    if size > limits.max_bytes:
        raise ArtifactRefused(
            "too_large",
            "The model is too large.",
            f"{address}: {size} bytes; at most {limits.max_bytes} are admitted (limits.max_bytes of admission.yaml)",
        )
    kept = sum(part.stat().st_size for part in directory.rglob(".*.part"))  # of an interrupted run
    free = shutil.disk_usage(directory).free + kept
    if size > free:
        raise ConfigError(f"{directory}: {free} bytes are free, {size} are needed; name a directory with more room")
    return size


@dataclass(frozen=True)
class _Delivery:
    """How objects come here: from where, with how much patience, and who is told."""

    source: Source
    patience: Patience
    progress: Progress
    total: int

    def bring(self, pinned: Pinned, path: Path, before: int = 0) -> tuple[Part, RecordedFile]:
        """Bring all of an object; `before` are the bytes of others that came before it."""
        with Part(pinned, path) as part:
            fill_part(self.source, pinned, part, self.patience, lambda here: self.progress(before + here, self.total))
            return part, part.finish()


def _bring_archive(delivery: _Delivery, pinned: Sequence[Pinned], address: Address, path: Path) -> Fetched:
    part, recorded = delivery.bring(pinned[0], path)
    part.publish()
    return Fetched(path, recorded.sha256, (_describe(pinned[0], recorded),))


def _bring_directory(delivery: _Delivery, pinned: Sequence[Pinned], address: Address, path: Path) -> Fetched:
    """Bring all files of a directory, and give the directory its name when all are there."""
    draft = path.with_name(f".{path.name}.parts")
    parts: list[Part] = []
    files: dict[str, RecordedFile] = {}
    for one in pinned:
        name = one.address.key.removeprefix(address.key)
        for directory in (draft, (draft / name).parent):  # one by one: parents that are made on the way are not private
            make_private_directory(directory)
        part, files[name] = delivery.bring(one, draft / name, before=sum(file.size for file in files.values()))
        parts.append(part)
    for part in parts:
        part.publish()
    _remove_others(draft, files)
    _replace_directory(draft, path)
    objects = tuple(_describe(one, file) for one, file in zip(pinned, files.values(), strict=True))
    return Fetched(path, digest_files(files), objects)


def _remove_others(draft: Path, names: dict[str, RecordedFile]) -> None:
    """Remove what an earlier run left of files that the directory does not have any more."""
    for path in draft.rglob("*"):
        if not path.is_dir() and str(path.relative_to(draft)) not in names:
            path.unlink()


def _replace_directory(draft: Path, path: Path) -> None:
    old = path.with_name(f".{path.name}.old")
    shutil.rmtree(old, ignore_errors=True)  # of a run that was killed
    try:
        if path.exists():
            path.replace(old)
        draft.replace(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror}); name another directory") from error
    shutil.rmtree(old, ignore_errors=True)


def _describe(pinned: Pinned, recorded: RecordedFile) -> FetchedObject:
    return FetchedObject(str(pinned.address), pinned.version, recorded.size, recorded.sha256)


@contextmanager
def _claim(directory: Path) -> Iterator[None]:
    """Make the directory, private to its owner, and hold it for this fetch alone."""
    make_private_directory(directory)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(f"{directory}: another fetch writes there; wait, or name another directory") from error
        yield
    finally:
        os.close(descriptor)


def _say_nothing(here: int, total: int) -> None:
    """Take the place of a progress bar."""
