"""Ask an independent scanner about the pickles of a model: their bytes enter, findings leave.

picklescan, chosen by measurement (docs/explanation.md), looks for names on a list of dangerous ones. Everything that it
could find is refused by `pickles` already, whose list is of the allowed ones; it is here in case that is wrong. It runs
as a process of its own, with bounds on time and memory, and gets copies: pickles only, never the weights. If it fails,
is missing, or answers what is not understood, that is a finding that refuses.
"""

import importlib.util
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from garrison.admission.findings import Finding
from garrison.errors import ConfigError

PACKAGE = "picklescan"
TIMEOUT_S = 300
MAX_MEMORY_BYTES = 4 * 2**30
CLEAN, FOUND = 0, 1
_SCANNED = re.compile(r"^Scanned files: ([0-9]{1,9})$", re.MULTILINE)
_PROGRAM = (
    "import resource, runpy, sys; "
    f"resource.setrlimit(resource.RLIMIT_AS, ({MAX_MEMORY_BYTES}, {MAX_MEMORY_BYTES})); "
    f"runpy.run_module('{PACKAGE}.cli', run_name='__main__', alter_sys=True)"
)


class Tripwire:
    """Collects the pickles of a scan, each under its place in the model, and has them scanned at the end."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._places: list[str] = []

    def add(self, place: str, data: bytes) -> None:
        """Put a pickle aside.

        Raises:
            ConfigError: there is no room.
        """
        try:
            (self._directory / f"{len(self._places)}.pkl").write_bytes(data)
        except OSError as error:
            raise _tell_full(error) from error
        self._places.append(place)

    def run(self) -> list[Finding]:
        """Return what the scanner says about all pickles."""
        if not self._places:
            return []
        if importlib.util.find_spec(PACKAGE) is None:
            return [_failed("it is not installed; install it with: pip install 'garrison[admission]'")]
        return judge(_start(self._directory), dict(enumerate(self._places)))


def judge(answer: "subprocess.CompletedProcess[str] | str", places: Mapping[int, str]) -> list[Finding]:
    """Read the scanner's answer; only one that was seen to scan every file, and to find nothing, is good."""
    if isinstance(answer, str):
        return [_failed(answer)]
    scanned = _SCANNED.search(answer.stdout)
    count = int(scanned[1]) if scanned else -1
    if answer.returncode == CLEAN and count == len(places):
        return []
    if answer.returncode == FOUND and count == len(places):  # Python itself exits with 1 when it crashes
        return [
            Finding(_name_places(answer.stdout, places), "scanner_found", f"{PACKAGE} calls it dangerous; leave it out")
        ]
    return [_failed(f"exit status {answer.returncode}, {count} of {len(places)} files scanned")]


def _start(directory: Path) -> "subprocess.CompletedProcess[str] | str":
    command = [sys.executable, "-I", "-c", _PROGRAM, "--path", str(directory)]
    environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": str(directory)}
    try:
        return subprocess.run(  # noqa: S603 - our own interpreter, and a directory of our own
            command, env=environment, cwd=directory, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {TIMEOUT_S} s"
    except (OSError, UnicodeDecodeError, subprocess.SubprocessError) as error:
        return f"it cannot be started ({type(error).__name__})"


def _name_places(output: str, places: Mapping[int, str]) -> str:
    numbers = {int(number) for number in re.findall(r"([0-9]{1,9})\.pkl", output)}
    named = [places[number] for number in sorted(numbers) if number in places]
    return named[0] if named else "the model"


def _failed(what: str) -> Finding:
    return Finding(PACKAGE, "scanner_failed", f"the scanner did not finish: {what}")


def make_directory() -> "tempfile.TemporaryDirectory[str]":
    """Return a private directory for the copies.

    Raises:
        ConfigError: there is no room.
    """
    try:
        return tempfile.TemporaryDirectory(prefix="garrison-scan-")
    except OSError as error:
        raise _tell_full(error) from error


def _tell_full(error: OSError) -> ConfigError:
    return ConfigError(f"temporary files cannot be written ({error.strerror}); make room, or name another TMPDIR")
