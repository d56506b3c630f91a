"""What a cell on this machine holds, and what is said where the kernel lacks a part."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from garrison.cell import probe
from garrison.cell.posture import judge
from garrison.cell.probe import probe_posture
from garrison.cell.settings import CellSettings
from garrison.cell.trials import ATTEMPTS, LANDLOCK, LIMITS, NETWORK, PARTS, PROCESS
from garrison.errors import Undecided
from lacking import LANDLOCK as LANDLOCK_CALL
from lacking import SECCOMP as SECCOMP_CALL
from lacking import lack

SETTINGS = CellSettings(2 * 2**30, 64, 16 * 2**20, 100)
SCRIPT = """
import json, sys
from garrison.cell.probe import probe_posture
from garrison.cell.settings import CellSettings
from garrison.errors import ConfigError
try:
    held = probe_posture(CellSettings(2**31, 64, 2**24, 100, unsafe_without=tuple(sys.argv[1:]))).held
    print(json.dumps(held))
except ConfigError as error:
    print(json.dumps(str(error)))
"""


def probe_without(*calls, unsafe=()):
    """Probe in a process for which the kernel lacks system calls; return what is held, or the refusal."""
    command = [*lack(*calls), sys.executable, "-I", "-c", SCRIPT, *unsafe]
    return json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)


def test_here_everything_holds():
    posture = probe_posture(SETTINGS)
    assert [trial for trial in posture.trials if not trial.held] == []
    assert [trial.what for trial in posture.trials] == [attempt.what for attempt in ATTEMPTS]
    judge(posture, SETTINGS)


def test_the_settings_are_those_of_a_worker():
    posture = probe_posture(SETTINGS)
    assert (posture.rlimits["DATA"], posture.rlimits["FSIZE"]) == (SETTINGS.memory_bytes, SETTINGS.scratch_max_bytes)


@pytest.mark.parametrize("unsafe", [(), ("landlock",), ("landlock", "seccomp")], ids=str)
def test_what_may_be_missing_and_is_there_is_used(unsafe):
    assert probe_without(unsafe=unsafe) == dict.fromkeys(PARTS, True)


@pytest.mark.parametrize("unsafe", [(), ("landlock",), ("seccomp",), ("landlock", "seccomp")], ids=str)
@pytest.mark.parametrize(
    ("calls", "lost"),
    [
        ([LANDLOCK_CALL], {LANDLOCK}),
        ([SECCOMP_CALL], {"seccomp", NETWORK, PROCESS}),
        ([LANDLOCK_CALL, SECCOMP_CALL], {LANDLOCK, "seccomp", NETWORK, PROCESS}),
    ],
    ids=["no Landlock", "no seccomp", "neither"],
)
def test_what_the_kernel_lacks_is_not_held_and_the_rest_is(calls, lost, unsafe):
    assert probe_without(*calls, unsafe=unsafe) == {part: part not in lost for part in PARTS}
    assert LIMITS not in lost


def test_a_cell_that_cannot_be_closed_at_all_is_a_refusal_that_says_why():
    assert "cannot be closed on this machine: " in probe_without("capset")
    assert "capabilities cannot be dropped" in probe_without("capset")


def test_a_cell_that_takes_too_long_is_undecided(monkeypatch):
    monkeypatch.setattr(probe, "TIMEOUT_S", 0.001)
    with pytest.raises(Undecided, match="within"):
        probe_posture(SETTINGS)


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    probe_posture(SETTINGS)
    assert list(Path(tmp_path).iterdir()) == []
