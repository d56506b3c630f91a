"""Read an image as who pulls it can: every layer, also what a later one hides, and every file's state."""

import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

SAVE_TIMEOUT_S = 300
MAX_READ_BYTES = 256 * 1024  # keys and settings are small; wheels' libraries are not read
CAPABILITY = "SCHILY.xattr.security.capability"


@dataclass(frozen=True)
class Entry:
    """A file of a layer: its path, owner and mode, whether it has capabilities, and how it begins."""

    path: str
    is_link: bool
    mode: int
    owner: int
    capable: bool
    head: bytes


def read_layers(image: str) -> Iterator[Entry]:
    """Yield every entry of every layer of an image, as `docker save` writes it."""
    with tempfile.TemporaryFile() as saved:
        subprocess.run(["docker", "save", image], stdout=saved, timeout=SAVE_TIMEOUT_S, check=True)
        saved.seek(0)
        with tarfile.open(fileobj=saved) as outer:
            for member in outer:
                if (member.isfile() and member.name.endswith((".tar", "/layer"))) or is_blob(outer, member):
                    layer = outer.extractfile(member)
                    assert layer is not None
                    with tarfile.open(fileobj=layer) as inner:
                        yield from (read_entry(inner, found) for found in inner)


def is_blob(outer: tarfile.TarFile, member: tarfile.TarInfo) -> bool:
    """Whether a blob of newer engines' format is a layer: the others are JSON."""
    if not (member.isfile() and member.name.startswith("blobs/")):
        return False
    blob = outer.extractfile(member)
    return blob is not None and blob.read(1) != b"{"


def read_entry(layer: tarfile.TarFile, found: tarfile.TarInfo) -> Entry:
    """Return what matters of an entry of a layer."""
    content = layer.extractfile(found) if found.isfile() else None
    head = content.read(MAX_READ_BYTES) if content else b""
    capable = CAPABILITY in found.pax_headers
    return Entry(f"/{found.name}", found.issym() or found.islnk(), found.mode, found.uid, capable, head)
