"""Weights that are programs.

A pickle runs when it is read, and a model is read before anybody looks at its answers. Scanners that list dangerous
names have been passed by names that they did not list, by archives that they read differently from torch, by pickles
that are broken only behind the call, and by formats that they did not open. Here what is not on a list of formats and
names is refused, and nothing of what is examined is run: every file below would create a canary.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from attacks.artifacts import BenignCase, HostileCase
from attacks.artifacts.weights import list_benign, list_firing, list_hostile
from garrison.admission.findings import refusals
from garrison.admission.scan import scan_paths

HOSTILE, BENIGN, FIRING = list_hostile(), list_benign(), list_firing()


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file that a payload would create; a test in which it appears has failed."""
    path = tmp_path / "canary"
    monkeypatch.setenv("GARRISON_CANARY", str(path))
    monkeypatch.chdir(tmp_path)
    return path


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory to make a file in."""
    directory = tmp_path / "made"
    directory.mkdir()
    return directory


@pytest.mark.contained
@pytest.mark.parametrize("case", HOSTILE, ids=lambda case: case.name)
def test_hostile_weights_are_refused_for_the_right_reason(case: HostileCase, place: Path, canary: Path) -> None:
    found = refusals(scan_paths([case.make(place)], tripwire=False))
    assert found
    assert found[0].rule in case.rules
    assert not canary.exists()


@pytest.mark.contained
@pytest.mark.parametrize("case", BENIGN, ids=lambda case: case.name)
def test_what_exporters_write_passes(case: BenignCase, place: Path) -> None:
    assert scan_paths([case.make(place)]) == []


@pytest.mark.contained
def test_all_hostile_weights_in_one_directory_are_each_refused(place: Path, canary: Path) -> None:
    made = []
    for number, case in enumerate(HOSTILE[::5]):
        (place / str(number)).mkdir()
        made.append(case.make(place / str(number)))
    for path in made:
        assert refusals(scan_paths([path], tripwire=False))
    assert refusals(scan_paths([place]))
    assert not canary.exists()


def test_the_corpus_is_as_large_as_promised() -> None:
    assert len({case.name for case in HOSTILE}) == len(HOSTILE) >= 200
    assert len({case.name for case in BENIGN}) == len(BENIGN) >= 45
    assert len(FIRING) >= 35


# Without the gate -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("case", "program"), FIRING, ids=[case.name for case, _ in FIRING])
def test_loaded_without_a_scan_the_canary_appears(case: HostileCase, program: str, place: Path, canary: Path) -> None:
    environment = {"GARRISON_CANARY": str(canary), "PATH": os.environ["PATH"]}
    command = [sys.executable, "-W", "ignore", "-c", program, str(case.make(place))]
    subprocess.run(command, env=environment, cwd=canary.parent, capture_output=True, timeout=120, check=False)
    assert canary.exists()
