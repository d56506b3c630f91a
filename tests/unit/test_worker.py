"""A worker is TorchServe's own and nothing else, without our secrets, and ends with its server."""

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

WORKER = [sys.executable, "-I", "-m", "garrison.torchserve.worker"]
SCRIPT = Path(importlib.util.find_spec("ts").submodule_search_locations[0]) / "model_service_worker.py"


def run(command, **options):
    command = [str(part) for part in command]
    return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, **options)


@pytest.fixture
def wrapper(repository) -> Path:
    """The interpreter that TorchServe is told to use."""
    return repository / "scripts/worker-python"


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param([], id="nothing"),
        pytest.param(["/tmp/evil.py"], id="another-script"),
        pytest.param(["-c", "print('evil')"], id="code"),
        pytest.param(["-m", "http.server"], id="module"),
        pytest.param(["model_service_worker.py"], id="same-name-elsewhere"),
        pytest.param([SCRIPT.parent / "x" / ".." / SCRIPT.name], id="the-path-in-other-words"),
        pytest.param([SCRIPT.with_name("model_server.py")], id="another-script-of-torchserve"),
        pytest.param([""], id="empty"),
    ],
)
def test_nothing_else_is_run(wrapper, arguments):
    result = run([wrapper, *arguments], env={"GARRISON_PYTHON": sys.executable})
    assert (result.returncode, result.stdout) == (78, "")
    assert result.stderr == "worker-python: runs TorchServe's model worker and nothing else\n"


def test_without_the_launcher_s_interpreter_nothing_starts(wrapper):
    result = run([wrapper, SCRIPT], env={})
    assert result.returncode != 0
    assert "set by garrison serve" in result.stderr


def test_the_model_s_directory_cannot_shadow_a_module(wrapper, tmp_path):
    """TorchServe puts the model's directory on PYTHONPATH and starts the worker in it."""
    model = tmp_path / "model"
    model.mkdir()
    for name in ("sitecustomize", "usercustomize", "json", "runpy", "threading", "garrison", "ts"):
        (model / f"{name}.py").write_text(f"open({str(tmp_path / name)!r}, 'w').close()\n")
    environment = {"PYTHONPATH": str(model), "GARRISON_PYTHON": sys.executable, "PYTHONSTARTUP": str(model / "json.py")}
    assert run([wrapper, "other.py"], env=environment, cwd=model).returncode == 78
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    run([sys.executable, "-c", "import json"], env=environment, cwd=model)  # the attack works where we are not
    assert {"sitecustomize", "json"} <= {path.name for path in tmp_path.iterdir()}


def test_the_environment_is_an_allow_list(tmp_path):
    code = (
        "import os; from garrison.torchserve.worker import keep_environment; keep_environment(); print([*os.environ])"
    )
    environment = {"PATH": "/bin", "LANG": "C", "AWS_SECRET_ACCESS_KEY": "x", "LD_PRELOAD": "", "TS_X": "1"}
    result = run([sys.executable, "-I", "-c", code], env=environment)
    assert "AWS" not in result.stdout
    assert "TS_X" not in result.stdout
    assert "'PATH'" in result.stdout


@pytest.fixture
def worker(wrapper, tmp_path):
    """A worker of TorchServe that listens on its socket."""
    path = tmp_path / "w.9000"  # TorchServe wants a number after the dot
    environment = {"GARRISON_PYTHON": sys.executable, "PATH": "/usr/bin:/bin", "AWS_SECRET_ACCESS_KEY": "hunter2"}
    command = [wrapper, SCRIPT, "--sock-type", "unix", "--sock-name", path, "--metrics-config", metrics_file()]
    process = subprocess.Popen(
        [str(part) for part in command],
        env=environment,
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while not path.exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield process, path
    finally:
        process.stdin.close()
        process.kill()
        process.wait()


def metrics_file() -> Path:
    return SCRIPT.parent / "configs" / "metrics.yaml"


def test_a_worker_ends_with_its_server_and_takes_its_socket_along(worker):
    """The server's end of the pipe closes even if the server is killed."""
    process, path = worker
    process.stdin.close()
    assert process.wait(60) == 0
    assert not path.exists()


def test_a_secret_of_the_server_cannot_be_read_in_the_worker(worker):
    """Removing a variable leaves it in /proc/self/environ, which any code in the process can read."""
    process, _ = worker
    environment = Path(f"/proc/{process.pid}/environ").read_bytes()
    assert b"PATH=" in environment
    assert b"hunter2" not in environment


def test_what_a_worker_writes_is_its_own(worker):
    _, path = worker
    assert path.stat().st_mode & 0o077 == 0
    assert path.stat().st_uid == os.getuid()
