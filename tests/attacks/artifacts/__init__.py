"""Hostile and benign files, written by generators: none of them is in the repository."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class HostileCase:
    """A file or directory that must be refused, for one of these reasons; `make` writes it into a directory."""

    name: str
    rules: frozenset[str]
    make: Callable[[Path], Path]


@dataclass(frozen=True)
class BenignCase:
    """A file or directory that must be accepted; `make` writes it into a directory."""

    name: str
    make: Callable[[Path], Path]
