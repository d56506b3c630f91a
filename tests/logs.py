"""Read a log while it is being written: a line that is not complete yet does not count."""

import json
from pathlib import Path
from typing import Any


def read_events(path: Path) -> list[dict[str, Any]]:
    """Return the JSON objects of a log, a line each; Envoy's own words are left out."""
    return [json.loads(line) for line in complete_lines(path) if line.startswith("{")]


def complete_lines(path: Path) -> list[str]:
    written = path.read_text()
    return written[: written.rfind("\n") + 1].splitlines()
