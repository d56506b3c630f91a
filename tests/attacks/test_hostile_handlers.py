"""A model's author, or whoever got at a model, hides in `handler.py` what runs when it is loaded or asked.

Each case would touch a canary file. A server without admission runs them, and the canaries appear; vetting refuses
every one, for the reason that is its due, and runs none.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from attacks.artifacts.handlers import list_benign, list_hostile
from attacks.artifacts.hostile_handlers import NO_CANARY
from garrison.admission.findings import refusals
from garrison.admission.vet import vet_files

HOSTILE, BENIGN = list_hostile(), list_benign()
NAIVE = Path(__file__).with_name("naive.py")


@pytest.mark.contained
@pytest.mark.parametrize("case", HOSTILE, ids=lambda case: case.name)
def test_a_hostile_handler_is_refused_and_not_run(tmp_path, monkeypatch, case):
    canary = tmp_path / "canary"
    monkeypatch.setenv("GARRISON_CANARY", str(canary))
    found = refusals(vet_files([case.make(tmp_path)], linter=False))
    assert {finding.rule for finding in found} & case.rules
    assert not canary.exists()


@pytest.mark.contained
@pytest.mark.parametrize("case", BENIGN, ids=lambda case: case.name)
def test_an_ordinary_handler_is_accepted(tmp_path, case):
    assert vet_files([case.make(tmp_path)], linter=False) == []


def test_the_corpus_is_large_and_its_names_are_unique():
    names = [case.name for case in (*HOSTILE, *BENIGN)]
    assert len(names) == len(set(names))
    assert (len(HOSTILE), len(BENIGN)) >= (60, 25)
    assert set(names) >= NO_CANARY


def test_without_vetting_the_handlers_do_what_they_say(tmp_path, monkeypatch):
    """The corpus is worth nothing if its payloads do not work."""
    monkeypatch.delenv("GARRISON_CANARY", raising=False)
    paths = {}
    for case in HOSTILE:
        if case.name not in NO_CANARY:
            (tmp_path / case.name).mkdir()
            paths[case.name] = case.make(tmp_path / case.name)
    command = [sys.executable, str(NAIVE), *map(str, paths.values())]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run(command, env=environment, cwd=tmp_path, check=True, capture_output=True, timeout=600)
    assert [name for name, path in paths.items() if not (path.parent / "canary").exists()] == []


@pytest.mark.contained
def test_the_linter_has_nothing_against_ordinary_handlers(tmp_path):
    """Every third, and those that come closest to what it looks for: each is a process of its own."""
    chosen = [case for index, case in enumerate(BENIGN) if index % 3 == 0 or "json" in case.name]
    paths = []
    for case in chosen:
        (tmp_path / case.name).mkdir()
        paths.append(case.make(tmp_path / case.name))
    assert refusals(vet_files(paths)) == []
