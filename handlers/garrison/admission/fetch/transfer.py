"""Move one pinned object into a private file: `.NAME.part`, with its version in `.NAME.pin`, until all is there.

A run that was interrupted, or killed, is continued by the next one, if the object is still the same version. Only
failed connections are tried again, with growing pauses; the whole takes no longer than its size allows.
"""

import hashlib
import json
import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from garrison.admission.fetch.address import Address
from garrison.admission.fetch.source import CHUNK_BYTES, Interrupted, Pinned, Source, call_within, changed, failed
from garrison.errors import ConfigError
from garrison.files import read_file
from garrison.record import RecordedFile

MAX_PIN_BYTES = 16 * 1024
CLOSE_S = 1
Progress = Callable[[int, int], None]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Pace:
    """How patient a fetch is: seconds for everything but the bytes, the slowest speed, tries without a byte, pauses."""

    grace_s: float = 300
    bytes_per_s: int = 256 * 1024  # 2 Mbit/s: 20 GiB in 23 hours
    tries: int = 5
    pause_s: float = 0.5
    longest_pause_s: float = 30


class Patience:
    """What is left of the time and the tries of one fetch."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._ends = time.monotonic() + pace.grace_s
        self._failures = 0

    def expect(self, size: int) -> None:
        """Add the time that so many bytes may take."""
        self._ends += size / self._pace.bytes_per_s

    def left_s(self) -> float:
        """Return the seconds that are left, 0 at the end."""
        return max(self._ends - time.monotonic(), 0)

    def call(self, address: Address, action: Callable[..., Result], *arguments: Any) -> Result:
        """Call `action` until it works, or patience ends.

        Raises:
            Undecided: it did not work often enough, or in time.
        """
        while True:
            try:
                return call_within(self.left_s(), action, *arguments)
            except Interrupted as error:
                self.wait(address, error)

    def note_progress(self) -> None:
        """Begin to count the tries anew: the last one brought something."""
        self._failures = 0

    def wait(self, address: Address, error: Interrupted) -> None:
        """Pause before another try.

        Raises:
            Undecided: there is no other.
        """
        self._failures += 1
        pause = min(self._pace.pause_s * 2 ** (self._failures - 1), self._pace.longest_pause_s)
        if self._failures >= self._pace.tries or pause >= self.left_s():
            raise failed(address, f"{error}; fetch it again later: what is there already is kept") from error
        time.sleep(pause)


class Part:
    """The bytes of a pinned object that are here already, in a file that only its owner can read."""

    def __init__(self, pinned: Pinned, path: Path) -> None:
        """Open the part, and take over what an earlier run left of the same version.

        Raises:
            ConfigError: the file cannot be written.
        """
        self.path = path.with_name(f".{path.name}.part")
        self.size = 0
        self._pin = path.with_name(f".{path.name}.pin")
        self._pinned = pinned
        self._target = path
        self._digest = hashlib.sha256()
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            self._file = os.fdopen(os.open(self.path, flags, 0o600), "r+b", buffering=0)
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            self._take_over()
        except OSError as error:
            self.close()
            raise self._unwritable(error) from error

    def append(self, chunk: bytes) -> None:
        """Write the next bytes.

        Raises:
            ConfigError: they cannot be written.
        """
        try:
            rest = memoryview(chunk)
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise self._unwritable(error) from error
        self._digest.update(chunk)
        self.size += len(chunk)

    def reset(self) -> None:
        """Throw away all bytes."""
        self._file.seek(0)
        self._file.truncate()
        self._digest = hashlib.sha256()
        self.size = 0

    def finish(self) -> RecordedFile:
        """Put the whole file on the disk, and return its size and digest.

        Raises:
            ConfigError: the disk does not take it.
        """
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._unwritable(error) from error
        return RecordedFile(self.size, self._digest.hexdigest())

    def publish(self) -> None:
        """Give the file its name; may be called when it is closed.

        Raises:
            ConfigError: it cannot be renamed.
        """
        try:
            self.path.replace(self._target)
            self._pin.unlink(missing_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error

    def close(self) -> None:
        """Close the file; the part stays for the next run."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _take_over(self) -> None:
        found = os.fstat(self._file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError(0, "no plain file")
        os.fchmod(self._file.fileno(), 0o600)
        pin = _render_pin(self._pinned)
        if self._pinned.tag and found.st_size <= self._pinned.size and self._read_pin() == pin:
            while chunk := self._file.read(CHUNK_BYTES):
                self._digest.update(chunk)
                self.size += len(chunk)
        else:
            self.reset()
            self._write_pin(pin)

    def _read_pin(self) -> bytes:
        try:
            return read_file(self._pin, MAX_PIN_BYTES)
        except OSError:
            return b""

    def _write_pin(self, pin: bytes) -> None:
        """Write the pin in its place: one that is cut off fits no version, and no draft of it can be left behind."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        with os.fdopen(os.open(self._pin, flags, 0o600), "wb") as file:
            file.write(pin)

    def _unwritable(self, error: OSError) -> ConfigError:
        return ConfigError(f"{self._target}: cannot be written ({error.strerror}); name another directory")


def fill_part(source: Source, pinned: Pinned, part: Part, patience: Patience, progress: Callable[[int], None]) -> None:
    """Bring the rest of an object; `progress` is told how many bytes of it are here.

    Raises:
        ArtifactRefused: the object changed.
        Undecided: the connection failed too often, or was too slow.
    """
    furthest = part.size
    progress(part.size)
    while part.size < pinned.size:
        try:
            _copy(source, pinned, part, patience, progress)
        except Interrupted as error:
            if part.size > furthest:
                patience.note_progress()
            furthest = max(furthest, part.size)
            patience.wait(pinned.address, error)


def _copy(source: Source, pinned: Pinned, part: Part, patience: Patience, progress: Callable[[int], None]) -> None:
    if not pinned.tag:
        part.reset()  # nothing would say that the rest is of the same version
    body = call_within(patience.left_s(), source.open, pinned, part.size)
    try:
        if body.offset != part.size:
            part.reset()
        while part.size < pinned.size:
            chunk = call_within(patience.left_s(), body.read, min(CHUNK_BYTES, pinned.size - part.size))
            if not chunk:
                raise Interrupted(f"the connection ended after {part.size} of {pinned.size} bytes")
            if len(chunk) > pinned.size - part.size:
                raise changed(pinned.address)
            part.append(chunk)
            progress(part.size)
    finally:
        with suppress(Interrupted):
            call_within(CLOSE_S, body.close)


def _render_pin(pinned: Pinned) -> bytes:
    known = {"address": str(pinned.address), "size": pinned.size, "version": pinned.version, "tag": pinned.tag}
    return (json.dumps(known, indent=2, sort_keys=True) + "\n").encode()
