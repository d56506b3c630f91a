"""What supervisors say about their workers: written whole, read with care."""

import dataclasses
import json
import os
import socket

import pytest

from garrison.cell.posture import RLIMITS, Posture
from garrison.cell.status import MOST_BYTES, MOST_FILES, Status, name_status, read_statuses, write_status
from garrison.cell.trials import Trial
from garrison.errors import ConfigError, Undecided

POSTURE = Posture(
    trials=(Trial("landlock", "read a file", True, "EACCES"),),
    landlock_abi=7,
    seccomp_mode=2,
    uid=1000,
    capabilities="0",
    no_new_privs=True,
    dumpable=False,
    rlimits=dict.fromkeys(RLIMITS, 0),
)
STATUS = Status("digits", 12, 11, "serving", POSTURE, {"loading/socket": 2, "serving/execve": 1}, 3, 4, 5, 6, "")
BROKEN = Status("digits", 0, 11, "unreadable")


def write(directory, status=STATUS):
    write_status(directory / name_status(status.model, status.supervisor), status)
    return directory / name_status(status.model, status.supervisor)


def test_a_status_is_read_as_it_was_written(tmp_path):
    others = (Status("digits", 0, 9, "closing"), Status("a_b-C", 8, 7, "ended", ended="its memory was full"))
    for status in (STATUS, *others):
        write(tmp_path, status)
    assert sorted(read_statuses(tmp_path), key=lambda status: status.supervisor) == [others[1], others[0], STATUS]


def test_a_change_replaces_the_whole_file(tmp_path):
    path = write(tmp_path)
    with path.open("rb") as before:
        write(tmp_path, dataclasses.replace(STATUS, posture=None, stage="ended"))
        assert json.load(before)["stage"] == "serving"
    assert [status.stage for status in read_statuses(tmp_path)] == ["ended"]
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o600


def test_no_link_is_followed_when_writing(tmp_path):
    target = tmp_path / "target"
    (tmp_path / ".digits.11.json").symlink_to(target)
    with pytest.raises(ConfigError, match="cannot be written"):
        write(tmp_path)
    assert not target.exists()


def test_other_files_are_none_of_ours(tmp_path):
    names = ("settings.json", ".digits.11.json", "digits.json", "digits.0.json", "digits.11.json.bak", "-x.1.json")
    for name in names:
        (tmp_path / name).write_text("{}")
    assert read_statuses(tmp_path) == ()


def make_fifo(path):
    os.mkfifo(path)


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


def make_link(path):
    write(path.parent, dataclasses.replace(STATUS, model="other"))
    path.symlink_to("other.11.json")


@pytest.mark.parametrize(
    "make",
    [
        make_fifo,
        make_socket,
        make_link,
        lambda path: path.mkdir(),
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\xff{}"),
        lambda path: path.write_bytes(b"[" * 100_000),
        lambda path: path.write_bytes(b"1" * 10_000),
        lambda path: path.write_bytes(b" " * (MOST_BYTES + 1)),
        lambda path: (path.touch(), os.truncate(path, 2**40)),
    ],
    ids=[
        *("pipe", "socket", "link to another's", "directory", "link to a device", "empty", "not UTF-8"),
        *("deeply nested", "a long number", "too large", "a terabyte without content"),
    ],
)
def test_a_file_that_no_supervisor_wrote_is_a_worker_of_which_nothing_holds(tmp_path, make):
    make(tmp_path / "digits.11.json")
    assert [status for status in read_statuses(tmp_path) if status.model == "digits"] == [BROKEN]


@pytest.mark.parametrize(
    "change",
    [
        {"model": "other"},
        {"supervisor": 12},
        {"model": 3},
        {"pid": -1},
        {"pid": True},
        {"threads": 2**63},
        {"memory_bytes": 1.5},
        {"stage": "free"},
        {"stage": []},
        {"posture": {}},
        {"posture": "held"},
        {"violations": []},
        {"violations": {"serving/execve": -1}},
        {"violations": {"serving/execve": "1"}},
        {"violations": {"serving/" + "x" * 41: 1}},
        {"violations": {'serving/execve"} 1': 1}},
        {"violations": {"execve": 1}},
        {"violations": {f"serving/x{number}": 1 for number in range(1001)}},
        {"ended": None},
        {"ended": "x" * 501},
        {"extra": 1},
    ],
    ids=lambda change: f"{next(iter(change))}={str(change)[:40]}",
)
def test_values_that_are_none_are_not_read(tmp_path, change):
    path = write(tmp_path)
    assert read_statuses(tmp_path) == (STATUS,)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert read_statuses(tmp_path) == (BROKEN,)


def test_one_broken_file_takes_nothing_from_the_others(tmp_path):
    write(tmp_path, dataclasses.replace(STATUS, model="faces"))
    (tmp_path / "digits.11.json").write_text("{")
    assert read_statuses(tmp_path) == (BROKEN, dataclasses.replace(STATUS, model="faces"))


def test_a_flood_of_files_is_not_read(tmp_path):
    for number in range(1, MOST_FILES + 2):
        (tmp_path / f"m.{number}.json").touch()
    with pytest.raises(Undecided, match="more than"):
        read_statuses(tmp_path)
    (tmp_path / "m.1.json").unlink()
    assert len(read_statuses(tmp_path)) == MOST_FILES


def test_a_directory_that_is_not_there_is_undecided(tmp_path):
    with pytest.raises(Undecided, match="cannot be read"):
        read_statuses(tmp_path / "cells")
