"""The second scanner is asked about every pickle, and whatever it does but say that all is well refuses."""

import subprocess
import sys
import tempfile

import pytest

from garrison.admission.scan import tripwire
from garrison.admission.scan.tripwire import Tripwire, judge
from garrison.errors import ConfigError

EVIL = b"cposix\nsystem\n(S'ls'\ntR."


def answer(code: int, output: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.CompletedProcess([], code, output, "")


def rules_of(directory, *pickles: bytes) -> list[str]:
    scanner = Tripwire(directory)
    for number, data in enumerate(pickles):
        scanner.add(f"model.pt > {number}", data)
    return [finding.rule for finding in scanner.run()]


def test_harmless_pickles_pass(tmp_path):
    assert rules_of(tmp_path, b"N.", b"]." * 3) == []


def test_a_dangerous_one_is_named(tmp_path):
    scanner = Tripwire(tmp_path)
    for place, data in (("good.pt", b"N."), ("evil.pt > data.pkl", EVIL)):
        scanner.add(place, data)
    assert [(one.file, one.rule) for one in scanner.run()] == [("evil.pt > data.pkl", "scanner_found")]


def test_without_room_for_the_copies_it_says_where_to_make_some(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(ConfigError, match="temporary files cannot be written"):
        tripwire.make_directory()
    with pytest.raises(ConfigError, match="temporary files cannot be written"):
        rules_of(tmp_path / "gone", EVIL)


def test_without_pickles_nothing_is_started(tmp_path, monkeypatch):
    monkeypatch.setattr(tripwire, "PACKAGE", "no_such_package")
    assert rules_of(tmp_path) == []


def test_a_missing_scanner_refuses(tmp_path, monkeypatch):
    monkeypatch.setattr(tripwire, "PACKAGE", "no_such_package")
    assert rules_of(tmp_path, b"N.") == ["scanner_failed"]


def test_a_scanner_that_takes_too_long_refuses(tmp_path, monkeypatch):
    monkeypatch.setattr(tripwire, "_PROGRAM", "import time; time.sleep(60)")
    monkeypatch.setattr(tripwire, "TIMEOUT_S", 0.5)
    assert rules_of(tmp_path, b"N.") == ["scanner_failed"]


@pytest.mark.parametrize(
    "program", ["raise SystemExit(0)", "raise SystemExit(2)", "1/0", "import os; os.abort()", "print('\\xff')"]
)
def test_a_scanner_that_crashes_or_says_nothing_refuses(tmp_path, monkeypatch, program):
    monkeypatch.setattr(tripwire, "_PROGRAM", program)
    assert rules_of(tmp_path, b"N.") == ["scanner_failed"]


def test_a_scanner_that_cannot_be_started_refuses(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    assert rules_of(tmp_path, b"N.") == ["scanner_failed"]


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        (answer(0, "Scanned files: 2\n"), None),
        (answer(0, "Scanned files: 1\n"), "scanner_failed"),
        (answer(0, ""), "scanner_failed"),
        (answer(1, "Scanned files: 2\n"), "scanner_found"),
        (answer(1, "Traceback\n"), "scanner_failed"),
        (answer(2, "Scanned files: 2\n"), "scanner_failed"),
        (answer(-9, "Scanned files: 2\n"), "scanner_failed"),
        ("no answer", "scanner_failed"),
    ],
    ids=["good", "one left out", "silent", "found", "crashed", "error", "killed", "none"],
)
def test_only_a_full_scan_that_found_nothing_is_good(given, rule):
    assert [one.rule for one in judge(given, {0: "a", 1: "b"})] == ([] if rule is None else [rule])
