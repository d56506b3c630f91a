"""What lies in a directory: it enters, the names, sizes and digests of all its files leave, or a refusal.

Only plain files and directories are looked at, no link is followed, and the work has bounds: a number of files, a
depth, and, for digests, no more bytes than were there when the files were listed.
"""

import errno
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from garrison.errors import ArtifactRefused, Undecided
from garrison.record import RecordedFile, hash_file

MAX_FILES = 100_000
MAX_DEPTH = 16
THREADS = min(4, os.cpu_count() or 1)
Progress = Callable[[int], None]


def list_files(directory: Path, beside: Set[str]) -> dict[str, int]:
    """Return the names and sizes of all files in a directory; of those beside, only that they may be there.

    A directory without a file in it is listed too, with a / at its end: nothing can have been signed for it.

    Raises:
        ArtifactRefused: something in it is neither a plain file nor a directory, or there are too many.
        Undecided: it cannot be read.
    """
    found: dict[str, int] = {}
    try:
        for name, size in _walk(directory, ""):
            found[name] = size
            if len(found) > MAX_FILES:
                raise ArtifactRefused("too_many_files", "The model has too many files.", f"more than {MAX_FILES}")
    except OSError as error:
        raise refuse_unread(str(directory), error) from error
    return {name: size for name, size in found.items() if name not in beside}


def hash_files(
    directory: Path, sizes: Mapping[str, int], max_bytes: int, progress: Progress | None
) -> dict[str, RecordedFile]:
    """Return the digests of listed files, each read in chunks by a thread of its own.

    Raises:
        ArtifactRefused: a file is gone or changed since it was listed, or there are more than `max_bytes`.
        Undecided: a file cannot be read.
    """
    if sum(sizes.values()) > max_bytes:
        raise ArtifactRefused("too_large", "The model is too large.", f"{sum(sizes.values())} bytes, above {max_bytes}")
    meter = _Meter(sum(sizes.values()), progress)
    names = sorted(sizes, key=lambda name: sizes[name], reverse=True)  # the largest first: it takes longest
    with ThreadPoolExecutor(THREADS) as pool:
        waiting = {name: pool.submit(hash_file, directory, name, meter.count) for name in names}
        try:
            return {name: waiting[name].result() for name in sorted(waiting)}
        except OSError as error:
            raise refuse_unread(error.filename or "a file", error) from error
        finally:
            meter.stop()
            pool.shutdown(wait=False, cancel_futures=True)


def refuse_unread(name: str, error: OSError) -> ArtifactRefused | Undecided:
    """Tell what cannot be read for now from what is gone, or was put in the place of a file."""
    if isinstance(error, PermissionError) or error.errno == errno.EIO:
        return Undecided(f"{name}: cannot be read ({error.strerror}); nothing can be said about it")
    return refuse_tampered(name, error.strerror or "cannot be read")


def refuse_tampered(name: str, what: str) -> ArtifactRefused:
    """Say that a file is not what was signed."""
    return ArtifactRefused("tampered", "The model is not the one that was signed.", f"{name}: {what}")


def _walk(directory: Path, prefix: str, depth: int = 0) -> Iterator[tuple[str, int]]:
    empty = True
    with os.scandir(directory) as entries:
        for entry in entries:
            empty = False
            name = prefix + entry.name
            if entry.is_dir(follow_symlinks=False) and depth < MAX_DEPTH:
                yield from _walk(Path(entry.path), f"{name}/", depth + 1)
            elif entry.is_file(follow_symlinks=False):
                yield name, entry.stat(follow_symlinks=False).st_size
            else:
                what = "is a link, a device, or too deep; only plain files are part of a model"
                raise ArtifactRefused("not_a_file", "Something in the model is no plain file.", f"{name}: {what}")
    if empty and prefix:
        yield prefix, 0


class _Meter:
    """Counts what all threads have read, and stops them: when it is more than there was, or when nobody waits."""

    def __init__(self, expected: int, progress: Progress | None) -> None:
        self._left = expected
        self._progress = progress
        self._lock = threading.Lock()

    def count(self, size: int) -> None:
        with self._lock:
            self._left -= size
            if self._left < 0:
                raise refuse_tampered("a file", "grew while it was read")
            if self._progress is not None:
                self._progress(size)

    def stop(self) -> None:
        with self._lock:
            self._left = -1
