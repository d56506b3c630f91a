"""Write key material so that no other user reads it and no crash leaves half of it."""

import os
import secrets
from pathlib import Path

from garrison.errors import ConfigError


def make_private_directory(directory: Path) -> None:
    """Make a directory that only its owner can enter (mode 0700), or check that an existing one is.

    Raises:
        ConfigError: it cannot be made, or other users can enter it.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = directory.stat().st_mode & 0o777
    except OSError as error:
        raise ConfigError(f"{directory}: cannot be made ({error.strerror}); name one that you may write") from error
    if mode & 0o077:
        raise ConfigError(f"{directory}: other users can enter it (mode {mode:04o}); run `chmod 700 {directory}`")


def write_atomically(path: Path, data: bytes, mode: int) -> None:
    """Write a file under its name all at once, never readable more widely than `mode`.

    Raises:
        ConfigError: it cannot be written.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)  # whatever the umask took away
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise ConfigError(f"{path}: cannot be written ({error.strerror})") from error
