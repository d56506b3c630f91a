"""Samples of the campaigns of admission; and that each would see what it looks for."""

import hashlib
import json
from pathlib import Path

import pytest

from campaigns import interrupted, races, tampering, verification
from campaigns.admitting import MODEL, NEW, OLD, Workshop


def run(campaign, output: Path, *options: object) -> dict:
    status = campaign.main([*map(str, options), "--output", str(output)])
    result = json.loads(output.read_text())
    assert (status, result["misses"]) == (0, [])
    return result["figures"]


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


def test_a_killed_admission_leaves_the_old_store_or_the_new_one(tmp_path: Path) -> None:
    figures = run(interrupted, tmp_path / "result.json", "--tries", 8)
    assert sum(figures["found"].values()) == 8


def test_what_is_served_was_admitted_whoever_changes_it_meanwhile(tmp_path: Path) -> None:
    figures = run(races, tmp_path / "result.json", "--tries", 12)
    assert sum(figures["found"].values()) == 12


def test_no_flipped_bit_is_accepted(tmp_path: Path) -> None:
    figures = run(tampering, tmp_path / "result.json", "--flips", 40)
    assert sum(figures["found"].values()) == 40


def test_a_model_is_verified_in_little_memory_and_tells_its_progress(tmp_path: Path) -> None:
    output = tmp_path / "result.json"
    verification.main(["--bytes", str(2**26), "--rounds", "1", "--output", str(output)])
    for row in json.loads(output.read_text())["figures"].values():
        assert row["memory_mb"] < verification.MOST_MEMORY_MB
        assert row["progress"] > 10


def test_half_a_store_would_be_seen(workshop: Workshop) -> None:
    """As if a version were written in place: a kill in the middle leaves files missing."""
    store = workshop.copy_store("half")
    next(store.glob("digits/*/labels.json")).unlink()
    with pytest.raises(interrupted.GarrisonError):
        workshop.serve(store)


def test_bytes_that_nobody_admitted_would_be_seen(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a loader used the file as it lies there."""
    source, store = workshop.copy_source(NEW, "incoming"), workshop.copy_store("naive")
    assert races.admit_and_serve(workshop, source, store) == races.SERVED[NEW]
    monkeypatch.setattr(workshop, "serve", lambda _: {MODEL: {**workshop.digests[OLD], "model.pt": "another"}})
    assert "WRONG bytes" in races.admit_and_serve(workshop, source, store)


def test_the_old_version_served_instead_of_the_new_one_would_be_seen(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if whoever can write to the store could bring back an older version."""
    source, store = workshop.copy_source(NEW, "incoming"), workshop.copy_store("naive")
    monkeypatch.setattr(workshop, "serve", lambda _: {MODEL: workshop.digests[OLD]})
    assert "WRONG version" in races.admit_and_serve(workshop, source, store)


def test_a_race_that_nobody_runs_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(races, "MOST_ACTIONS", 0)
    assert races.main(["--tries", "1", "--output", str(tmp_path / "result.json")]) == 1


def test_a_worker_that_compares_nothing_would_be_seen(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if what the launcher had verified were read once more by its path."""

    def read_naively(served: Path) -> dict[str, str]:
        names = workshop.digests[OLD]
        return {name: hashlib.sha256((served / "files" / name).read_bytes()).hexdigest() for name in names}

    monkeypatch.setattr(races, "LOADS", 2_000)
    monkeypatch.setattr(races, "read_as_worker", read_naively)
    assert races.run_load(workshop, 0.5) == "WRONG bytes loaded"


def test_an_accepted_flip_would_be_seen(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"A")
    assert tampering.flip(tmp_path / "file", 1, lambda path: path.read_text()) == "C"
    assert (tmp_path / "file").read_bytes() == b"A"
