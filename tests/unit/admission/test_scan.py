"""A scan walks directories without following links, and reports what it cannot read or finish."""

import json
import zipfile
from dataclasses import replace

import pytest

from garrison.admission import scan
from garrison.admission.scan import DEFAULT_LIMITS, formats, scan_paths


def rules_of(*paths, **options) -> list[str]:
    return [finding.rule for finding in scan_paths(paths, **options)]


def test_texts_pass(tmp_path):
    (tmp_path / "labels.json").write_text(json.dumps({"0": "caf\u00e9"}, ensure_ascii=False))
    (tmp_path / "handler.py").write_text("#!/usr/bin/env python3\n")
    assert rules_of(tmp_path) == []


def test_files_are_named_from_the_path_that_was_given(tmp_path):
    (tmp_path / "model/inner").mkdir(parents=True)
    with zipfile.ZipFile(tmp_path / "model/inner/a.mar", "w") as archive:
        archive.writestr("x.bin", bytes(100))
    assert [one.file for one in scan_paths([tmp_path / "model"])] == [f"{tmp_path}/model/inner/a.mar > x.bin"]


def test_progress_is_told(tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    told = []
    scan_paths([tmp_path], progress=lambda name, size: told.append((name, size)))
    assert told == [(f"{tmp_path}/a.txt", 5)]


def test_what_is_not_there_refuses(tmp_path):
    assert rules_of(tmp_path / "none") == ["unreadable_file"]


def test_a_link_to_a_directory_is_not_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real/evil.pkl").write_bytes(b"cposix\nsystem\n(S'ls'\ntR.")
    (tmp_path / "model").mkdir()
    (tmp_path / "model/link").symlink_to(tmp_path / "real")
    assert rules_of(tmp_path / "model") == ["not_a_file"]


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_what_cannot_be_read_refuses(tmp_path, unprivileged, kind):
    path = tmp_path / "secret"
    path.write_text("x") if kind == "file" else path.mkdir()
    path.chmod(0)
    assert rules_of(tmp_path) == ["unreadable_file"]
    path.chmod(0o700)


def test_too_many_files_refuse(tmp_path, monkeypatch):
    monkeypatch.setattr(scan, "MAX_PATHS", 3)
    for number in range(4):
        (tmp_path / f"{number}.txt").write_text("x")
    assert rules_of(tmp_path) == ["not_scannable"]


def test_too_many_members_refuse(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.mar", "w") as archive:
        for number in range(4):
            archive.writestr(f"{number}.txt", "x")
    assert rules_of(tmp_path / "a.mar", limits=replace(DEFAULT_LIMITS, max_files=3)) == ["too_many_files"]
    assert rules_of(tmp_path / "a.mar", limits=replace(DEFAULT_LIMITS, max_files=4)) == []


@pytest.mark.parametrize("error", [RecursionError, MemoryError, ValueError, OverflowError])
def test_a_scan_that_stumbles_refuses(tmp_path, monkeypatch, error):
    def stumble(*_):
        raise error

    (tmp_path / "a.txt").write_text("x")
    monkeypatch.setattr(formats, "_is_text", stumble)
    assert rules_of(tmp_path / "a.txt") == ["not_scannable"]


def test_random_bytes_raise_nothing(tmp_path):
    import random

    numbers = random.Random(5)
    starts = [
        b"",
        b"PK\3\4",
        b"\x80\x02",
        b"\x93NUMPY\1\0",
        b"\x08\x08\x12",
        b"\x10\0\0\0\0\0\0\0{",
        formats.LEGACY_MAGIC,
    ]
    for number in range(200):
        path = tmp_path / f"{number}.bin"
        path.write_bytes(starts[number % len(starts)] + numbers.randbytes(numbers.randrange(300)))
        assert rules_of(path, tripwire=False)
