"""Bring a model into a private directory: an archive or a directory enters, files that nobody else can change leave.

Whoever owns the source may swap, link and rename in it while it is read. So it is read once, into a new directory that
only this user can enter; every later check, the signature's too, is of that copy. Only names that a model can have are
ever written, none through a link, none over another file, and no more bytes than the limits say.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from garrison.admission.findings import refuse_if_found
from garrison.admission.rules import check_entries
from garrison.admission.rules.members import (
    CHUNK_BYTES,
    INNER_DIRECTORIES,
    list_entries,
    open_directory,
    open_member,
    write_member,
)
from garrison.admission.rules.names import check_names, check_structure
from garrison.admission.settings import Limits
from garrison.admission.zips import StrictZip, open_zip
from garrison.errors import ArtifactRefused, ConfigError, Undecided
from garrison.files import read_file

PUBLIC_MESSAGE = "The model's files are not accepted."
ARCHIVE_BEGINS = b"PK"
OTHER_FORMATS = {
    b"\x1f\x8b": "gzip (a .tar.gz)",
    b"BZh": "bzip2",
    b"\xfd7zX": "xz",
    b"7z\xbc\xaf": "7-Zip",
    b"Rar!": "RAR",
    b"\x28\xb5\x2f\xfd": "zstandard",
}


def unpack_archive(archive: Path, target: Path, limits: Limits) -> None:
    """Unpack a `.mar` into a new directory of mode 0700; nothing of it is left if that fails.

    Raises:
        ArtifactRefused: it is no zip, two readers could disagree about it, or a name or size is not accepted.
        ConfigError: it cannot be read, or the target cannot be written.
    """
    _check_format(archive)
    with open_zip(archive, limits) as source:
        refuse_if_found(check_structure(member.name for member in source.members()), PUBLIC_MESSAGE)
        _fill(target, lambda root: _unpack_members(source, root))


def copy_model(source: Path, target: Path, limits: Limits, *, foreign: bool = False) -> None:
    """Copy a packed model's directory into a new one of mode 0700; nothing of it is left if that fails.

    A `foreign` one, of stock's, may hold code and requirements under any name: whoever converts it, decides on them.

    Raises:
        ArtifactRefused: a name, kind or size of a file is not accepted.
        ConfigError: a file cannot be read, or the target cannot be written.
        Undecided: the source changed meanwhile.
    """
    with open_directory(source) as opened:
        entries = list_entries(opened, limits.max_files + len(INNER_DIRECTORIES))
        refuse_if_found(check_entries(entries, limits, check_structure if foreign else check_names), PUBLIC_MESSAGE)
        names = [entry.name for entry in entries if entry.is_plain]
        copy_members(opened, names, target, limits.max_bytes)


def copy_members(opened: int, names: Sequence[str], target: Path, max_bytes: int) -> None:
    """Copy files of an open directory into a new one of mode 0700; nothing of it is left if that fails.

    Raises:
        ArtifactRefused: one is no plain file, or they have more than `max_bytes` bytes.
        ConfigError: one cannot be read, or the target cannot be written.
        Undecided: one vanished meanwhile.
    """
    _fill(target, lambda root: _copy_members(opened, names, root, max_bytes))


def _check_format(archive: Path) -> None:
    try:
        begin = read_file(archive, 6)
    except OSError as error:
        raise ConfigError(f"{archive}: cannot be read ({error.strerror}); give a .mar or a directory") from error
    if begin.startswith(ARCHIVE_BEGINS):
        return
    kind = next((kind for magic, kind in OTHER_FORMATS.items() if begin.startswith(magic)), "no archive")
    advice = "a model archive is a zip (.mar); unpack this yourself and give the directory"
    raise ArtifactRefused("archive_format", "The archive's format is not accepted.", f"{archive}: {kind}; {advice}")


def _fill(target: Path, write: Callable[[int], None]) -> None:
    try:
        target.mkdir(mode=0o700)
    except OSError as error:
        raise ConfigError(f"{target}: cannot be made ({error.strerror}); give a new one") from error
    try:
        with open_directory(target) as root:
            os.fchmod(root, 0o700)
            write(root)
    except OSError as error:
        shutil.rmtree(target, ignore_errors=True)
        raise ConfigError(f"{error.filename or target}: cannot be copied ({error.strerror})") from error
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise


def _unpack_members(source: StrictZip, root: int) -> None:
    for member in source.members():
        if not member.is_directory:
            write_member(root, member.name, source.chunks(member.name))


def _copy_members(opened: int, names: Sequence[str], root: int, max_bytes: int) -> None:
    left = max_bytes
    for name in names:
        try:
            with open_member(opened, name) as file:
                left -= write_member(root, name, _read_chunks(file, left))
        except FileNotFoundError as error:
            raise Undecided(f"{name}: vanished while it was copied; try again") from error


def _read_chunks(file: BinaryIO, left: int) -> Iterator[bytes]:
    """Read to the end, which somebody may be moving further away."""
    while chunk := file.read(CHUNK_BYTES):
        left -= len(chunk)
        if left < 0:
            raise ArtifactRefused("too_many_bytes", PUBLIC_MESSAGE, "a file grew beyond the limit while it was copied")
        yield chunk
