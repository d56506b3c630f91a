"""A worker is TorchServe's own and nothing else, without our secrets, and ends with its server."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from garrison.cell.settings import RENDERED_FILE, CellSettings, render
from garrison.torchserve.renewal.program import write_program
from garrison.torchserve.server import find_server
from garrison.torchserve.worker import keep_environment

SCRIPT = Path(importlib.util.find_spec("ts").submodule_search_locations[0]) / "model_service_worker.py"

OPTIONS = ("--sock-type", "unix", "--sock-name", "/nowhere", "--metrics-config", "/nowhere")


def run(command, **options):
    command = [str(part) for part in command]
    return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, **options)


@pytest.fixture
def wrapper() -> Path:
    """The interpreter that TorchServe is told to use."""
    return find_server().program


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
    result = run([wrapper, *arguments], env={})
    assert (result.returncode, result.stdout) == (78, "")
    assert result.stderr == "worker-python: runs TorchServe's model worker and nothing else\n"


def test_an_installation_may_lie_behind_a_link(tmp_path):
    """The launcher names TorchServe's script without links; the worker's Python finds it with them."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").symlink_to(os.path.realpath(sys.executable))
    (tmp_path / "pyvenv.cfg").write_text((Path(sys.prefix) / "pyvenv.cfg").read_text())
    (tmp_path / "lib").symlink_to(Path(sys.prefix) / "lib")
    program = tmp_path / "worker-python"
    program.write_bytes(write_program(str(tmp_path / "bin/python")))
    program.chmod(0o755)
    result = run([program, SCRIPT.resolve(), *OPTIONS], env={})
    assert result.stderr == "worker-python: GARRISON_CELL: not set; start the server by `garrison serve`\n"


def test_the_model_s_directory_cannot_shadow_a_module(wrapper, tmp_path):
    """TorchServe puts the model's directory on PYTHONPATH and starts the worker in it."""
    model = tmp_path / "model"
    model.mkdir()
    for name in ("sitecustomize", "usercustomize", "json", "runpy", "threading", "garrison", "ts"):
        (model / f"{name}.py").write_text(f"open({str(tmp_path / name)!r}, 'w').close()\n")
    environment = {"PYTHONPATH": str(model), "PYTHONSTARTUP": str(model / "json.py")}
    assert run([wrapper, "other.py"], env=environment, cwd=model).returncode == 78
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    run([sys.executable, "-c", "import json"], env=environment, cwd=model)  # the attack works where we are not
    assert {"sitecustomize", "json"} <= {path.name for path in tmp_path.iterdir()}


def test_the_environment_is_an_allow_list():
    environment = {"PATH": "/bin", "LANG": "C", "AWS_SECRET_ACCESS_KEY": "x", "LD_PRELOAD": "", "TS_X": "1"}
    assert keep_environment(environment) == {"LANG": "C"}


@pytest.fixture
def run_directory(tmp_path) -> Path:
    """What the launcher makes before TorchServe starts a worker."""
    for name in ("cells", "models/mine", "tmp/workers"):
        (tmp_path / name).mkdir(parents=True)
    render(CellSettings(2**30, 64, 2**24, 64), tmp_path / "cells" / RENDERED_FILE)
    return tmp_path


def start(wrapper, run_directory, **options):
    """Start a worker as TorchServe does: in its model's directory, with a socket's path that ends in a number."""
    environment = {
        "GARRISON_CELL": str(run_directory / "cells"),
        "PATH": "/usr/bin:/bin",
        "AWS_SECRET_ACCESS_KEY": "hunter2",
        **options.pop("env", {}),
    }
    path = run_directory / "w.9000"
    command = [wrapper, SCRIPT, "--sock-type", "unix", "--sock-name", path, "--metrics-config", metrics_file()]
    return subprocess.Popen(
        [str(part) for part in command],
        env=environment,
        cwd=run_directory / "models/mine",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


@pytest.fixture
def worker(wrapper, run_directory):
    """A worker of TorchServe that says that it listens, and its process id."""
    with start(wrapper, run_directory) as process:
        try:
            yield process, read_handshake(process)
        finally:
            process.kill()


def read_handshake(process) -> int:
    """Read what TorchServe waits for: the worker's process id, then that it has started."""
    lines = iter(process.stdout.readline, b"")
    pid = next(int(line[5:]) for line in lines if line.startswith(b"[PID]"))
    assert next(lines) == b"Torch worker started.\n"
    return pid


def metrics_file() -> Path:
    return SCRIPT.parent / "configs" / "metrics.yaml"


def connect(run_directory) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(20)
    try:
        connection.connect(str(run_directory / "w.9000"))
    except OSError:
        connection.close()
        raise
    return connection


def test_without_the_launcher_s_directory_nothing_starts(wrapper, run_directory):
    with start(wrapper, run_directory, env={"GARRISON_CELL": str(run_directory / "nothing")}) as process:
        assert process.wait(20) == 78
        assert b"`garrison serve` writes it" in process.stdout.read()


def test_a_worker_ends_with_its_server_and_takes_its_socket_along(worker, run_directory):
    """The server's end of the pipe closes even if the server is killed."""
    process, _ = worker
    process.stdin.close()
    assert process.wait(60) == 1
    assert not (run_directory / "w.9000").exists()


def test_a_secret_of_the_server_cannot_be_read_in_the_worker(worker):
    """Removing a variable leaves it in /proc/self/environ, which any code in the process can read."""
    process, pid = worker
    for one in (process.pid, pid):
        environment = Path(f"/proc/{one}/environ").read_bytes()
        assert b"LANG" in environment or b"GARRISON_CELL" in environment
        assert b"hunter2" not in environment


def test_what_a_worker_writes_is_its_own(worker, run_directory):
    for path in (run_directory / "w.9000", *(run_directory / "tmp/workers").iterdir()):
        assert path.stat().st_mode & 0o077 == 0
        assert path.stat().st_uid == os.getuid()


def test_the_server_s_connection_is_the_only_one(worker, run_directory):
    """Nobody can ask a worker behind the server's back, another worker least of all."""
    with connect(run_directory) as connection:
        deadline = time.monotonic() + 20
        while (run_directory / "w.9000").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with pytest.raises(OSError, match="No such file"):
            connect(run_directory)
        connection.sendall(b"X")  # no command of TorchServe's: the worker ends
        assert connection.recv(1) == b""


def test_somebody_else_than_the_server_is_turned_away(worker, run_directory):
    process, _ = worker
    stranger = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print(s.recv(1))"
    told = run([sys.executable, "-c", stranger, run_directory / "w.9000"], timeout=60)
    assert told.stdout == "b''\n"
    event = next(json.loads(line) for line in iter(process.stdout.readline, b"") if b"stranger" in line)
    assert (event["gate"], event["event"]) == ("cell", "stranger")
    with connect(run_directory) as connection:  # the server's place is still free
        connection.sendall(b"X")
        assert connection.recv(1) == b""


def test_the_worker_itself_has_nothing_that_listens(worker, run_directory):
    _, pid = worker
    links = [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()]
    inodes = [link[8:-1] for link in links if link.startswith("socket:")]  # its lines to the supervisor
    assert len(inodes) == 2
    listening = [
        line.split()[6] for line in Path("/proc/net/unix").read_text().splitlines()[1:] if " 00010000 " in line
    ]
    assert not {*inodes} & {*listening}
    assert listening
