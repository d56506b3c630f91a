"""`scripts/verify-tfserving-image` asks everything; against the stand-in, all but reflection is as upstream's."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from standins.starting import BINARY
from upstream.questions import ask_listeners
from upstream.report import DIFFERENT, EXPECTED, UNDECIDED, Row, find_exit_status, judge, render_text
from upstream.servers import Running

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/verify-tfserving-image"


def run(*arguments: str | Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, SCRIPT, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=180, check=False, env={**os.environ, **environment}
    )


@pytest.fixture(scope="module")
def report() -> Any:
    ended = run("--binary", BINARY, "--json")
    assert ended.returncode == 1, ended.stderr
    return {row["question"]: row for row in json.loads(ended.stdout)["questions"]}


def test_only_what_the_stand_in_does_not_have_is_different(report: Any) -> None:
    found = {
        verdict: [name for name, row in report.items() if row["verdict"] == verdict]
        for verdict in (DIFFERENT, UNDECIDED)
    }
    assert found == {DIFFERENT: ["reflection"], UNDECIDED: []}
    assert report["reflection"]["seen"] == "UNIMPLEMENTED"


def test_the_report_says_what_was_seen(report: Any) -> None:
    assert report["answers the sample model"]["seen"] == "[2, 0, 7]"
    assert "one more: RESOURCE_EXHAUSTED" in report["the message limit of --grpc_channel_arguments"]["seen"]
    assert report["a batch of no rows"]["seen"].startswith("DEADLINE_EXCEEDED")
    assert report["listens on the unix socket only"]["seen"] == "no TCP port"


@pytest.mark.parametrize(("listens", "verdict"), [(True, DIFFERENT), (False, EXPECTED)], ids=["tcp", "nothing"])
def test_a_server_that_listens_on_tcp_is_told_from_one_that_does_not(
    listens: bool, verdict: str, tmp_path: Path
) -> None:
    listen = "s.bind(('127.0.0.1', 0)); s.listen()" if listens else "pass"
    program = f"import socket, time; s = socket.socket(); {listen}; print('ready', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert ask_listeners(Running(tmp_path, tmp_path, process)).verdict == verdict
        process.kill()


def test_without_a_program_or_an_engine_it_says_what_to_do(tmp_path: Path) -> None:
    nothing = run("--binary", tmp_path / "nothing")
    assert (nothing.returncode, nothing.stdout) == (78, "")
    assert "is no program that can be run" in nothing.stderr
    no_engine = run(PATH=str(tmp_path))
    assert (no_engine.returncode, no_engine.stdout) == (78, "")
    assert "no Docker engine answers; start one" in no_engine.stderr


def test_a_program_that_ends_is_a_clear_failure() -> None:
    ended = run("--binary", "/bin/false")
    assert ended.returncode == 78
    assert "the server ended" in ended.stderr


@pytest.mark.parametrize(
    ("goods", "status"),
    [((True, True), 0), ((True, None), 2), ((None, False), 1)],
    ids=["all", "undecided", "different"],
)
def test_the_exit_status_is_the_worst_verdict(goods: tuple[bool | None, ...], status: int) -> None:
    rows = [judge("asked", "wanted", "seen", good) for good in goods]
    assert find_exit_status(rows) == status
    assert rows[0] == Row("asked", "wanted", "seen", EXPECTED if goods[0] else UNDECIDED)
    assert f"{goods.count(True)} as expected" in render_text("server", rows)
