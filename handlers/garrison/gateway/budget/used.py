"""What clients have used of their budgets, for whoever watches: a ratio each, as of its last request of this day.

The service writes it down beside its plan, and the gateway's launcher reads it. Nothing is decided by it.
"""

import json
import time
from pathlib import Path

from garrison.errors import ConfigError
from garrison.files import read_file, write_atomically
from garrison.gateway.budget.ledger import BUDGET_USED, DAY_S, Verdict

USED_FILE = "budgets-used.json"
_MOST_BYTES = 2**22


class Used:
    """The ratios of one day, by client."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._day = 0
        self._ratios: dict[str, float] = {}
        self._written: dict[str, float] = {}

    def note(self, client: str, verdict: Verdict) -> None:
        """Remember what a verdict says."""
        self._turn_page()
        if not verdict.reason or verdict.reason == BUDGET_USED:
            self._ratios[client] = verdict.used_ratio

    def write(self) -> None:
        """Write the file if anything has changed; what cannot be written is tried again the next time."""
        self._turn_page()
        if self._ratios != self._written:
            try:
                write_atomically(self._path, json.dumps(self._ratios).encode(), 0o600)
            except ConfigError:
                return
            self._written = dict(self._ratios)

    def _turn_page(self) -> None:
        today = int(time.time()) // DAY_S
        if today != self._day:
            self._day, self._ratios = today, {}


def read_used(directory: Path) -> dict[str, float]:
    """Return the ratios by client; none if nothing was written yet, or it cannot be read."""
    try:
        found = json.loads(read_file(directory / USED_FILE, _MOST_BYTES))
        return {str(client): float(ratio) for client, ratio in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
