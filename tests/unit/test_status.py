"""`garrison status` says in one line whether a server or a gateway is ready, and costs next to nothing."""

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from garrison.cli import main
from garrison.sockets import READY
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
