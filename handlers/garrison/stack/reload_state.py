"""What a gateway notes about its configuration, for `garrison status --gateway`, which imports little."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from garrison.files import read_file, write_atomically

STATE_FILE = "reload.json"
_MOST_BYTES = 2**20
_MODE = 0o600


@dataclass(frozen=True)
class ReloadState:
    """What `garrison status --gateway` is told: a problem with the files, and whether Envoy took what was sound."""

    digest: str
    problem: str = ""
    taken: bool = True


def write_state(run_directory: Path, state: ReloadState) -> None:
    """Note it.

    Raises:
        ConfigError: it cannot be written.
    """
    write_atomically(run_directory / STATE_FILE, json.dumps(asdict(state)).encode() + b"\n", _MODE)


def read_state(run_directory: Path) -> ReloadState | None:
    """Return what the gateway that runs there has noted; None if it noted nothing."""
    try:
        values: Any = json.loads(read_file(run_directory / STATE_FILE, _MOST_BYTES))
        return ReloadState(**values)
    except (OSError, ValueError, TypeError):
        return None
