"""What the service is told: where to count, and who may use how much.

It is rendered into Envoy's configuration, which ignores it; who runs Envoy takes it from there and writes it into a
file for the service, again when it changes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from garrison.errors import ConfigError
from garrison.files import read_file
from garrison.gateway.budget.allowances import Allowances, read_allowances
from garrison.gateway.budget.place import Place, read_place

MOST_FILE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Plan:
    """Where to count, and what is allowed."""

    place: Place
    directory: Path  # of the file, where it is one
    allowances: Allowances

    def describe(self) -> dict[str, Any]:
        """Return it as plain values, for JSON."""
        return {"place": self.place.describe(), "directory": str(self.directory), **self.allowances.describe()}


def read_plan(described: Mapping[str, Any]) -> Plan:
    """Return what `describe` made plain values of.

    Raises:
        ConfigError: it is something else.
    """
    try:
        return Plan(read_place(described["place"]), Path(described["directory"]), read_allowances(described))
    except (KeyError, TypeError) as error:
        raise ConfigError(f"not a gateway's budgets ({error}); render its configuration anew") from error


def load_plan(path: Path) -> Plan:
    """Read a plan from its file.

    Raises:
        ConfigError: it cannot be read, or is something else.
    """
    try:
        return read_plan(json.loads(read_file(path, MOST_FILE_BYTES)))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from error
