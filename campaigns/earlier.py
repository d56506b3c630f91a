"""Garrison as it was at an earlier commit, ready to run: a commit enters, an interpreter and a configuration leave.

The files come out of git; torch and all other packages are those of this checkout, so only Garrison differs.
"""

import subprocess
import sys
import sysconfig
import tarfile
import venv
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from campaigns.result import REPOSITORY

KEPT = ("handlers", "config", "scripts", "models")


@dataclass(frozen=True)
class Earlier:
    """Where an earlier Garrison lies."""

    commit: str
    python: Path
    config: Path


def check_out(commit: str, directory: Path) -> Earlier:
    """Put an earlier Garrison into a directory."""
    command = ["git", "-C", str(REPOSITORY), "archive", commit, *KEPT]
    archive = subprocess.run(command, capture_output=True, check=True).stdout  # noqa: S603 - our own command
    with tarfile.open(fileobj=BytesIO(archive)) as files:
        files.extractall(directory / "source", filter="data")
    return Earlier(commit, _make_python(directory), directory / "source" / "config")


def _make_python(directory: Path) -> Path:
    """Make an interpreter whose first place for packages is the earlier source; the second one are this checkout's."""
    venv.create(directory / "python", symlinks=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = directory / "python" / "lib" / version / "site-packages"
    places = (directory / "source" / "handlers", sysconfig.get_path("purelib"))
    (packages / "places.pth").write_text("".join(f"{place}\n" for place in places))
    return directory / "python" / "bin" / "python"
