"""An audit log: what was decided, one JSON object a line, each chained to the one before.

A store has one, of what was admitted and refused; so have the keys of clients, and a gateway, of its configuration.

    {"sequence": 2, "time": "2026-05-04T10:11:12Z", "event": {...}, "previous": "<hash of line 1>", "hash": "<its own>"}

`hash` is the SHA-256 of the line without it. Whoever changes, removes or inserts a line breaks the chain there. Cutting
off the end breaks nothing: to notice that, keep the newest hash somewhere else and give it to `verify_log`. Whoever can
write the file could also compute the whole chain anew; that, too, only a hash that is kept elsewhere shows.

A line that a power cut left half-written is kept as it is: the next line says so, and the chain goes on behind it.
"""

import fcntl
import hashlib
import json
import os
import re
import stat
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from garrison.errors import ArtifactRefused, ConfigError, Undecided

LOG_FILE = "audit.jsonl"  # in a store, in the directory of the keys, in a gateway's --state
MAX_LINE_BYTES = 64 * 1024
MAX_TORN_BYTES = 4 * MAX_LINE_BYTES  # several power cuts in a row
START = "0" * 64  # what the first line is chained to
_HASH = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Entry:
    """One line of the log; `torn` is the SHA-256 of what was half-written before it, or empty."""

    sequence: int
    time: str
    event: Mapping[str, Any]
    previous: str
    torn: str = ""

    @property
    def hash(self) -> str:
        """The line's own hash."""
        return _hash(_write(self._values()))

    def render(self) -> bytes:
        """Return the line as it stands in the log, without its end."""
        return _write({**self._values(), "hash": self.hash})

    def _values(self) -> dict[str, Any]:
        values = {"sequence": self.sequence, "time": self.time, "event": dict(self.event), "previous": self.previous}
        return values | ({"torn": self.torn} if self.torn else {})


@dataclass(frozen=True)
class LogSummary:
    """An unbroken log: `head` is the newest hash, to be kept elsewhere; `torn` counts what was half-written."""

    entries: int
    first_time: str
    last_time: str
    head: str
    torn: int


@dataclass(frozen=True)
class _End:
    """Where the chain ends: after so many bytes, lines and entries, with this hash.

    `fragment` is what stands behind that, half-written; `closed` says whether the last line has its end.
    """

    offset: int = 0
    lines: int = 0
    sequence: int = 0
    head: str = START
    fragment: bytes = b""
    closed: bool = True


class AuditLog:
    """A log to append to. Any number of processes and threads may."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._end = _End()
        self._inode = 0
        self._lock = threading.Lock()

    def append(self, event: Mapping[str, Any]) -> None:
        """Append an event, and return when it is on the disk.

        The chain is checked before: all of it the first time, what was added since at later ones.

        Raises:
            Undecided: the log is broken, or cannot be written; or the event is larger than a line may be.
        """
        with self._lock:
            try:
                descriptor = _open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
                    self._append(descriptor, event)
                finally:
                    os.close(descriptor)
            except OSError as error:
                raise Undecided(f"{self.path}: cannot be written ({error.strerror})") from error
            except ArtifactRefused as refusal:
                raise Undecided(
                    f"{refusal.detail}; move the log aside and keep it; a new one knows nothing of what it says"
                ) from refusal

    def events(self) -> Iterator[Mapping[str, Any]]:
        """Go through all events, oldest first; there is none where there is no log yet.

        Raises:
            ArtifactRefused: the chain is broken (at the point where it is).
            ConfigError: the log cannot be read.
        """
        if os.path.lexists(self.path):
            yield from (entry.event for entry in read_log(self.path))

    def _append(self, descriptor: int, event: Mapping[str, Any]) -> None:
        end = self._find_end(descriptor)
        left = end.fragment + (b"" if end.closed else b"\n")
        torn = _hash(left) if end.fragment else ""
        entry = Entry(end.sequence + 1, _now(), event, end.head, torn)
        line = _render_event(entry, self.path)
        _write_all(descriptor, (b"" if end.closed else b"\n") + line + b"\n")
        os.fsync(descriptor)
        if end == _End():
            _sync_directory(self.path.parent)
        size = os.fstat(descriptor).st_size
        self._end = _End(size, end.lines + left.count(b"\n") + 1, entry.sequence, entry.hash)

    def _find_end(self, descriptor: int) -> _End:
        found = os.fstat(descriptor)
        end = self._end if found.st_ino == self._inode and found.st_size >= self._end.offset else _End()
        self._inode = found.st_ino
        with os.fdopen(os.dup(descriptor), "rb") as file:
            for _, reached in _follow(file, end, str(self.path)):
                end = reached
        return end


class AuditTail:
    """Follow a log that others append to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._end = _End()
        self._seen = (0, 0)

    def news(self) -> list[Mapping[str, Any]]:
        """Return the events since the last call, oldest first; at the first call, all.

        Raises:
            ArtifactRefused: the chain is broken since then, or what was read is not there any more.
            ConfigError: the log cannot be read.
        """
        try:
            with os.fdopen(_open(self.path, os.O_RDONLY), "rb") as file:
                return self._read_on(file)
        except FileNotFoundError as error:
            if self._seen == (0, 0):
                return []
            raise self._forget((0, 0)) from error
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be read ({error.strerror})") from error

    def _forget(self, seen: tuple[int, int]) -> ArtifactRefused:
        """Begin anew with what is there now, and return what to say, once, of what was there before."""
        self._seen, self._end = seen, _End()
        detail = (
            f"{self.path}: is not the log that it was; it was cut off, removed, or another one was put in its place"
        )
        return ArtifactRefused("log_broken", "The audit log is broken.", detail)

    def _read_on(self, file: BinaryIO) -> list[Mapping[str, Any]]:
        found = os.fstat(file.fileno())
        inode, size = self._seen
        if (found.st_ino, found.st_size) == self._seen:
            return []
        if inode and (found.st_ino != inode or found.st_size < size):
            raise self._forget((found.st_ino, 0))
        events: list[Mapping[str, Any]] = []
        try:
            for entry, end in _follow(file, self._end, str(self.path)):
                if entry is not None:
                    self._end = end
                    events.append(entry.event)
        except ArtifactRefused:
            if events:  # what stands before the break counts; the break is said at the next call
                return events
            raise
        self._seen = (found.st_ino, found.st_size)
        return events


def read_log(path: Path) -> Iterator[Entry]:
    """Go through a log's entries, checking the chain on the way.

    Raises:
        ArtifactRefused: the chain is broken; the entries before that have been given.
        ConfigError: the log cannot be read.
    """
    yield from (entry for entry in _read(path) if entry is not None)


def verify_log(path: Path, head: str | None = None) -> LogSummary:
    """Check a whole log; `head` is a hash that was noted earlier, which must still be in it.

    Raises:
        ArtifactRefused: the chain is broken, or `head` is not in it: the log was cut off or written anew.
        ConfigError: the log cannot be read, or `head` is no hash.
    """
    if head is not None:
        _check_head(head)
    entries, torn, first, last, newest, found = 0, 0, "", "", START, head is None
    for entry in _read(path):
        if entry is None:
            torn += 1
            continue
        entries, last, newest = entries + 1, entry.time, entry.hash
        first, torn, found = first or entry.time, torn + bool(entry.torn), found or newest == head
    if not found:
        raise _gone(str(path), str(head))
    return LogSummary(entries, first, last, newest, torn)


def verify_logs(paths: Sequence[Path], heads: Sequence[str] = ()) -> dict[Path, LogSummary]:
    """Check several logs; each of `heads` must still be in one of them.

    Raises:
        ArtifactRefused: a chain is broken, or a head is in none of them.
        ConfigError: a log cannot be read, or a head is no hash.
    """
    if len(paths) == 1 and len(heads) == 1:
        return {paths[0]: verify_log(paths[0], heads[0])}
    summaries = {path: verify_log(path) for path in paths}
    for head in heads:
        _check_head(head)
        if not any(entry.hash == head for path in paths for entry in read_log(path)):
            raise _gone(", ".join(map(str, paths)), head)
    return summaries


def _read(path: Path) -> Iterator[Entry | None]:
    try:
        with os.fdopen(_open(path, os.O_RDONLY), "rb") as file:
            yield from (entry for entry, _ in _follow(file, _End(), str(path)))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error


def _follow(file: BinaryIO, end: _End, name: str) -> Iterator[tuple[Entry | None, _End]]:
    """Go through the entries behind a known end, each with the new end; a half-written rest comes without an entry."""
    file.seek(end.offset)
    fragment = b""
    while line := file.readline(MAX_LINE_BYTES + 2):
        entry = _parse(line.removesuffix(b"\n"))
        if entry is None:  # half-written, if it is the last one or the next entry owns up to it
            fragment += line
        elif (entry.sequence, entry.previous) != (end.sequence + 1, end.head) or entry.torn != _hash_rest(fragment):
            raise _broken(name, end.lines + 1)
        else:
            offset = end.offset + len(fragment) + len(line)
            lines = end.lines + fragment.count(b"\n") + 1
            end = _End(offset, lines, entry.sequence, entry.hash, closed=line.endswith(b"\n"))
            fragment = b""
            yield entry, end
        if len(fragment) > MAX_TORN_BYTES:
            raise _broken(name, end.lines + 1)
    if fragment.endswith(b"\n"):  # it was written to its end, so it was changed afterwards
        raise _broken(name, end.lines + 1)
    if fragment:
        yield None, replace(end, fragment=fragment, closed=False)


def _parse(line: bytes) -> Entry | None:
    """Read a line; anything but the exact bytes that `Entry.render` writes is none."""
    try:
        values = json.loads(line)
        own = values.pop("hash")
        entry = Entry(**values)
        if type(entry.sequence) is int and entry.render() == line and entry.hash == own:
            return entry
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    return None


def _render_event(entry: Entry, path: Path) -> bytes:
    try:
        line = entry.render()
    except (TypeError, ValueError) as error:
        raise Undecided(f"{path}: an event cannot be written as JSON ({error})") from error
    if _parse(line) != entry:  # such as numbers for keys, which come back as text
        raise Undecided(f"{path}: an event would not be read back from JSON as it is")
    if len(line) > MAX_LINE_BYTES:
        raise Undecided(f"{path}: an event of {len(line)} bytes is too large; a line has at most {MAX_LINE_BYTES}")
    return line


def _write(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, separators=(",", ":"), sort_keys=True, allow_nan=False).encode()


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _hash_rest(fragment: bytes) -> str:
    return _hash(fragment) if fragment else ""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _open(path: Path, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "not a plain file", str(path))
    return descriptor


def _write_all(descriptor: int, data: bytes) -> None:
    """Write everything; what a full disk cuts off is told by the next entry."""
    while data:
        data = data[os.write(descriptor, data) :]


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _broken(name: str, line: int) -> ArtifactRefused:
    detail = f"{name}, line {line}: does not follow from the line before; it, or lines around it, were changed"
    return ArtifactRefused("log_broken", "The audit log is broken.", detail)


def _gone(name: str, head: str) -> ArtifactRefused:
    detail = f"{name}: the entry with the hash {head} is gone; the log was cut off after it was noted, or replaced"
    return ArtifactRefused("log_broken", "The audit log is broken.", detail)


def _check_head(head: str) -> None:
    if not _HASH.fullmatch(head):
        raise ConfigError(
            f"'{head[:80]}' is not a hash of the log; give the 64 digits that `garrison audit verify` showed"
        )
