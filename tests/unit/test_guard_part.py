"""A process of the guard as a part of a run, where it hangs: the command itself is in tests/stack/test_guard_run.py."""

import http
import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from garrison.eventlog import EventLog
from garrison.process import Child
from garrison.sockets import GUARD_SOCKETS, READY, SocketDirectory
from garrison.stack import guard
from garrison.stack.guard import GuardPart, GuardPlaces
from garrison.stack.part import Lifetime
from garrison.unix_http import Page, UnixServer

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


class Hanging(GuardPart):
    """A part whose process is one that sleeps; what its ready.sock says is the test's."""

    def __init__(self, directory: Path, log: io.BytesIO) -> None:
        super().__init__(GuardPlaces(None, directory, None), 0, list, Lifetime(EventLog(log, None)))
        self._sockets = SocketDirectory(directory, names=GUARD_SOCKETS)
        self._directory_path = directory

    def launch(self) -> Child:
        self._started = self._turned_at = 0.0
        return Child("guard 0", SLEEP, {}, self._directory_path, lambda _: None)


@pytest.fixture
def log() -> io.BytesIO:
    return io.BytesIO()


@pytest.fixture
def part(tmp_path: Path, log: io.BytesIO) -> Iterator[Hanging]:
    made = Hanging(tmp_path, log)
    made.start()
    yield made
    made.stop()


@pytest.mark.parametrize(
    ("said", "status", "runs_on"),
    [("ready", 200, True), ("not ready", 503, True), ("stopping", 503, True), ("stuck", 503, False)],
)
def test_a_process_that_says_that_it_is_stuck_is_ended(tmp_path, part, log, said, status, runs_on):
    page = Page(http.HTTPStatus(status), "application/json", f'{{"status": "{said}"}}'.encode())
    server = UnixServer(tmp_path / READY, lambda _: page)
    try:
        assert part._ask() is (status == 200)
    finally:
        server.close()
    assert part.is_running() is runs_on
    assert (b'"stuck"' in log.getvalue()) is not runs_on


def test_a_process_that_does_not_answer_at_all_is_ended_only_after_a_while(part, monkeypatch):
    monkeypatch.setattr(guard, "STUCK_AFTER_S", float("inf"))
    assert part._ask() is False
    assert part.is_running()
    monkeypatch.undo()
    assert part._ask() is False
    assert not part.is_running()


def test_who_begins_to_stop_tells_the_process_once(part):
    part.refuse()
    told = part._told_to_stop
    part.refuse()
    assert told == part._told_to_stop == part.pids()[0]
