"""The sockets by which a gateway reaches a model server: a directory that both know, and who may connect in it.

Beside a gateway of the same user they are for that user alone. Where server and gateway are two containers with two
users, the directory is a volume that both mount, and the sockets are for its group as well; nobody else may enter it.
Management and everything else stay in the server's private run directory.

It does not defend against a member of that group who may write to the directory: mount it read-only for the gateway.
"""

import contextlib
import fcntl
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from garrison.errors import ConfigError

INFERENCE = "inference.sock"
READY = "ready.sock"
WATCH = "watch.sock"
GUARD_REST, GUARD_GRPC = "rest.sock", "grpc.sock"  # of a guard, beside its own READY
STATUS = "status.sock"  # the server's own, in its run directory: what it serves, and with which workers
ADMIN = "admin.sock"  # the gateway's own, in its run directory
GATEWAY_WATCH = "gateway-watch.sock"  # where its launcher says what it counts
BUDGET = "budget.sock"  # and that of the service which counts for it
SERVING_PATH = "/serving"  # asked at READY: does this server take requests? Any other path: has each model a worker?
LOCK_FILE = ".garrison"
PRIVATE_MODE, SHARED_MODE = 0o600, 0o660
_DIRECTORY_MODE = 0o770


SERVER_SOCKETS = (INFERENCE, READY, WATCH)
GUARD_SOCKETS = (GUARD_REST, GUARD_GRPC, READY, WATCH)


class SocketDirectory:
    """The directory where one server makes its sockets; those of a model server, if no others are named."""

    def __init__(self, path: Path, mode: int = PRIVATE_MODE, names: Sequence[str] = SERVER_SOCKETS) -> None:
        self.path = path
        self.mode = mode
        self.names = tuple(names)
        self._lock = -1

    @classmethod
    def claim(cls, wanted: Path, names: Sequence[str] = SERVER_SOCKETS) -> "SocketDirectory":
        """Take a directory for a server whose gateway is another user of the same group; make it if need be.

        Raises:
            ConfigError: others may enter it, another server uses it, or it cannot be used.
        """
        directory = cls(_open_directory(wanted), SHARED_MODE, names)
        directory._lock = _lock(directory.path)
        directory.clear()
        return directory

    def clear(self) -> None:
        """Remove the sockets that a server left behind; the next one would not start on them.

        Raises:
            ConfigError: something else bears such a name.
        """
        for name in self.names:
            path = self.path / name
            with contextlib.suppress(FileNotFoundError):
                if not stat.S_ISSOCK(path.lstat().st_mode):
                    raise ConfigError(f"{path}: is no socket; take it away, or give another --sockets")
                path.unlink()

    def grant(self, name: str) -> bool:
        """Let those connect to a socket who may, and say whether it is there; a server makes it for itself alone."""
        try:
            descriptor = os.open(self.path / name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            found = os.fstat(descriptor).st_mode
            if not stat.S_ISSOCK(found):
                return False
            if stat.S_IMODE(found) != self.mode:
                Path(f"/proc/self/fd/{descriptor}").chmod(self.mode)  # by its name it may be another by now
            return True
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Remove the sockets, and let another server take the directory."""
        with contextlib.suppress(ConfigError, OSError):
            self.clear()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _open_directory(wanted: Path) -> Path:
    try:
        if not wanted.is_dir():
            wanted.mkdir()
            wanted.chmod(_DIRECTORY_MODE)
        found = wanted.stat()
    except OSError as error:
        raise ConfigError(
            f"{wanted}: sockets cannot be made there ({error.strerror}); give another --sockets"
        ) from error
    if found.st_uid not in (0, os.geteuid()):
        raise ConfigError(f"{wanted}: belongs to another user (uid {found.st_uid}); give another --sockets")
    if found.st_mode & 0o007:
        raise ConfigError(f"{wanted}: everybody may enter it; run `chmod o-rwx {wanted}`")
    return wanted.resolve()


def _lock(directory: Path) -> int:
    """Lock a file that stays there: who removed it would let a second server in."""
    path = directory / LOCK_FILE
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be locked ({error.strerror}); give another --sockets") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise ConfigError(f"{directory}: another server has its sockets there; give each its own --sockets") from error
    return lock
