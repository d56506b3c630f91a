"""Read a built image: its name enters; its settings, its layers' files and what they add up to leave.

Only `docker save` is used, so nothing is started. Files are read, never written anywhere.
"""

import contextlib
import hashlib
import json
import posixpath
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any, Literal

from release.docker import ask_docker
from release.errors import ReleaseError

SAVE_TIMEOUT_S = 600
WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"
CHUNK = 1 << 20
CAPABILITIES = "SCHILY.xattr.security.capability"  # how Docker's archives name this attribute of a file
KINDS: Mapping[bytes, Literal["file", "directory", "symlink", "hard link"]] = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "symlink",
    tarfile.LNKTYPE: "hard link",
}


@dataclass(frozen=True)
class Entry:
    """One path in an image, without its times. `content` is the SHA-256 of a file, or where a link leads.

    A `capable` file gives its capabilities to whoever starts it.
    """

    kind: str
    mode: int
    user: int
    group: int
    content: str = ""
    capable: bool = False


@dataclass(frozen=True)
class LayerFile:
    """A plain file in one layer, which a later layer may have removed; `layer` counts from 1."""

    layer: int
    path: str
    size: int
    data: IO[bytes]


class Image:
    """A saved image, open as long as `open_image` is."""

    def __init__(self, name: str, archive: tarfile.TarFile) -> None:
        self.name = name
        self._archive = archive
        manifest = self._read_json("manifest.json")[0]
        self.settings: dict[str, Any] = self._read_json(manifest["Config"])
        self._layers: list[str] = manifest["Layers"]

    def entries(self) -> dict[str, Entry]:
        """Return what the layers add up to, by path."""
        entries: dict[str, Entry] = {}
        for _, members in self._read_layers():
            added: dict[str, Entry] = {}
            for archive, member in members:
                directory, name = posixpath.split(_clean(member.name))
                if name == OPAQUE:
                    _remove_below(entries, directory)
                elif name.startswith(WHITEOUT):
                    removed = posixpath.join(directory, name.removeprefix(WHITEOUT))
                    entries.pop(removed, None)
                    _remove_below(entries, removed)
                else:
                    added[posixpath.join(directory, name)] = _entry(archive, member)
            entries |= added
        return entries

    def files(self) -> Iterator[LayerFile]:
        """Go through the plain files of every layer, also those that a later layer removed."""
        for number, members in self._read_layers():
            for archive, member in members:
                if member.isfile() and (data := archive.extractfile(member)) is not None:
                    yield LayerFile(number, _clean(member.name), member.size, data)

    def _read_layers(self) -> Iterator[tuple[int, Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]]]:
        for number, name in enumerate(self._layers, 1):
            with tarfile.open(fileobj=self._archive.extractfile(name), mode="r:*") as layer:
                yield number, ((layer, member) for member in layer)

    def _read_json(self, name: str) -> Any:
        file = self._archive.extractfile(name)
        if file is None:
            raise ReleaseError(f"{self.name}: {name} is no file in what `docker save` wrote")
        return json.load(file)


@contextlib.contextmanager
def open_image(name: str) -> Iterator[Image]:
    """Give an image of the local engine.

    Raises:
        ReleaseError: there is none of this name, or it cannot be read.
    """
    with tempfile.NamedTemporaryFile(suffix=".tar") as saved:
        ask_docker(
            *("save", "--output", saved.name, "--", name), about=f"{name}: cannot be saved", timeout_s=SAVE_TIMEOUT_S
        )
        try:
            with tarfile.open(saved.name) as archive:
                yield Image(name, archive)
        except (tarfile.TarError, KeyError, ValueError) as error:
            raise ReleaseError(f"{name}: what `docker save` wrote cannot be read ({error})") from error


def _entry(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Entry:
    kind = KINDS.get(member.type, f"type {member.type!r}")
    content = member.linkname if kind in ("symlink", "hard link") else ""
    if member.isfile() and (data := archive.extractfile(member)) is not None:
        digest = hashlib.sha256()
        while chunk := data.read(CHUNK):
            digest.update(chunk)
        content = digest.hexdigest()
    return Entry(kind, member.mode, member.uid, member.gid, content, CAPABILITIES in member.pax_headers)


def _clean(name: str) -> str:
    return posixpath.normpath("/" + name.lstrip("/"))


def _remove_below(entries: dict[str, Entry], directory: str) -> None:
    below = directory.rstrip("/") + "/"
    for path in [path for path in entries if path.startswith(below)]:
        del entries[path]
