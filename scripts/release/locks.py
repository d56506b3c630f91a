"""A lock: the text of `requirements/*.lock` enters, versions and hashes by package leave."""

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from release.errors import ReleaseError

PIN = re.compile(r"^([a-z0-9][a-z0-9._-]*)==([^\s\\;]+)", re.MULTILINE)
HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True)
class Pin:
    """One version of a package, and the SHA-256 of each archive that pip may install it from."""

    version: str
    sha256: tuple[str, ...]


@dataclass(frozen=True)
class Lock:
    """What a lock allows; `name` is the file's."""

    name: str
    pins: Mapping[str, Pin]


def read_lock(path: Path) -> Lock:
    """Read a lock.

    Raises:
        ReleaseError: it cannot be read, names no package, or one without a hash.
    """
    try:
        text = path.read_text()
    except OSError as error:
        raise ReleaseError(f"{path}: cannot be read ({error.strerror})") from error
    starts = [*(match.start() for match in PIN.finditer(text)), len(text)]
    blocks = [text[start:end] for start, end in itertools.pairwise(starts)]
    pins = {}
    for block in blocks:
        name, version = PIN.match(block).groups()  # type: ignore[union-attr] # a block begins with one
        pins[canonical(name)] = Pin(version, tuple(HASH.findall(block)))
    if not pins:
        raise ReleaseError(f"{path}: names no package; write it with scripts/lock")
    if unhashed := sorted(name for name, pin in pins.items() if not pin.sha256):
        raise ReleaseError(f"{path}: no hash for {', '.join(unhashed)}; write it with scripts/lock")
    return Lock(path.name, pins)


def canonical(name: str) -> str:
    """Return a package's name as PEP 503 writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()
