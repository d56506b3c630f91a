"""Find out what a cell on this machine holds: settings enter, the posture of a throw-away cell leaves.

A worker's cell is closed around nothing, by the same supervisor and with the same rules as a real one, in a process of
its own, and its posture is read from what that supervisor writes. If it cannot be closed because the kernel lacks a
part, it is closed without, so that the rest can still be tried; what is missing shows as not held.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from garrison.cell.inside import Inside
from garrison.cell.plan import find_scratches, find_status, make_plan
from garrison.cell.posture import Posture
from garrison.cell.settings import RENDERED_FILE, UNSAFE_WITHOUT, CellSettings, render
from garrison.cell.status import read_statuses
from garrison.cell.supervisor import Supervisor
from garrison.errors import ConfigError, GarrisonError, Undecided

TIMEOUT_S = 30
_MODEL = "probe"
_MOST_TOLD_CHARACTERS = 500


class Nothing:
    """The task of a cell that is closed only to be looked at."""

    def prepare(self) -> None:
        """Import nothing."""

    def run(self, inside: Inside) -> None:
        """Do nothing."""


def probe_posture(settings: CellSettings) -> Posture:
    """Close a cell, try everything in it, and return what was found.

    Raises:
        ConfigError: it cannot be closed, even without what the kernel may lack.
        Undecided: it took too long.
    """
    told = ""
    for unsafe in (settings.unsafe_without, UNSAFE_WITHOUT):
        with tempfile.TemporaryDirectory(prefix="garrison-probe-") as directory:
            run = Path(directory).resolve()
            for part in (run / "cells", run / "models" / _MODEL, find_scratches(run)):
                part.mkdir(parents=True)
            render(replace(settings, unsafe_without=unsafe), run / "cells" / RENDERED_FILE)
            told = _close_cell(run)
            postures = [status.posture for status in read_statuses(run / "cells") if status.posture is not None]
            if postures:
                return postures[0]
    raise ConfigError(f"cell: cannot be closed on this machine: {told}")


def main() -> None:
    """Supervise a cell in which nothing is done, in the run directory that is the only argument."""
    run = Path(sys.argv[1])
    os.umask(0o077)
    try:
        plan = make_plan(run / "cells", run / "models" / _MODEL, lambda scratch: {"HOME": str(scratch)})
        sys.exit(Supervisor(plan, Nothing(), find_status(run / "cells", plan.model)).run())
    except GarrisonError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)


def _close_cell(run: Path) -> str:
    """Close a cell in a process of its own, wait for its end, and return the last that was said."""
    command = [sys.executable, "-I", "-m", __spec__.name, str(run)]
    with subprocess.Popen(  # noqa: S603 - the command is ours
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={"LANG": "C.UTF-8"}
    ) as process:
        try:
            process.wait(TIMEOUT_S)  # what is said fits in the pipe; an open standard input means that it is wanted
        except subprocess.TimeoutExpired as error:
            raise Undecided(f"a cell was not closed and tried within {TIMEOUT_S} s") from error
        finally:
            process.kill()
        lines = process.stdout.read().decode("utf-8", "replace").splitlines() if process.stdout else []
    return _message(lines[-1])[:_MOST_TOLD_CHARACTERS] if lines else "nothing was said"


def _message(line: str) -> str:
    try:
        return str(json.loads(line)["message"])
    except (ValueError, KeyError, TypeError):
        return line


if __name__ == "__main__":
    main()
