"""Read what may be hostile, and write what must not be seen: files and directories at the edge of the program.

Only plain files are read, and never more of them than was said: a FIFO, a device or an endless file costs nothing. What
other users could change is not trusted, what is secret is not readable by them.
"""

import fcntl
import os
import secrets
import shutil
import stat
import tempfile
from pathlib import Path

from garrison.errors import ConfigError

RUN_MARKER = ".garrison"  # says that a run directory is ours, and is locked while it is in use


def read_file(path: Path, max_bytes: int) -> bytes:
    """Return at most `max_bytes` of a plain file.

    Raises:
        OSError: it cannot be opened or read, or is no plain file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO without a writer would block
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "not a plain file", str(path))
        return file.read(max_bytes)


def check_unchanged_by_others(path: Path) -> None:
    """Check that only this user, or root, can have written a file or directory.

    Raises:
        ConfigError: it belongs to somebody else, or others can write to it.
    """
    if _read_mode(path) & 0o022:
        raise ConfigError(f"{path}: other users can write to it; run `chmod go-w {path}`")


def check_private(path: Path) -> None:
    """Check that no other user can read or write a file, or enter a directory.

    Raises:
        ConfigError: somebody else can, or it belongs to somebody else.
    """
    mode = _read_mode(path)
    if mode & 0o077:
        wanted, verb = ("700", "enter") if path.is_dir() else ("600", "read or write")
        raise ConfigError(f"{path}: other users can {verb} it (mode {mode:04o}); run `chmod {wanted} {path}`")


def _read_mode(path: Path) -> int:
    try:
        found = path.stat()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    if found.st_uid not in (0, os.geteuid()):
        raise ConfigError(f"{path}: belongs to another user (uid {found.st_uid}), who could have put anything there")
    return stat.S_IMODE(found.st_mode)


def make_private_directory(directory: Path, *, root_group: bool = False) -> None:
    """Make a directory that only its owner can enter (mode 0700), or check that an existing one is.

    With `root_group`, an existing one may be open to group 0: a container's user is in it whatever its number is.

    Raises:
        ConfigError: it cannot be made, or other users can enter it.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{directory}: cannot be made ({error.strerror}); name one that you may write") from error
    if root_group and directory.stat().st_gid == 0 and _read_mode(directory) & 0o007 == 0:
        return
    check_private(directory)


def write_atomically(path: Path, data: bytes, mode: int) -> None:
    """Write a file under its name all at once, never readable more widely than `mode`.

    Raises:
        ConfigError: it cannot be written.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) != mode:  # the umask took something away
                os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise ConfigError(f"{path}: cannot be written ({error.strerror})") from error


class RunDirectory:
    """A private directory for sockets and scratch files, made or taken over at the start and removed at the end.

    One that a killed run left behind is recognised by its marker and emptied; one that holds anything else is refused
    and left as it is.
    """

    def __init__(self, wanted: Path | None) -> None:
        try:
            self.path = Path(tempfile.mkdtemp(prefix="garrison-")) if wanted is None else _claim(wanted)
            self._lock = os.open(self.path / RUN_MARKER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            advice = "give another --run-dir"
            raise ConfigError(f"{wanted}: sockets cannot be made there ({error.strerror}); {advice}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise ConfigError(f"{self.path}: another server or gateway runs there; give another --run-dir") from error
        for left in self.path.iterdir():
            if left.name != RUN_MARKER:
                _remove(left)

    def remove(self) -> None:
        """Remove the directory and all that is in it; does nothing if somebody was faster."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _claim(wanted: Path) -> Path:
    wanted.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_unchanged_by_others(wanted)
    if any(wanted.iterdir()) and not (wanted / RUN_MARKER).is_file():
        raise ConfigError(f"{wanted}: not empty; give a directory that is empty or does not exist yet")
    wanted.chmod(0o700)
    return wanted.resolve()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
