"""The server's own cell: what somebody who has taken over the JVM can still do.

Code cannot be run in the JVM from here, so an intruder (see `intruder`) is started as the launcher starts `java`: by
`garrison.cell.server`, in the cell that was made for the running server. The same intruder outside shows that each
attempt would succeed where there is no cell.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from garrison.cell.landlock import probe_abi
from garrison.cell.server import enclose
from garrison.torchserve.server import find_server
from garrison.unix_http import send_request
from older import older
from stack import intruder
from stack.observing import find_family
from stack.running import REPOSITORY, RunningStack

SECRET = "the key to everything"
TIMEOUT_S = 120
NAMES = tuple(
    intruder.list_attempts(dict.fromkeys(("secret", "config", "scratch", "run"), "/") | {"pid": 0, "port": 0})
)
NEEDS_ROOT = {"change the root", "load a module", "load another kernel", "mount", "become another user"}
NEEDS_ABI = {
    **dict.fromkeys(("connect by TCP", "bind a chosen port"), 4),
    **dict.fromkeys(("connect to an abstract socket", "signal a process"), 6),
}
MAY_BE_MISSING = {"ENOSYS", "EAFNOSUPPORT", "EPROTONOSUPPORT", "EOPNOTSUPP"}  # this kernel was built without it


class Scene:
    """What an intruder may go for: a secret, a setting, a neighbour, listeners."""

    def __init__(self, stack: RunningStack, directory: Path) -> None:
        self.stack, self.directory = stack, directory
        self.config = stack.config / "config.properties"
        self.neighbour = subprocess.Popen(["/bin/sleep", "600"], env={"SECRET": SECRET})
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.abstract = socket.socket(socket.AF_UNIX)
        self.abstract.bind(f"\0garrison-{os.getpid()}")
        self.abstract.listen()

    def run(self, *prefix: str) -> dict[str, Any]:
        """Let the intruder try everything, started by a command."""
        secret, decoy = self.directory / "secret", self.stack.run_directory / "decoy"
        for path in (secret, self.directory / "second", decoy):
            path.write_text(SECRET)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            free_port = probe.getsockname()[1]
        given = {
            "secret": str(secret),
            "config": str(self.config),
            "config text": self.config.read_text(),
            "scratch": str(self.stack.run_directory / "tmp" if prefix else self.directory),
            "run": str(self.stack.run_directory),
            "pid": self.neighbour.pid,
            "port": self.listener.getsockname()[1],
            "free port": free_port,
            "abstract": f"garrison-{os.getpid()}",
        }
        script = Path(intruder.__file__).read_text()
        command = [*prefix, sys.executable, "-I", "-c", script, json.dumps(given)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, cwd="/", check=True)
        decoy.unlink(missing_ok=True)
        for new in ("models", "bin", "."):
            for path in (self.stack.run_directory / new).glob("new*"):
                path.unlink()
        answer: dict[str, Any] = json.loads(result.stdout)
        return answer

    def close(self) -> None:
        """Leave."""
        self.neighbour.kill()
        self.neighbour.wait()
        self.listener.close()
        self.abstract.close()


@pytest.fixture(scope="module")
def scene(running: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A running server and what lies around it."""
    made = Scene(running, tmp_path_factory.mktemp("scene"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def inside(scene: Scene) -> dict[str, Any]:
    """What the intruder can do in the server's cell."""
    prefix = enclose([], scene.stack.run_directory / "server.json")
    return scene.run(*prefix)


@pytest.fixture(scope="module")
def outside(scene: Scene) -> dict[str, Any]:
    """What the intruder can do without it."""
    return scene.run()


@pytest.fixture(scope="module")
def java(running: RunningStack) -> psutil.Process:
    """The running server."""
    (pid,) = (pid for pid, name in find_family(running.pid).items() if name == "java")
    return psutil.Process(pid)


@pytest.mark.parametrize("name", NAMES)
def test_it_fails_in_the_cell_and_would_succeed_without(
    inside: dict[str, Any], outside: dict[str, Any], name: str
) -> None:
    if probe_abi() < NEEDS_ABI.get(name, 1):
        pytest.skip("this kernel's Landlock does not govern it")
    assert inside["outcomes"][name] in {"EACCES", "EPERM", "ENOSYS", "EXDEV"}
    told = outside["outcomes"][name]
    possible = told not in MAY_BE_MISSING and (name not in NEEDS_ROOT or os.geteuid() == 0)
    assert told == "done" or not possible  # this kernel may lack what is tried


@pytest.mark.parametrize("abi", [1, 3, 5])
def test_an_older_kernel_lets_through_what_its_landlock_does_not_govern(scene: Scene, abi: int) -> None:
    """What docs/explanation.md says is lost there, and no more than that."""
    if probe_abi() <= abi:
        pytest.skip("this kernel is no newer")
    prefix = [*older(abi), "garrison.cell.server", str(scene.stack.run_directory / "server.json"), "--"]
    outcomes = scene.run(*prefix)["outcomes"]
    assert {name for name, told in outcomes.items() if told == "done"} == {
        name for name, since in NEEDS_ABI.items() if abi < since
    }


def test_the_secret_and_the_setting_are_as_they_were(inside: dict[str, Any], scene: Scene) -> None:
    assert inside["outcomes"]
    assert (scene.directory / "secret").read_text() == SECRET
    assert scene.config.read_text() == (REPOSITORY / "config" / "config.properties").read_text()


def test_java_runs_in_that_cell(java: psutil.Process, inside: dict[str, Any]) -> None:
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{java.pid}/status").read_text().splitlines() if ":\t" in line
    )
    expected = {"Seccomp": "2", "NoNewPrivs": "1", "CapEff": "0" * 16, "CapPrm": "0" * 16}
    if os.geteuid() == 0:  # others may not take it away, and could never use it
        expected["CapBnd"] = "0" * 16
    for name, value in expected.items():
        assert (name, status[name]) == (name, value)
        assert inside["status"][name] == value


def test_the_cell_has_a_core_limit(java: psutil.Process) -> None:
    assert java.rlimit(psutil.RLIMIT_CORE) == (0, 0)


def test_no_process_stays_between_the_launcher_and_java(java: psutil.Process, running: RunningStack) -> None:
    assert java.ppid() == running.pid
    assert java.exe().endswith("/java")


def test_every_python_on_the_path_is_the_worker_s(java: psutil.Process, running: RunningStack) -> None:
    path = Path(java.environ()["PATH"])
    assert path == running.run_directory / "bin"
    found = {program.name: program.resolve() for program in path.iterdir()}
    assert found.keys() == {"python", "python3", "torchrun"}
    assert set(found.values()) == {find_server().program}


@pytest.mark.parametrize("name", ["python", "python3", "torchrun"])
def test_by_any_name_it_runs_nothing_but_the_worker(running: RunningStack, name: str) -> None:
    command = [str(running.run_directory / "bin" / name), "-c", "print('free')"]
    result = subprocess.run(command, env={}, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (78, "")
    assert result.stderr == "worker-python: runs TorchServe's model worker and nothing else\n"


def test_the_log_tells_of_nothing_that_the_cell_broke(running: RunningStack) -> None:
    warnings = [event for event in running.events() if event["gate"] == "server" and event.get("level") == "WARN"]
    assert warnings == []


def test_with_a_gpu_no_nvidia_smi_is_needed_or_missed(packed_digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TorchServe believes in the GPU that it is told of; here there is none, and the worker stays on the CPU."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with RunningStack(packed_digits) as stack:
        answer = send_request(stack.run_directory / "management.sock", "GET", "/models/digits", 5)
        (worker,) = json.loads(answer.body)[0]["workers"]
        assert (worker["gpu"], worker["status"]) == (True, "READY")
        assert "nvidia-smi" not in stack.log.read_text()
