"""Keep the one directory that a worker may write to: a name enters, a private directory leaves, and later nothing.

What is in it was written by the model's code, perhaps while it is looked at. No symbolic link is followed, no name is
joined to a path, depth and number of entries are bounded.

What measuring cannot see: files that have no name any more but are still open or mapped; see `hidden`.
"""

import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path

from garrison.errors import ConfigError, Undecided

MAX_ENTRIES = 10_000
MAX_DEPTH = 32
MAX_DEPTH_REMOVED = 100_000
UNMEASURABLE = 2**63 - 1  # more than any limit: what cannot be measured counts as too much
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
See = Callable[[int, str, os.stat_result], None]
_BLOCK_BYTES = 512  # st_blocks counts in these, whatever the file system's own size


def make_scratch(parent: Path, name: str) -> Path:
    """Make a directory that only its owner can enter.

    Raises:
        ConfigError: it exists already, cannot be made, or the name is not one of a directory.
    """
    if not name or "/" in name or name in (".", ".."):
        raise ConfigError(f"{name!r}: not the name of a directory")
    path = parent / name
    try:
        path.mkdir(mode=0o700)
    except OSError as error:
        raise ConfigError(f"{path}: a worker's scratch directory cannot be made ({error.strerror})") from error
    return path


def measure(path: Path, see: See = lambda *_: None) -> tuple[int, int]:
    """Return how many bytes and files a directory holds; `UNMEASURABLE` for both if it is too deep or too full to say.

    `see` is told of every entry: the open directory, the name, and what `lstat` says.

    A file counts as large as it claims to be, or as what it takes on the disk if that is more: what is sparse today can
    be filled tomorrow. Directories count as files.
    """
    try:
        return _measure_directory(os.open(path, _OPEN_DIRECTORY), MAX_DEPTH, MAX_ENTRIES, see)
    except FileNotFoundError:
        return 0, 0
    except (OSError, Undecided):  # unreadable, as the worker made it
        return UNMEASURABLE, UNMEASURABLE


def remove(path: Path) -> None:
    """Remove a directory whatever is in it; does nothing if it is not there.

    Raises:
        Undecided: something in it cannot be removed.
    """
    try:
        top = _open_directory(os.fspath(path))
    except FileNotFoundError:
        return
    except OSError as error:
        raise _not_removed(path, error) from error
    try:
        for _ in range(MAX_DEPTH_REMOVED):
            if not _remove_level(top):
                break
        path.rmdir()
    except OSError as error:
        raise _not_removed(path, error) from error
    finally:
        os.close(top)


def _measure_directory(directory: int, depth: int, room: int, see: See) -> tuple[int, int]:
    """Measure an open directory, and close it; `room` is how many entries may still be seen."""
    total = files = 0
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                files += 1
                if files > room:
                    raise Undecided(f"more than {MAX_ENTRIES} entries")
                found = _look(directory, entry.name)
                if found is None:
                    continue
                see(directory, entry.name, found)
                total += max(found.st_size, found.st_blocks * _BLOCK_BYTES)
                if stat.S_ISDIR(found.st_mode):
                    inner_total, inner_files = _measure_inner(directory, entry.name, depth - 1, room - files, see)
                    total, files = total + inner_total, files + inner_files
    finally:
        os.close(directory)
    return total, files


def _measure_inner(directory: int, name: str, depth: int, room: int, see: See) -> tuple[int, int]:
    if depth < 0:
        raise Undecided(f"deeper than {MAX_DEPTH} directories")
    try:
        inner = os.open(name, _OPEN_DIRECTORY, dir_fd=directory)
    except FileNotFoundError:  # removed since it was listed
        return 0, 0
    return _measure_directory(inner, depth, room, see)


def _look(directory: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:  # removed since it was listed
        return None


def _remove_level(top: int) -> bool:
    """Remove what lies in a directory, but keep what its directories hold: that comes up, for the next time.

    So no path grows long and nothing is called within itself, however deep the tree is. Return whether anything came.
    """
    came_up = False
    for name in os.listdir(top):
        if not _is_directory(name, top):
            os.unlink(name, dir_fd=top)
            continue
        inner = _open_directory(name, top)
        try:
            came_up = _bring_up(inner, top) or came_up
        finally:
            os.close(inner)
        os.rmdir(name, dir_fd=top)
    return came_up


def _bring_up(inner: int, top: int) -> bool:
    names = os.listdir(inner)
    for name in names:
        if _is_directory(name, inner):
            _make_accessible(name, inner)  # a directory that moves is written to: its `..` changes
        os.rename(name, secrets.token_hex(16), src_dir_fd=inner, dst_dir_fd=top)
    return bool(names)


def _is_directory(name: str, directory: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)


def _open_directory(name: str, directory: int | None = None) -> int:
    _make_accessible(name, directory)
    return os.open(name, _OPEN_DIRECTORY, dir_fd=directory)


def _make_accessible(name: str, directory: int | None) -> None:
    """Let its owner enter a directory again; through a descriptor, since a mode cannot be changed without following."""
    held = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        if os.fstat(held).st_mode & stat.S_IRWXU != stat.S_IRWXU:  # or not at all: a supervisor may not change modes
            Path(f"/proc/self/fd/{held}").chmod(0o700)
    finally:
        os.close(held)


def _not_removed(path: Path, error: OSError) -> Undecided:
    return Undecided(f"{path}: cannot be removed ({error.strerror})")
