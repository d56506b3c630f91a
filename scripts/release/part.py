"""One part of an image, as a bill of materials names it."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

CHUNK = 1 << 20


@dataclass(frozen=True)
class Part:
    """A package, a jar, a library in a jar, or a program.

    `licence` is an SPDX expression, or, where nobody reviewed it yet, what the package says. `sha256` is that of the
    file at `where`; `accepted_sha256` are those of the archives that it may have been installed from.
    """

    kind: Literal["library", "application", "platform"]
    name: str
    version: str
    purl: str
    licence: str
    where: str
    sha256: str = ""
    accepted_sha256: tuple[str, ...] = ()


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
