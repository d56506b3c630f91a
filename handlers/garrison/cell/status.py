"""What a supervisor says about its worker: one small file each, written by the supervisor, read by the launcher.

The files lie where no cell can see them. They are read with care all the same: on a kernel without Landlock, where
somebody chose to start without it, a worker could write there. What cannot be read is a worker of which nothing holds.
"""

import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from garrison.cell.posture import Posture, read_posture, render_posture
from garrison.errors import ConfigError, Undecided

CLOSING, LOADING, SERVING, ENDED, UNREADABLE = STAGES = ("closing", "loading", "serving", "ended", "unreadable")
MOST_BYTES = 128 * 1024
MOST_FILES = 2000
MOST_VIOLATIONS = 1000
MOST_COUNT = 2**63
_FILE_NAME = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]{0,63})\.([1-9][0-9]{0,9})\.json")
_VIOLATION = re.compile(r"(closing|loading|serving)/[a-z0-9_ ]{1,40}")
_COUNTS = ("pid", "supervisor", "output_dropped_bytes", "threads", "memory_bytes", "scratch_bytes")
_MOST_TEXT = 500


@dataclass(frozen=True)
class Status:
    """One worker: `violations` counts forbidden calls by "stage/name", `ended` says why it ended, if it did."""

    model: str
    pid: int
    supervisor: int
    stage: str
    posture: Posture | None = None
    violations: Mapping[str, int] = field(default_factory=dict)
    output_dropped_bytes: int = 0
    threads: int = 0
    memory_bytes: int = 0
    scratch_bytes: int = 0
    ended: str = ""


def name_status(model: str, supervisor: int) -> str:
    """Return the name of a supervisor's file."""
    return f"{model}.{supervisor}.json"


def write_status(path: Path, status: Status) -> None:
    """Write a status under its name all at once; it need not outlive a power cut.

    Raises:
        ConfigError: it cannot be written: what is not reported is not seen.
    """
    posture = None if status.posture is None else render_posture(status.posture)
    values = {**asdict(status), "posture": posture, "violations": {**status.violations}}
    draft = path.with_name(f".{path.name}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(json.dumps(values).encode())
        draft.replace(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror})") from error


def read_statuses(directory: Path) -> tuple[Status, ...]:
    """Read all status files of a directory, sorted by name; one that cannot be read has the stage "unreadable".

    Raises:
        Undecided: the directory cannot be read, or holds more files than supervisors can have made.
    """
    try:
        names = sorted(path.name for path in directory.iterdir() if _FILE_NAME.fullmatch(path.name))
    except OSError as error:
        raise Undecided(f"{directory}: cannot be read ({error.strerror})") from error
    if len(names) > MOST_FILES:
        raise Undecided(f"{directory}: more than {MOST_FILES} status files")
    return tuple(status for name in names if (status := _read_status(directory / name)) is not None)


def _read_status(path: Path) -> Status | None:
    match = _FILE_NAME.fullmatch(path.name)
    if match is None:
        return None
    model, supervisor = match[1], int(match[2])
    try:
        status = _parse(json.loads(_read_plain_file(path)))
    except FileNotFoundError:
        return None  # swept in between
    except (OSError, ValueError, RecursionError, Undecided):
        return Status(model, 0, supervisor, UNREADABLE)
    if (status.model, status.supervisor) != (model, supervisor):
        return Status(model, 0, supervisor, UNREADABLE)
    return status


def _read_plain_file(path: Path) -> bytes:
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        data = file.read(MOST_BYTES + 1) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else b""
    if not 0 < len(data) <= MOST_BYTES:
        raise Undecided("not a plain file of a status' size")
    return data


def _parse(values: Any) -> Status:
    if not isinstance(values, dict) or values.keys() != Status.__dataclass_fields__.keys() or not _is_sound(values):
        raise Undecided("not a status")
    posture = None if values["posture"] is None else read_posture(values["posture"])
    return Status(**{**values, "posture": posture})


def _is_sound(values: dict[str, Any]) -> bool:
    violations, ended = values["violations"], values["ended"]
    return (
        isinstance(values["model"], str)
        and values["stage"] in STAGES
        and all(_is_count(values[name]) for name in _COUNTS)
        and isinstance(ended, str)
        and len(ended) <= _MOST_TEXT
        and isinstance(violations, dict)
        and len(violations) <= MOST_VIOLATIONS
        and all(_VIOLATION.fullmatch(name) and _is_count(count) for name, count in violations.items())
    )


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < MOST_COUNT
