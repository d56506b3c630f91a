"""Debian packages in a root directory, from `/var/lib/dpkg/status.d/*` or `/var/lib/dpkg/status`.

An image that is put together from packages' files has no package manager; what was installed is kept the way in which
scanners look for it. The licence is one that somebody read in the package's copyright file, which has to be there too.
"""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from release.errors import ReleaseError
from release.licences import Licences
from release.part import Part

STATUS = "var/lib/dpkg/status"
STATUS_DIRECTORY = "var/lib/dpkg/status.d"


def list_debian(root: Path, licences: Licences) -> Iterator[Part]:
    """Go through the installed packages.

    Raises:
        ReleaseError: with every entry without a name or version, and every package without its copyright file.
    """
    problems = []
    release = _read_codename(root)
    for where, entry in _read_entries(root):
        name, version = entry.get("Package", ""), entry.get("Version", "")
        if "deinstall" in entry.get("Status", "").split():
            continue
        if not name or not version:
            problems.append(f"{where}: an entry without Package or Version")
        elif not (root / "usr/share/doc" / name / "copyright").is_file():
            problems.append(f"/usr/share/doc/{name}/copyright: is missing; an image ships what its licences ask for")
        else:
            source = entry.get("Source", name).split()[0]
            distribution = f"&distro=debian-{release}" if release else ""
            architecture = entry.get("Architecture", "all")
            purl = f"pkg:deb/debian/{quote(name)}@{quote(version, safe='')}?arch={architecture}{distribution}"
            yield Part("library", name, version, purl, licences.of_debian(source), where)
    if problems:
        raise ReleaseError(*problems)


def _read_entries(root: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Go through the entries, each with the path that it is in."""
    directory = root / STATUS_DIRECTORY
    files = sorted(path for path in directory.glob("*") if path.is_file() and path.suffix != ".md5sums")
    if (root / STATUS).is_file():
        files.append(root / STATUS)
    for path in files:
        for paragraph in path.read_text(errors="replace").split("\n\n"):
            fields = (line.partition(":") for line in paragraph.splitlines() if not line.startswith((" ", "\t")))
            entry = {name: value.strip() for name, _, value in fields if value}
            if entry:
                yield f"/{path.relative_to(root)}", entry


def _read_codename(root: Path) -> str:
    """Return Debian's version, `12`, as the image says it."""
    for path in (root / "usr/lib/os-release", root / "etc/os-release"):
        if path.is_file():
            lines = (line.partition("=") for line in path.read_text().splitlines())
            return {name: value.strip('"') for name, _, value in lines}.get("VERSION_ID", "")
    return ""
