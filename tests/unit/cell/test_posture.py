"""What a cell holds is tried, not assumed; outside of any cell hardly anything may seem to hold."""

import dataclasses
import errno
import json
import os
import subprocess
import sys

import pytest

from garrison.cell.posture import (
    RLIMITS,
    Posture,
    find_faults,
    find_problems,
    judge,
    read_posture,
    render_posture,
    try_everything,
)
from garrison.cell.settings import CellSettings
from garrison.cell.trials import ATTEMPTS, PARTS, POSSIBLE, Attempt, Surroundings, Trial, run_attempts
from garrison.errors import ConfigError, Undecided

SETTINGS = CellSettings(2 * 2**30, 64, 16 * 2**20, 100)
BY_A_USER_WITHOUT_RIGHTS = {  # what somebody who is not root may not do anyway, on some machines
    "regain a capability",
    "raise a limit",
    "read the environment of the supervisor",
    "call bpf",
    "call userfaultfd",
    "call perf_event_open",
    "call io_uring_setup",
}
SCRIPT = """
import json, pathlib, sys
from garrison.cell.posture import render_posture, try_everything
from garrison.cell.trials import Surroundings
parent, run = int(sys.argv[1]), pathlib.Path(sys.argv[2])
places = (run / "cells/settings.json", run / "models", run / "models/m", run / "scratch")
cuda = sys.argv[3] == "True"
print(json.dumps(render_posture(try_everything(Surroundings(parent, *places, 7, cuda)))))
"""


@pytest.fixture
def around(tmp_path):
    """A place that looks like a cell's, with nothing closed."""
    for name in ("cells", "models/m", "scratch"):
        (tmp_path / name).mkdir(parents=True)
    outside = tmp_path / "cells" / "settings.json"
    outside.write_text("{}")
    return Surroundings(os.getppid(), outside, tmp_path / "models", tmp_path / "models" / "m", tmp_path / "scratch", 7)


@pytest.fixture
def try_outside(around, tmp_path):
    """Try everything in a process that is in no cell."""

    def call(*before, cuda=False):
        command = [*before, sys.executable, "-I", "-c", SCRIPT, str(os.getpid()), str(tmp_path), str(cuda)]
        done = subprocess.run(command, capture_output=True, check=True, timeout=30)
        return read_posture(json.loads(done.stdout))

    return call


def make_posture(**changes):
    sound = Posture(
        trials=tuple(Trial(attempt.part, attempt.what, True, "EPERM") for attempt in ATTEMPTS),
        landlock_abi=7,
        seccomp_mode=2,
        uid=1000,
        capabilities="0",
        no_new_privs=True,
        dumpable=False,
        rlimits={**dict.fromkeys(RLIMITS, 1024), "CORE": 0, "DATA": 2 * 2**30, "FSIZE": 16 * 2**20},
    )
    return dataclasses.replace(sound, **changes)


def with_fault(part):
    """Return a sound posture in which one thing of a part was possible."""
    trials = list(make_posture().trials)
    place = next(number for number, trial in enumerate(trials) if trial.part == part)
    trials[place] = dataclasses.replace(trials[place], held=False, detail=POSSIBLE)
    return make_posture(trials=tuple(trials))


# Trying ---------------------------------------------------------------------------------------------------------------


def test_outside_of_a_cell_nothing_holds(try_outside):
    held = {trial.what for trial in try_outside().trials if trial.held}
    assert held <= BY_A_USER_WITHOUT_RIGHTS
    assert not os.getuid() or len(held) < len(ATTEMPTS) / 5


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to become another user")
def test_root_may_do_everything_outside_of_a_cell(try_outside):
    posture = try_outside()
    assert [trial.what for trial in posture.trials if trial.held] == []
    assert posture.held == dict.fromkeys(PARTS, False)


def test_what_was_tried_leaves_nothing_behind(try_outside, tmp_path):
    before = sorted(path for path in tmp_path.rglob("*"))
    try_outside()
    assert sorted(path for path in tmp_path.rglob("*")) == before
    assert (tmp_path / "cells" / "settings.json").read_text() == "{}"


def test_each_attempt_has_its_own_name():
    assert len({attempt.what for attempt in ATTEMPTS}) == len(ATTEMPTS)
    assert {attempt.part for attempt in ATTEMPTS} == set(PARTS)


def test_facts_are_those_of_the_process(try_outside):
    posture = try_outside()
    assert (posture.uid, posture.seccomp_mode, posture.dumpable, posture.landlock_abi) == (os.getuid(), 0, True, 7)
    assert posture.rlimits.keys() == set(RLIMITS)


@pytest.mark.parametrize(
    ("raised", "held", "detail"),
    [
        (PermissionError(errno.EPERM, ""), True, "EPERM"),
        (PermissionError(errno.EACCES, ""), False, "EACCES"),
        (FileNotFoundError(errno.ENOENT, ""), False, "ENOENT"),
        (None, False, POSSIBLE),
    ],
    ids=["the error of a refusal", "another refusal", "an error that only an allowed call gives", "no error"],
)
def test_only_the_expected_error_is_a_refusal(around, monkeypatch, raised, held, detail):
    def act(_):
        if raised:
            raise raised

    attempt = Attempt("seccomp", "do something", act, frozenset({errno.EPERM}))
    monkeypatch.setattr("garrison.cell.trials.ATTEMPTS", (attempt,))
    assert run_attempts(around) == (Trial("seccomp", "do something", held, detail),)


def test_what_cannot_be_found_out_is_undecided(around, monkeypatch):
    monkeypatch.setattr("garrison.cell.trials.ATTEMPTS", ())
    monkeypatch.setattr("garrison.cell.posture.read_own_status", dict)
    with pytest.raises(Undecided, match="KeyError"):
        try_everything(around)


# Judging --------------------------------------------------------------------------------------------------------------


def test_a_sound_posture_has_no_problem():
    assert find_problems(make_posture(), SETTINGS) == ()
    assert make_posture().held == dict.fromkeys(PARTS, True)
    judge(make_posture(), SETTINGS)


@pytest.mark.parametrize("part", PARTS)
def test_one_thing_that_was_possible_is_a_problem(part):
    (problem,) = find_problems(with_fault(part), SETTINGS)
    assert problem.startswith(f"cell: {part} does not hold: ")
    assert POSSIBLE in problem
    assert with_fault(part).held == {name: name != part for name in PARTS}
    with pytest.raises(ConfigError, match=part):
        judge(with_fault(part), SETTINGS)


@pytest.mark.parametrize("part", PARTS)
def test_what_was_not_tried_does_not_hold(part):
    posture = make_posture(trials=tuple(trial for trial in make_posture().trials if trial.part != part))
    (problem,) = find_problems(posture, SETTINGS)
    assert f"{part} does not hold: nothing was tried" in problem
    assert posture.held[part] is False


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"landlock_abi": 0}, "landlock"),
        ({"seccomp_mode": 0}, "seccomp"),
        ({"seccomp_mode": 1}, "seccomp"),
        ({"capabilities": "400"}, "limits"),
        ({"no_new_privs": False}, "limits"),
        ({"dumpable": True}, "limits"),
        ({"rlimits": {**make_posture().rlimits, "CORE": 1}}, "limits"),
        ({"rlimits": {**make_posture().rlimits, "DATA": 2 * 2**30 + 1}}, "limits"),
        ({"rlimits": {**make_posture().rlimits, "DATA": -1}}, "limits"),
        ({"rlimits": {**make_posture().rlimits, "FSIZE": 16 * 2**20 + 1}}, "limits"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else value,
)
def test_a_fact_that_is_not_as_it_must_be_is_a_problem(changes, part):
    assert list(find_faults(make_posture(**changes), SETTINGS)) == [part]
    assert len(find_problems(make_posture(**changes), SETTINGS)) == 1


@pytest.mark.parametrize(
    ("unsafe", "exempt"),
    [
        ((), set()),
        (("landlock",), {"landlock"}),
        (("seccomp",), {"seccomp", "network", "process"}),
        (("landlock", "seccomp"), {"landlock", "seccomp", "network", "process"}),
    ],
    ids=str,
)
def test_what_may_be_missing_is_reported_but_no_problem(unsafe, exempt):
    settings = dataclasses.replace(SETTINGS, unsafe_without=unsafe)
    for part in PARTS:
        assert bool(find_problems(with_fault(part), settings)) == (part not in exempt)
        assert list(find_faults(with_fault(part), settings)) == [part]


def test_a_problem_says_what_the_kernel_lacks_and_which_setting_weakens():
    (landlock,) = find_problems(make_posture(landlock_abi=0), SETTINGS)
    assert "Linux 5.13" in landlock
    assert os.uname().release in landlock
    assert "unsafe_without: [landlock]" in landlock
    (limits,) = find_problems(make_posture(dumpable=True), SETTINGS)
    assert "unsafe" not in limits


def test_a_summary_names_what_does_not_hold():
    assert (
        make_posture().summary()
        == f"Landlock ABI 7, user 1000, {len(ATTEMPTS)} of {len(ATTEMPTS)} attempts failed as they must"
    )
    assert with_fault("network").summary().endswith("; not held: network")


def test_a_problem_names_three_of_many_and_all_parts_that_rest_on_one_of_the_kernels():
    possible = tuple(dataclasses.replace(trial, held=False) for trial in make_posture().trials)
    landlock, seccomp, limits = find_problems(make_posture(trials=possible), SETTINGS)
    assert landlock.startswith("cell: landlock does not hold: ")
    assert seccomp.startswith("cell: seccomp, network, process do not hold: ")
    assert seccomp.count(" more; ") == 1
    assert limits.startswith("cell: limits does not hold: ")


# Passing on -----------------------------------------------------------------------------------------------------------


def test_a_posture_is_read_as_it_was_written():
    posture = with_fault("network")
    assert read_posture(json.loads(json.dumps(render_posture(posture)))) == posture


def without(key):
    return {name: value for name, value in render_posture(make_posture()).items() if name != key}


@pytest.mark.parametrize(
    "values",
    [
        None,
        [],
        {},
        without("rlimits"),
        without("trials"),
        {**without(""), "extra": 1},
        {**without(""), "dumpable": 0},
        {**without(""), "landlock_abi": True},
        {**without(""), "capabilities": "f" * 201},
        {**without(""), "trials": [[]]},
        {**without(""), "trials": [{"part": "landlock", "what": "x", "held": "yes", "detail": ""}]},
        {**without(""), "trials": [{"part": "other", "what": "x", "held": True, "detail": ""}]},
        {**without(""), "trials": [{"part": "landlock", "what": "x" * 201, "held": True, "detail": ""}]},
        {**without(""), "rlimits": {"CORE": 0}},
        {**without(""), "rlimits": {**dict.fromkeys(RLIMITS, 0), "DATA": "none"}},
    ],
    ids=range(15),
)
def test_what_is_no_posture_is_not_read_as_one(values):
    with pytest.raises(Undecided):
        read_posture(values)


def test_with_cuda_what_proc_shows_is_not_tried_and_all_the_rest_is(try_outside):
    tried = {trial.what for trial in try_outside(cuda=True).trials}
    untried = {attempt.what for attempt in ATTEMPTS} - tried
    assert untried == {"read the state of the supervisor", "list the sockets of the machine"}
