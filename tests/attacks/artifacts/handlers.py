"""Handlers and model files: hostile ones that would touch the canary, and ordinary ones.

The canary is the file that GARRISON_CANARY names when a case is made, or `canary` beside it.
"""

import os
from collections.abc import Callable
from pathlib import Path

from attacks.artifacts import BenignCase, HostileCase
from attacks.artifacts.hostile_handlers import CODED, SOURCES
from attacks.artifacts.ordinary_handlers import HANDLERS, MODELS

EXAMPLES = Path(__file__).resolve().parents[3] / "docs/examples"


def list_hostile() -> list[HostileCase]:
    """Return all hostile handlers."""
    written = [_hostile(name, rules, _place(source)) for name, (rules, source) in SOURCES.items()]
    return written + [_hostile(name, rules, make) for name, (rules, make) in CODED.items()]


def _place(source: str) -> Callable[[str], bytes]:
    return lambda canary: _spell(source, canary).encode()


def _spell(source: str, canary: str) -> str:
    """Put the canary's path where the source says CANARY: as a literal, or as a name where text becomes code."""
    head, found, rest = source.partition("import torch\n")
    return f"{head}{found}CANARY = {canary!r}\n{rest}" if found else source


def _hostile(name: str, rules: set[str], write: Callable[[str], bytes]) -> HostileCase:
    def make(directory: Path) -> Path:
        path = directory / "handler.py"
        path.write_bytes(write(os.environ.get("GARRISON_CANARY", str(directory / "canary"))))
        return path

    return HostileCase(name, frozenset(rules), make)


def list_benign() -> list[BenignCase]:
    """Return ordinary handlers and model files, those of the documentation first."""
    shown = sorted([*EXAMPLES.glob("*/handler.py"), *EXAMPLES.glob("*/model.py")])
    cases = [_benign(f"example-{path.parent.name}-{path.stem}", path.name, path.read_text()) for path in shown]
    cases += [_benign(f"handler-{name}", "handler.py", source) for name, source in HANDLERS.items()]
    return cases + [_benign(f"model-{name}", "model.py", source) for name, source in MODELS.items()]


def _benign(name: str, file: str, source: str) -> BenignCase:
    def make(directory: Path) -> Path:
        path = directory / file
        path.write_text(source)
        return path

    return BenignCase(name, make)
