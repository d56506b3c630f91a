"""Write down what is done to clients' keys: a chained log beside them, never with a key in it.

What lets somebody in is written down before it is done, and not done where that fails. What shuts somebody out is done
first: whoever spoils the log must not keep a stolen key in force.
"""

import contextlib
import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from garrison.audit import LOG_FILE, AuditLog
from garrison.errors import Undecided


def note(event: str, directory: Path, **fields: Any) -> None:
    """Append an event to the log of the keys' directory, and return when it is on the disk.

    Raises:
        Undecided: the log is broken, or cannot be written.
    """
    _open(directory / LOG_FILE).append({"event": event, "uid": os.getuid(), **fields})


@contextlib.contextmanager
def noting_what_was_done(what: str) -> Iterator[None]:
    """Say of a failure to note something that it was done all the same.

    Raises:
        Undecided: the log is broken, or cannot be written.
    """
    try:
        yield
    except Undecided as error:
        raise Undecided(f"{what}, but not written down: {error}") from error


@functools.lru_cache(maxsize=16)
def _open(path: Path) -> AuditLog:
    """Return a log that knows what it has checked: who issues many keys does not read all of it for each."""
    return AuditLog(path)
