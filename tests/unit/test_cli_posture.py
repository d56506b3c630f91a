"""`garrison posture`: a table for people, JSON for machines, and whether all that is required holds."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys

import pytest

from garrison.cell.posture import RLIMITS, Posture
from garrison.cell.settings import CellSettings, render
from garrison.cell.status import Status, name_status, write_status
from garrison.cell.trials import PARTS, Trial
from lacking import LANDLOCK, SECCOMP, lack

LIMITS = {**dict.fromkeys(RLIMITS, 0), "DATA": 2**30}


@pytest.fixture
def config(tmp_path, repository):
    """A configuration whose cell may be weakened: `config(unsafe_without="[landlock]")`."""

    def call(unsafe_without="[]"):
        shutil.copytree(repository / "config", tmp_path / "config", dirs_exist_ok=True)
        file = tmp_path / "config" / "cell.yaml"
        file.write_text(file.read_text().replace("unsafe_without: []", f"unsafe_without: {unsafe_without}"))
        return tmp_path / "config"

    return call


@pytest.fixture
def run_directory(tmp_path):
    """A server's run directory with one worker."""
    (tmp_path / "cells").mkdir()
    render(CellSettings(2**30, 64, 2**24, 100), tmp_path / "cells" / "settings.json")
    return tmp_path


def tell(directory, **values):
    told = {"model": "digits", "pid": 12, "supervisor": 11, "stage": "serving", "posture": make_posture(), **values}
    status = Status(**told)
    write_status(directory / "cells" / name_status(status.model, status.supervisor), status)


def make_posture(broken=(), **changes):
    trials = tuple(Trial(part, f"try {part}", part not in broken, "EPERM") for part in PARTS)
    values = {"landlock_abi": 7, "seccomp_mode": 2, "uid": 1000, "capabilities": "0", "no_new_privs": True}
    return Posture(trials, **{**values, "dumpable": False, "rlimits": LIMITS, **changes})


def run(*options, before=()):
    """Run the command; return exit status, output, and what was said."""
    command = [*before, sys.executable, "-m", "garrison.cli", "posture", *map(str, options)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, "LC_ALL": "C"}
    )
    return done.returncode, done.stdout, done.stderr


def part_lines(output):
    """Return the table: part to whether it is held."""
    return {
        line.split()[0]: line.split()[1] for line in output.splitlines() if line.split()[:1] in [[p] for p in PARTS]
    }


# Here and now ---------------------------------------------------------------------------------------------------------


def test_here_everything_holds(config):
    status, output, said = run("--config", config())
    assert (status, said) == (0, "")
    assert part_lines(output) == dict.fromkeys(PARTS, "yes")
    assert os.uname().release in output


def test_json_is_one_line_with_everything_that_was_tried(config):
    status, output, _ = run("--config", config(), "--json")
    row = json.loads(output)
    assert status == 0
    assert row["held"] == dict.fromkeys(PARTS, True)
    assert len(row["posture"]["trials"]) > 50
    assert (row["faults"], row["problems"]) == ({}, [])


@pytest.mark.parametrize(
    ("calls", "lost", "advice"),
    [
        ([LANDLOCK], {"landlock"}, ["Linux 5.13", "lsm=landlock", "unsafe_without: [landlock]"]),
        ([SECCOMP], {"seccomp", "network", "process"}, ["CONFIG_SECCOMP_FILTER", "unsafe_without: [seccomp]"]),
    ],
    ids=["no Landlock", "no seccomp"],
)
def test_what_the_kernel_lacks_is_shown_and_fails(config, calls, lost, advice):
    status, output, said = run("--config", config(), before=lack(*calls))
    assert status == 78
    assert part_lines(output) == {part: "NO" if part in lost else "yes" for part in PARTS}
    assert [text for text in advice if text not in said] == []
    assert json.loads(run("--config", config(), "--json", before=lack(*calls))[1].splitlines()[1])["exit"] == 78


def test_what_is_not_required_is_shown_and_does_not_fail(config):
    status, output, _ = run("--config", config("[landlock]"), before=lack(LANDLOCK))
    assert status == 0
    assert part_lines(output)["landlock"] == "NO"
    assert "unsafe_without: landlock: not required" in output
    assert run("--config", config("[seccomp]"), before=lack(LANDLOCK))[0] == 78


def test_wrong_settings_are_a_refusal(config):
    status, output, said = run("--config", config("everything"))
    assert (status, output) == (78, "")
    assert "cell.yaml: unsafe_without" in said


# A running server -----------------------------------------------------------------------------------------------------


def test_each_worker_is_shown(run_directory):
    tell(run_directory)
    tell(run_directory, model="faces", supervisor=21, pid=22, stage="loading", violations={"loading/socket": 3})
    status, output, _ = run("--run-dir", run_directory)
    assert status == 0
    assert "digits (process 12, serving)" in output
    assert "faces (process 22, loading)" in output
    assert "loading/socket 3" in output
    rows = [json.loads(line) for line in run("--run-dir", run_directory, "--json")[1].splitlines()]
    assert [row["model"] for row in rows] == ["digits", "faces"]


def test_a_part_that_does_not_hold_in_one_worker_fails(run_directory):
    tell(run_directory)
    tell(run_directory, model="faces", supervisor=21, posture=make_posture(broken=["network"]))
    status, output, said = run("--run-dir", run_directory)
    assert status == 78
    assert "faces: cell: network does not hold: try network" in said
    assert "digits: " not in said
    assert output.count("NO") == 1


def test_the_bounds_are_those_that_the_server_was_started_with(run_directory):
    render(CellSettings(2**29, 64, 2**24, 100), run_directory / "cells" / "settings.json")
    tell(run_directory)
    status, _, said = run("--run-dir", run_directory)
    assert (status, "RLIMIT_DATA" in said) == (78, True)


def test_what_an_older_kernel_does_not_see_is_shown(run_directory):
    tell(run_directory, posture=make_posture(landlock_abi=3))
    status, output, _ = run("--run-dir", run_directory)
    assert status == 0
    assert "does not see TCP" in output


def test_control_characters_of_a_worker_do_not_reach_the_terminal(run_directory):
    posture = make_posture()
    trials = (*posture.trials, Trial("network", "\x1b[2J", False, ""))
    tell(run_directory, posture=dataclasses.replace(posture, trials=trials))
    status, output, said = run("--run-dir", run_directory)
    assert (status, "\x1b" in output + said) == (78, False)
    assert "\\x1b[2J" in output


@pytest.mark.parametrize(
    "spoil",
    [
        lambda place: None,
        lambda place: tell(place, stage="ended"),
        lambda place: tell(place, stage="closing", posture=None),
        lambda place: (place / "cells" / "digits.11.json").write_text("{"),
        lambda place: (place / "cells" / "settings.json").unlink(),
    ],
    ids=["no worker", "an ended one", "one that is not closed yet", "a status that cannot be read", "no server"],
)
def test_where_there_is_nothing_to_be_seen_is_undecided(run_directory, spoil):
    spoil(run_directory)
    status, output, said = run("--run-dir", run_directory)
    assert (status, output) == (2, "")
    assert said.startswith("garrison: cannot go on:")
