"""All workers' counts together: ended ones included, no counter ever backwards, one model apart from the other."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
from prometheus_client.parser import text_string_to_metric_families

from garrison.cell.posture import RLIMITS, Posture
from garrison.cell.settings import CellSettings
from garrison.cell.status import Status, name_status, write_status
from garrison.cell.trials import PARTS, Trial
from garrison.errors import Undecided
from garrison.profile import Watched
from garrison.watch import families
from garrison.watch.workers import MAX_WORKERS, Workers
from unit.watch.test_counts import ANSWERS, entry, write

UNWATCHED = dict.fromkeys(("digits", "faces"), Watched(()))
SETTINGS = CellSettings(2**31, 64, 2**24, 100)


@contextmanager
def supervisor():
    """A process that does nothing but be there."""
    with subprocess.Popen([sys.executable, "-I", "-c", "input()"], stdin=subprocess.PIPE) as process:
        try:
            yield process.pid
        finally:
            process.kill()


@pytest.fixture
def alive():
    """The process id of a supervisor that lives."""
    with supervisor() as pid:
        yield pid


@pytest.fixture
def gone():
    """The process id of a supervisor that does not live any more."""
    with supervisor() as pid:
        pass
    return pid


class Place:
    """A run directory, as launcher, supervisors and workers see it."""

    def __init__(self, path, settings=SETTINGS, models=UNWATCHED):
        self.cells, self.scratches = path / "cells", path / "tmp" / "workers"
        self.cells.mkdir()
        self.scratches.mkdir(parents=True)
        self.workers = Workers(self.cells, self.scratches, models, settings)

    def scratch(self, pid, model="digits"):
        directory = self.scratches / f"{model}.{pid}"
        (directory / "metrics").mkdir(parents=True, exist_ok=True)
        return directory

    def count(self, pid, value, model="digits"):
        write(self.scratch(pid, model), entry(ANSWERS, value, model=model))

    def tell(self, pid, model="digits", **values):
        told = {"stage": "serving", "posture": make_posture(), **values}
        write_status(self.cells / name_status(model, pid), Status(model, pid + 1, pid, **told))

    def read(self, name, **labels):
        """Return the value of a series, or None."""
        text = self.workers.render().decode()
        values = [
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if (sample.name, sample.labels) == (name, labels)
        ]
        assert len(values) <= 1
        return values[0] if values else None

    def answers(self, model="digits"):
        return self.read(ANSWERS, model=model)


@pytest.fixture
def place(tmp_path):
    """An empty run directory."""
    return Place(tmp_path)


def make_posture(broken=()):
    trials = tuple(Trial(part, f"try {part}", part not in broken, "EPERM") for part in PARTS)
    return Posture(trials, 7, 2, 1000, "0", True, False, dict.fromkeys(RLIMITS, 0))


# Counts ---------------------------------------------------------------------------------------------------------------


def test_workers_of_a_model_are_added_up(place, alive):
    place.count(alive, 2)
    place.count(os.getpid(), 3)
    place.count(alive, 5, "faces")
    assert (place.answers(), place.answers("faces")) == (5, 5)


def test_counts_outlive_the_worker_and_what_it_left_is_removed(place, gone, alive):
    place.count(alive, 1)
    place.count(gone, 2)
    place.tell(gone)
    assert place.answers() == 3
    assert place.workers.sweep() == ()
    assert place.answers() == 3
    assert [path.name for path in place.scratches.iterdir()] == [f"digits.{alive}"]
    assert list(place.cells.iterdir()) == []
    place.workers.sweep()
    assert place.answers() == 3


def test_a_worker_that_nobody_asked_about_before_it_ended_counts(place, gone):
    place.count(gone, 2)
    place.workers.sweep()
    assert place.answers() == 2


def test_a_worker_whose_supervisor_says_so_has_ended(place, alive):
    place.count(alive, 2)
    place.tell(alive, stage="ended", ended="exit status 1")
    place.workers.sweep()
    assert list(place.scratches.iterdir()) == []
    assert place.answers() == 2
    assert place.read("garrison_cell_workers_ended_total", model="digits") == 1


def test_a_supervisor_that_was_killed_and_not_buried_is_gone(place):
    with subprocess.Popen([sys.executable, "-I", "-c", "input()"], stdin=subprocess.PIPE) as process:
        place.count(process.pid, 2)
        place.workers.sweep()
        assert len(list(place.scratches.iterdir())) == 1
        process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        place.workers.sweep()
        assert list(place.scratches.iterdir()) == []
    assert place.answers() == 2


def test_what_cannot_be_removed_is_not_counted_twice(place, gone, monkeypatch):
    def refuse(_):
        raise Undecided("busy")

    place.count(gone, 2)
    with monkeypatch.context() as patch:
        patch.setattr("garrison.cell.scratch.remove", refuse)
        place.workers.sweep()
        place.workers.sweep()
    assert len(list(place.scratches.iterdir())) == 1
    assert place.answers() == 2
    place.workers.sweep()
    assert list(place.scratches.iterdir()) == []
    assert place.answers() == 2


def test_a_counter_does_not_go_back_whatever_a_worker_writes(place, alive):
    place.count(alive, 5)
    assert place.answers() == 5
    place.count(alive, 3)
    assert place.answers() == 5
    place.count(alive, 6)
    assert place.answers() == 6


def test_broken_files_leave_what_was_counted_and_the_other_model(place, alive):
    place.tell(alive)
    place.count(alive, 5)
    place.count(os.getpid(), 1, "faces")
    assert place.answers() == 5
    place.workers.sweep()
    file = place.scratch(alive) / "metrics" / "counter_1.db"
    file.write_bytes(b"\x7f" * 100)
    assert (place.answers(), place.answers("faces")) == (5, 1)
    assert place.read("garrison_watch_unreadable_workers", model="digits") == 1
    assert place.read("garrison_watch_unreadable_workers", model="faces") == 0
    (told,) = place.workers.sweep()
    assert "digits" in told
    place.workers.render()
    assert place.workers.sweep() == ()  # told once
    place.count(alive, 6)
    assert place.answers() == 6
    assert place.read("garrison_watch_unreadable_workers", model="digits") == 0


def test_a_worker_that_ends_with_broken_files_keeps_what_was_read_before(place):
    with supervisor() as pid:
        place.tell(pid)
        place.count(pid, 5)
        place.workers.render()
        (place.scratch(pid) / "metrics" / "counter_1.db").write_bytes(b"\x7f" * 100)
    (told,) = place.workers.sweep()
    assert "cannot be read" in told
    assert place.answers() == 5
    assert list(place.scratches.iterdir()) == []


@pytest.mark.parametrize("name", ["strangers.1", "digits", "digits.0", "digits.1.2", ".digits.1", "digits.x"])
def test_a_directory_of_nobody_is_left_alone(place, name):
    write_to = place.scratches / name
    (write_to / "metrics").mkdir(parents=True)
    write(write_to, entry(ANSWERS, 3, model="digits"))
    place.workers.sweep()
    assert place.answers() is None
    assert write_to.exists()


@pytest.mark.parametrize("many", [MAX_WORKERS + 1, MAX_WORKERS], ids=["one too many", "at the limit"])
def test_a_flood_of_directories_is_undecided(place, many):
    for number in range(many):
        (place.scratches / f"x{number}").mkdir()
    if many <= MAX_WORKERS:
        place.workers.render()
        return
    with pytest.raises(Undecided):
        place.workers.render()


# What supervisors say -------------------------------------------------------------------------------------------------


def test_violations_are_counted_by_call_and_stage_and_outlive_the_worker(place, gone, alive):
    place.tell(alive, violations={"loading/socket": 2, "serving/execve": 1})
    place.tell(gone, violations={"loading/socket": 1, "serving/unknown": 3, "serving/made_up": 4, "closing/mount": 9})
    for _ in range(2):
        counted = lambda call, stage: place.read(  # noqa: E731
            "garrison_cell_violations_total", model="digits", syscall=call, stage=stage
        )
        assert counted("socket", "loading") == 3
        assert counted("execve", "serving") == 1
        assert counted("other", "serving") == 7
        assert counted("mount", "closing") is None
        place.workers.sweep()


def test_dropped_output_is_counted(place, gone, alive):
    place.tell(alive, output_dropped_bytes=10)
    place.tell(gone, output_dropped_bytes=5)
    place.workers.sweep()
    assert place.read("garrison_cell_output_dropped_bytes_total", model="digits") == 15


def test_gauges_are_of_the_worker_that_has_most(place, alive):
    place.tell(alive, memory_bytes=10, threads=3, scratch_bytes=7)
    place.tell(os.getpid(), memory_bytes=20, threads=2, scratch_bytes=1, stage="loading")
    for name, value in {"memory_bytes": 20, "threads": 3, "scratch_bytes": 7}.items():
        assert place.read(f"garrison_cell_{name}", model="digits") == value
    for stage, count in {"serving": 1, "loading": 1, "closing": 0, "unreadable": 0}.items():
        assert place.read("garrison_cell_workers", model="digits", stage=stage) == count


@pytest.mark.parametrize("part", PARTS)
def test_a_part_is_held_if_it_is_in_all_workers(place, alive, part):
    held = lambda: {name: place.read("garrison_cell_held", model="digits", part=name) for name in PARTS}  # noqa: E731
    place.tell(alive)
    assert held() == dict.fromkeys(PARTS, 1)
    place.tell(os.getpid(), posture=make_posture(broken=[part]))
    assert held() == {name: name != part for name in PARTS}


def test_a_cell_that_is_not_closed_yet_holds_nothing_and_lacks_nothing(place, alive):
    place.tell(alive, stage="closing", posture=None)
    assert place.read("garrison_cell_held", model="digits", part="seccomp") is None


@pytest.mark.parametrize("stage", ["loading", "serving"])
def test_a_worker_without_a_posture_holds_nothing(place, alive, stage):
    place.tell(alive, stage=stage, posture=None)
    assert place.read("garrison_cell_held", model="digits", part="seccomp") == 0


def test_a_status_that_cannot_be_read_is_a_worker_of_which_nothing_holds(place, alive):
    place.tell(alive, violations={"loading/socket": 2})
    place.workers.render()
    (place.cells / name_status("digits", alive)).write_text("{")
    assert place.read("garrison_cell_held", model="digits", part="landlock") == 0
    assert place.read("garrison_cell_workers", model="digits", stage="unreadable") == 1
    assert place.read("garrison_cell_violations_total", model="digits", syscall="socket", stage="loading") == 2


@pytest.mark.parametrize("unsafe", [(), ("landlock",), ("landlock", "seccomp")], ids=str)
def test_what_weakens_the_cell_is_a_metric(tmp_path, unsafe):
    place = Place(tmp_path, CellSettings(2**31, 64, 2**24, 100, unsafe_without=unsafe))
    for word in ("landlock", "seccomp"):
        assert place.read("garrison_cell_unsafe", setting=word) == (word in unsafe)


def test_without_the_supervisors_directory_nothing_is_said(place):
    place.cells.rmdir()
    with pytest.raises(Undecided):
        place.workers.render()
    with pytest.raises(Undecided):
        place.workers.sweep()


# The page -------------------------------------------------------------------------------------------------------------


def test_a_histogram_adds_up_to_its_count(place, alive):
    name = "garrison_contract_batch_items"
    buckets = [
        entry(f"{name}_bucket", number, model="digits", le=le) for number, le in ((2, "1.0"), (3, "4.0"), (1, "+Inf"))
    ]
    write(place.scratch(alive), *buckets, entry(f"{name}_sum", 99, model="digits"), name="histogram_1.db")
    found = {
        bound: place.read(f"{name}_bucket", model="digits", le=bound)
        for bound in ("1.0", "2.0", "4.0", "128.0", "+Inf")
    }
    assert found == {"1.0": 2, "2.0": 2, "4.0": 5, "128.0": 5, "+Inf": 6}
    assert (place.read(f"{name}_count", model="digits"), place.read(f"{name}_sum", model="digits")) == (6, 99)


def test_every_family_has_a_name_of_its_own_and_a_kind(place, alive):
    place.tell(alive, violations={"serving/socket": 1})
    place.count(alive, 1)
    text = place.workers.render().decode()
    assert len({family.name for family in families.FAMILIES}) == len(families.FAMILIES)
    for family in families.CELL:
        if family != families.ENDED:
            assert f"# TYPE {family.name} {family.kind}\n" in text
