"""What a worker's cell holds where Landlock is older than this kernel's: all of it, seccomp forbids the rest."""

import subprocess
from pathlib import Path

import pytest

from garrison.cell.landlock import list_gaps, probe_abi
from garrison.cell.plan import find_scratches
from garrison.cell.posture import Posture, find_faults
from garrison.cell.settings import RENDERED_FILE, CellSettings, render
from garrison.cell.status import read_statuses
from older import older

SETTINGS = CellSettings(2 * 2**30, 64, 16 * 2**20, 100)
TIMEOUT_S = 60


def probe_on(abi: int, run: Path) -> Posture:
    """Close a cell as `garrison.cell.probe` does, under a version of Landlock, and return what was found in it."""
    for part in (run / "cells", run / "models" / "probe", find_scratches(run)):
        part.mkdir(parents=True)
    render(SETTINGS, run / "cells" / RENDERED_FILE)
    command = [*older(abi), "garrison.cell.probe", str(run)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            process.wait(TIMEOUT_S)  # an open standard input means that the cell is wanted
        finally:
            process.kill()
        said = process.stdout.read().decode() if process.stdout else ""
    postures = [status.posture for status in read_statuses(run / "cells") if status.posture is not None]
    assert postures, said
    return postures[0]


@pytest.mark.parametrize("abi", range(1, probe_abi() + 1))
def test_a_worker_s_cell_holds_with_any_landlock(tmp_path: Path, abi: int) -> None:
    found = probe_on(abi, tmp_path)
    assert found.landlock_abi == abi
    assert find_faults(found, SETTINGS) == {}


def test_there_are_gaps_that_seccomp_has_to_close() -> None:
    assert len(list_gaps(1)) > len(list_gaps(probe_abi()))
