"""A part's process is started again when it ends, a few times; what ends before it was ever ready is not."""

import io
import json
import time
from pathlib import Path

import pytest

from garrison.errors import Undecided
from garrison.eventlog import EventLog
from garrison.process import Child
from garrison.stack.part import MAX_RESTARTS, Lifetime, Part


class Brief(Part):
    """A process that says something and ends."""

    title, gate = "a brief one", "server"
    launched = refused = 0

    def check(self) -> None: ...

    def prepare(self, run_directory: Path) -> None: ...

    def launch(self) -> Child:
        self.launched += 1
        command = ["/bin/sh", "-c", "echo the last words; exit 3"]
        return Child("Brief", command, {}, Path("/"), self.sink())

    def refuse(self) -> None:
        self.refused += 1

    def watch(self) -> bool:
        return True

    def address(self) -> str:
        return "nowhere"

    def has_callers(self) -> bool:
        return False

    def drain(self) -> None: ...


@pytest.fixture
def log() -> io.BytesIO:
    return io.BytesIO()


@pytest.fixture
def part(log: io.BytesIO) -> Brief:
    part = Brief(Lifetime(EventLog(log, None)))
    part.lifetime.stopping.set()  # so that nothing waits between two starts
    part.start()
    return part


def wait_for_end(part: Brief) -> None:
    deadline = time.monotonic() + 10
    while part.is_running():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.05)  # its last line


def test_what_ends_before_it_was_ready_will_end_again(part: Brief) -> None:
    wait_for_end(part)
    with pytest.raises(Undecided, match=r"Brief ended \(exit status 3\)\n    the last words"):
        part.replace_dead()
    assert part.launched == 1


def test_what_ends_later_is_started_a_few_times(part: Brief, log: io.BytesIO) -> None:
    part.lifetime.ready.set()
    for _ in range(MAX_RESTARTS):
        wait_for_end(part)
        part.replace_dead()
    wait_for_end(part)
    with pytest.raises(Undecided):
        part.replace_dead()
    assert part.launched == MAX_RESTARTS + 1
    assert part.refused == MAX_RESTARTS + 1  # whoever asks is told before anything else is done
    events = [json.loads(line)["event"] for line in log.getvalue().splitlines()]
    assert events.count("restarting") == MAX_RESTARTS
