"""`garrison status` shows an operator what a running server serves, over a socket that changes nothing."""

import json
import stat
import subprocess
import sys
from typing import Any

import pytest

from garrison.sockets import STATUS
from garrison.unix_http import send_request
from stack.conftest import SERVED
from stack.running import RunningStack


def ask(stack: RunningStack, *options: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "garrison.cli", "status", "--run-dir", str(stack.run_directory), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return done.returncode, done.stdout


def test_models_versions_and_workers_are_those_that_run(library: RunningStack) -> None:
    status, said = ask(library, "--json")
    models: dict[str, dict[str, Any]] = {one["model"]: one for one in json.loads(said)["models"]}
    assert (status, set(models)) == (0, {*SERVED})
    for name in ("digits", "languages"):
        assert models[name]["working"] == sorted(library.worker_pids(name))
        assert (models[name]["ready"], models[name]["version"], models[name]["waiting"]) == (True, "1", [])
        (stored,) = (library.state / "store" / name).glob("1-*")
        assert models[name]["digest"].startswith(stored.name.partition("-")[2])


def test_a_person_gets_a_line_for_each(library: RunningStack) -> None:
    status, said = ask(library)
    first, *lines = said.splitlines()
    assert (status, first) == (0, "ready: every model has a worker")
    assert [line.split()[0] for line in lines] == sorted(SERVED)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", ["/", "/models/digits", "/models?url=http://localhost/x.mar"])
def test_nothing_can_be_changed_there(library: RunningStack, method: str, path: str) -> None:
    assert send_request(library.run_directory / STATUS, method, path, 5).status == 501
    assert len(library.worker_pids()) == 1


def test_it_is_for_the_same_user_alone(library: RunningStack) -> None:
    assert stat.S_IMODE((library.run_directory / STATUS).stat().st_mode) & 0o077 == 0
    assert stat.S_IMODE(library.run_directory.stat().st_mode) == 0o700
