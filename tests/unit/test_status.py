"""`garrison status` says in one line whether a server or a gateway is ready, and costs next to nothing."""

import json
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from garrison.cli import main
from garrison.sockets import READY, STATUS
from garrison.stack.described import ServedModel
from garrison.stack.reload_state import ReloadState, write_state
from garrison.torchserve.readiness import ReadinessServer
from garrison.unix_http import Page, UnixServer, send_request

MOST_CPU_S = 0.3  # measured: 0.1; for machines that are slower or busy


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ReadinessServer]:
    server = ReadinessServer(tmp_path / READY)
    yield server
    server.close()


@pytest.mark.parametrize("option", ["--sockets", "--run-dir"])
@pytest.mark.parametrize(("ready", "status"), [(True, 0), (False, 1)], ids=["ready", "not ready"])
def test_a_server(
    server: ReadinessServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, ready: bool, status: int
) -> None:
    server.ready = ready
    assert main(["status", option, str(tmp_path)]) == status
    said = capsys.readouterr().out
    assert said.startswith("ready: " if ready else "not ready: ") and said.count("\n") == 1
    assert main(["status", option, str(tmp_path), "--json"]) == status
    told = json.loads(capsys.readouterr().out)
    assert (told["part"], told["ready"]) == ("server", ready)


@pytest.mark.parametrize("which", [[], ["--gateway"]], ids=["server", "gateway"])
def test_where_nobody_is(tmp_path: Path, capsys: pytest.CaptureFixture[str], which: list[str]) -> None:
    assert main(["status", "--run-dir", str(tmp_path), *which]) == 1
    assert capsys.readouterr().out.count("\n") == 1


MODELS = [
    ServedModel("digits", "3", "ab" * 32, ready=True, wanted=2, working=(11, 12), waiting=()),
    ServedModel("faces", "1", "cd" * 32, ready=False, wanted=1, working=(), waiting=(13,)),
]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[list[str]]:
    """A server's own socket in its run directory, and what it was asked."""
    asked: list[str] = []

    def answer(path: str) -> Page:
        asked.append(path)
        return Page(200, "application/json", json.dumps({"ready": False, "models": list(map(asdict, MODELS))}).encode())

    server = UnixServer(tmp_path / STATUS, answer)
    yield asked
    server.close()


def test_models_are_listed_to_who_may_enter_the_run_directory(
    own: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "--run-dir", str(tmp_path)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "not ready: a model has no worker yet, or the server stops",
        "  digits 3 abababababab: ready, 2 of 2 workers (pid 11, 12)",
        "  faces 1 cdcdcdcdcdcd: not ready, 0 of 1 workers, 1 starting",
    ]
    assert main(["status", "--run-dir", str(tmp_path), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["models"] == json.loads(json.dumps(list(map(asdict, MODELS))))
    assert own == ["/", "/"]


@pytest.mark.parametrize("told", [b"", b"{", b"[]", b'{"ready": true}', b'{"ready": true, "models": [{}]}'])
def test_what_is_no_answer_counts_as_none(
    server: ReadinessServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], told: bytes
) -> None:
    """The older socket answers then."""
    broken = UnixServer(tmp_path / STATUS, lambda path: Page(200, "application/json", told))
    try:
        assert main(["status", "--run-dir", str(tmp_path)]) == 1
        server.ready = True
        assert main(["status", "--run-dir", str(tmp_path)]) == 0
    finally:
        broken.close()
    assert capsys.readouterr().out.count("\n") == 2


@pytest.mark.parametrize(
    ("state", "status", "words"),
    [
        (ReloadState("d"), 0, "ready: connections are accepted"),
        (ReloadState("d", "not taken over: x"), 0, "; not taken over: x"),
        (ReloadState("d", "Envoy refused y", taken=False), 1, "not sound: Envoy refused y"),
    ],
    ids=["in force", "refused", "not taken"],
)
def test_a_gateway_says_what_became_of_its_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], state: ReloadState, status: int, words: str
) -> None:
    write_state(tmp_path, state)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        told = f"gateway::127.0.0.1:{listener.getsockname()[1]}\n".encode()
        admin = UnixServer(tmp_path / "admin.sock", lambda path: Page(200, "text/plain", told))
        try:
            assert main(["status", "--gateway", "--run-dir", str(tmp_path)]) == status
        finally:
            admin.close()
    assert words in capsys.readouterr().out


def test_a_model_without_a_worker_does_not_stop_the_others(server: ReadinessServer, tmp_path: Path) -> None:
    server.serving = True
    asked = {path: send_request(tmp_path / READY, "GET", path, 5).status for path in ("/serving", "/", "/healthz")}
    assert asked == {"/serving": 200, "/": 503, "/healthz": 503}
    server.ready = True
    server.refuse()
    assert {send_request(tmp_path / READY, "GET", path, 5).status for path in asked} == {503}


@pytest.mark.parametrize("listeners", [b"", b"other::127.0.0.1:1\n", b"gateway::127.0.0.1:1\n"])
def test_a_gateway_that_takes_no_connections(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], listeners: bytes
) -> None:
    admin = UnixServer(tmp_path / "admin.sock", lambda path: Page(200, "text/plain", listeners))
    try:
        assert main(["status", "--gateway", "--run-dir", str(tmp_path)]) == 1
    finally:
        admin.close()
    assert capsys.readouterr().out.startswith("not ready: ")


def test_it_costs_little(tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-I", "-m", "garrison.cli", "status", "--sockets", str(tmp_path)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < MOST_CPU_S
