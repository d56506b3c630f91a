"""Read a directory that somebody else may change meanwhile: entries and their bytes, never through a link.

A packed model is flat: one level, and `MAR-INF` below it, or a SavedModel's own two directories. Nothing deeper is ever
entered, so a deep or endless tree costs no more than a flat one. What is not a plain file is never opened: opening a
device can do things.
"""

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from garrison.errors import ArtifactRefused, Undecided
from garrison.saved_model import DIRECTORIES

MANIFEST_DIRECTORY = "MAR-INF"
INNER_DIRECTORIES = (MANIFEST_DIRECTORY, *DIRECTORIES)  # which model may have which, `names` says
CHUNK_BYTES = 2**20
HARD_LINK_ADVICE = "has a second name (a hard link) under which it could be changed; give a copy of it"
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
_OPEN_FILE = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


@dataclass(frozen=True)
class Entry:
    """One entry of a directory: a directory's name ends with a slash; `mode` and `links` are as `lstat` says."""

    name: str
    mode: int
    links: int
    size: int

    @property
    def is_plain(self) -> bool:
        """Say whether it is a plain file."""
        return stat.S_ISREG(self.mode)


@contextmanager
def open_directory(directory: Path) -> Iterator[int]:
    """Give a descriptor of a directory, which stays the same directory whatever happens to its name.

    Raises:
        ArtifactRefused: it is a link, or no directory.
        Undecided: it cannot be read.
    """
    try:
        descriptor = os.open(directory, _OPEN_DIRECTORY)
    except NotADirectoryError as error:
        raise _not_a_file(str(directory), "a link, or no directory; give the directory itself") from error
    except OSError as error:
        raise Undecided(f"{directory}: cannot be read ({error.strerror})") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def list_entries(root: int, max_entries: int) -> list[Entry]:
    """Return the entries of an open directory and of the inner ones, sorted, and no more than one above the maximum.

    Raises:
        Undecided: they cannot be read, or vanished meanwhile.
    """
    try:
        entries = list(islice(_scan(root), max_entries + 1))
    except OSError as error:
        raise Undecided(f"a directory cannot be read ({error.strerror}); try again") from error
    return sorted(entries, key=lambda entry: entry.name)


def read_member(root: int, name: str, max_bytes: int) -> bytes:
    """Return at most `max_bytes` of a plain file below an open directory.

    Raises:
        ArtifactRefused: it is no plain file.
        Undecided: it cannot be read.
    """
    try:
        with open_member(root, name) as file:
            return file.read(max_bytes)
    except OSError as error:
        raise Undecided(f"{name}: cannot be read ({error.strerror})") from error


@contextmanager
def open_member(root: int, name: str) -> Iterator[BinaryIO]:
    """Open a plain file below an open directory; no part of its name may be a link.

    Raises:
        ArtifactRefused: it is no plain file, or has a second name.
        OSError: it cannot be opened.
    """
    with _enter(root, name) as (parent, last):
        check_plain(os.stat(last, dir_fd=parent, follow_symlinks=False), name)
        try:
            descriptor = os.open(last, _OPEN_FILE, dir_fd=parent)
        except OSError as error:
            if error.errno == errno.ELOOP:  # a link since the line before
                raise _not_a_file(name, "a link; only plain files are accepted") from error
            raise
    with os.fdopen(descriptor, "rb") as file:
        check_plain(os.fstat(descriptor), name)  # again: it may have been another one a moment ago
        yield file


def check_plain(found: os.stat_result, name: str) -> None:
    """Check that a file is a plain one without a second name.

    Raises:
        ArtifactRefused: it is a link, a directory or a device, or others can write to it under a second name.
    """
    if not stat.S_ISREG(found.st_mode):
        raise _not_a_file(name, "a link, directory or device; only plain files are accepted")
    if found.st_nlink > 1:
        raise ArtifactRefused("hard_link", "A file has a second name.", f"{name}: {HARD_LINK_ADVICE}")


def write_member(root: int, name: str, chunks: Iterable[bytes]) -> int:
    """Write a new file (mode 0600) below an open directory, making its inner directory, and return its bytes.

    Raises:
        OSError: it exists already, or cannot be written.
    """
    with _enter(root, name, make=True) as (parent, last):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(last, flags, 0o600, dir_fd=parent)
    with os.fdopen(descriptor, "wb") as file:
        return sum(file.write(chunk) for chunk in chunks)


@contextmanager
def _enter(root: int, name: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
    """Give the directory that a member lies in, the root or an inner one, and the last part of its name."""
    inner, slash, last = name.rpartition("/")
    if (slash and inner not in INNER_DIRECTORIES) or last in ("", ".", ".."):
        raise _not_a_file(name, "not a name that a packed model can have")
    if not slash:
        yield root, last
        return
    if make:
        with suppress(FileExistsError):
            os.mkdir(inner, 0o700, dir_fd=root)
    descriptor = os.open(inner, _OPEN_DIRECTORY, dir_fd=root)
    try:
        yield descriptor, last
    finally:
        os.close(descriptor)


def _scan(root: int) -> Iterator[Entry]:
    yield from _scan_level(root, "")
    for name in INNER_DIRECTORIES:
        try:
            inner = os.open(name, _OPEN_DIRECTORY, dir_fd=root)
        except OSError:
            continue  # there is none, or it is no directory and stands in the list as what it is
        try:
            yield from _scan_level(inner, f"{name}/")
        finally:
            os.close(inner)


def _scan_level(descriptor: int, prefix: str) -> Iterator[Entry]:
    with os.scandir(descriptor) as found:
        for one in found:
            state = one.stat(follow_symlinks=False)
            slash = "/" if stat.S_ISDIR(state.st_mode) else ""
            yield Entry(f"{prefix}{one.name}{slash}", state.st_mode, state.st_nlink, state.st_size)


def _not_a_file(name: str, what: str) -> ArtifactRefused:
    return ArtifactRefused("not_a_file", "Only plain files are accepted.", f"{name}: {what}")
