"""Read a zip archive that may be hostile: a file, its bytes or an open file enters, members leave, or a refusal.

Used for `.mar` archives, torch's `.pt` and `.pt2`, `.npz`, and zips inside them. What `zipheaders` refuses is refused
at opening, before a byte is unpacked. Contents are read in chunks, compared with their length and checksum, and never
more than the limits say: memory stays the same for any archive.

Every refusal is an `ArtifactRefused`. Nothing is ever written by name; whoever unpacks chooses where.
"""

import io
import os
import stat
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from garrison.admission.settings import Limits
from garrison.admission.zips.headers import DEFLATED, Member, bad_zip, read_members
from garrison.errors import ArtifactRefused

CHUNK_BYTES = 2**20
SMALL_BYTES = 2**20  # what shrinks to next to nothing but is no larger than this harms nobody


@contextmanager
def open_zip(source: Path | bytes | BinaryIO, limits: Limits, max_files: int | None = None) -> Iterator["StrictZip"]:
    """Open an archive whose every reader sees the same; `max_files` replaces that of the limits.

    An open file must be seekable; it stays open. A torch archive has a member for each tensor: give it more room.

    Raises:
        ArtifactRefused: bad_zip, ambiguous_zip, unsupported_zip, unsafe_name, repeated_name, not_a_file,
            too_many_files, too_many_bytes or compression_bomb.
    """
    if isinstance(source, Path):
        with _open_plain(source) as file:
            yield StrictZip(file, limits, max_files)
    else:
        yield StrictZip(io.BytesIO(source) if isinstance(source, bytes) else source, limits, max_files)


class StrictZip:
    """An archive that was checked. Contents are checked when they are read: use nothing of a read that raised."""

    def __init__(self, file: BinaryIO, limits: Limits, max_files: int | None = None) -> None:
        self.limits = limits
        self._file = file
        try:
            members = read_members(
                file, file.seek(0, os.SEEK_END), limits.max_files if max_files is None else max_files
            )
        except OSError as error:
            raise bad_zip(f"it cannot be read ({error.strerror})") from error
        _check_sizes(members, limits)
        self._members = {member.name: member for member in members}

    def members(self) -> tuple[Member, ...]:
        """Return all members in the order of the archive's directory; directories' names end with a slash."""
        return tuple(self._members.values())

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def size(self, name: str) -> int:
        """Return a member's size in bytes, -1 where there is none."""
        return self._members[name].size if name in self._members else -1

    def read(self, name: str, max_bytes: int) -> bytes:
        """Return a member's contents.

        Raises:
            ArtifactRefused: there is no such member, it is larger than `max_bytes`, or it is damaged.
        """
        if self._find(name).size > max_bytes:
            detail = f"{name!r} has {self._find(name).size} bytes; at most {max_bytes}"
            raise ArtifactRefused("too_many_bytes", "A file is too large.", detail)
        return b"".join(self.chunks(name))

    def copy(self, name: str, target: BinaryIO) -> None:
        """Write a member's contents to an open file.

        Raises:
            ArtifactRefused: as for `chunks`; what was written until then is to be thrown away.
        """
        for chunk in self.chunks(name):
            target.write(chunk)

    def chunks(self, name: str) -> Iterator[bytes]:
        """Go through a member's contents; length and checksum are compared behind the last chunk.

        Raises:
            ArtifactRefused: there is no such member, or it is damaged.
        """
        member = self._find(name)
        size = checksum = 0
        for chunk in self._unpack(member):
            size += len(chunk)
            checksum = zlib.crc32(chunk, checksum)
            if size > member.size:
                break
            yield chunk
        if size != member.size or checksum != member.crc:
            raise bad_zip(f"{name!r} does not have the size or checksum that its header says; pack the files again")

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """Give a member's contents as a seekable file: a window where they are stored, a temporary file elsewhere.

        They are read once before, so that damage is found first.

        Raises:
            ArtifactRefused: as for `chunks`.
        """
        member = self._find(name)
        if member.method == DEFLATED:
            with tempfile.TemporaryFile(prefix="garrison-") as scratch:
                self.copy(name, cast(BinaryIO, scratch))
                scratch.seek(0)
                yield cast(BinaryIO, scratch)
            return
        for _ in self.chunks(name):
            pass
        yield cast(BinaryIO, io.BufferedReader(_Window(self._file, member.start, member.size)))

    def _find(self, name: str) -> Member:
        if name not in self._members:
            raise bad_zip(f"there is no {name!r} in it")
        return self._members[name]

    def _unpack(self, member: Member) -> Iterator[bytes]:
        packed = io.BufferedReader(_Window(self._file, member.start, member.packed_size), CHUNK_BYTES)
        if member.method != DEFLATED:
            while chunk := packed.read(CHUNK_BYTES):
                yield chunk
            return
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            while not inflater.eof:
                given = inflater.unconsumed_tail or packed.read(CHUNK_BYTES)
                chunk = inflater.decompress(given, CHUNK_BYTES)
                if not chunk and not given:
                    raise bad_zip(f"{member.name!r} ends too early")
                yield chunk
        except zlib.error as error:
            raise bad_zip(f"{member.name!r} cannot be unpacked") from error
        if inflater.unused_data or packed.read(1):
            raise bad_zip(f"{member.name!r} has bytes behind its end")


class _Window(io.RawIOBase):
    """A part of a file, seen as a file of its own; several may look at the same file in turn."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file, self._start, self._size = file, start, size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        wanted = max(0, min(len(buffer), self._size - self._position))
        self._file.seek(self._start + self._position)
        data = self._file.read(wanted)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def _check_sizes(members: tuple[Member, ...], limits: Limits) -> None:
    total = sum(member.size for member in members)
    if total > limits.max_bytes:
        detail = f"{total} bytes unpacked; at most {limits.max_bytes}"
        raise ArtifactRefused("too_many_bytes", "The archive holds too much.", detail)
    for member in members:
        if member.size > max(SMALL_BYTES, member.packed_size * limits.max_ratio):
            detail = f"{member.name!r}: {member.packed_size} bytes that become {member.size}; store it unpacked"
            raise ArtifactRefused("compression_bomb", "The archive unpacks to far more than it is.", detail)


def _open_plain(path: Path) -> BinaryIO:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError as error:
        raise bad_zip(f"{path} cannot be read ({error.strerror})") from error
    file = os.fdopen(descriptor, "rb")
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise ArtifactRefused("not_a_file", "Only plain files are accepted.", f"{path}: a link, directory or device")
    return file
