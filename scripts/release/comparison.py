"""What differs between two images: their files enter, differences by path leave. Times are not compared."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from release.layers import Entry

MEASURED = ("User", "Env", "Entrypoint", "Cmd", "WorkingDir", "ExposedPorts", "Volumes", "StopSignal", "Healthcheck")


@dataclass(frozen=True)
class Difference:
    """One path, or one setting, and how it is different: `only in A`, `only in B`, or what is not the same."""

    path: str
    how: str


def compare_entries(first: Mapping[str, Entry], second: Mapping[str, Entry]) -> list[Difference]:
    """Return what is different, by path."""
    differences = []
    for path in sorted(first.keys() | second.keys()):
        a, b = first.get(path), second.get(path)
        if a is None or b is None:
            differences.append(Difference(path, f"only in {'A' if b is None else 'B'}"))
        elif a != b:
            differences.append(Difference(path, "; ".join(_say_differences(a, b))))
    return differences


def compare_settings(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Difference]:
    """Return which of the settings that a container runs with are different; labels and dates are not among them."""
    a, b = first.get("config") or {}, second.get("config") or {}
    return [Difference(name, f"{a.get(name)!r}, {b.get(name)!r}") for name in MEASURED if a.get(name) != b.get(name)]


def digest_contents(entries: Mapping[str, Entry], settings: Mapping[str, Any]) -> str:
    """Return one SHA-256 over all files and settings: two images have the same one if nothing differs."""
    configuration = settings.get("config") or {}
    values = {
        "entries": {path: asdict(entry) for path, entry in entries.items()},
        "settings": {name: configuration.get(name) for name in MEASURED},
    }
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _say_differences(a: Entry, b: Entry) -> Iterator[str]:
    for field in fields(Entry):
        before, after = getattr(a, field.name), getattr(b, field.name)
        if before != after and field.name == "mode":
            yield f"mode {before:o}, {after:o}"
        elif before != after:
            yield f"{field.name} {before}, {after}"
