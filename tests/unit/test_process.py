"""A child ends with its parent, leaves nothing of its group behind, and cannot flood or block its reader."""

import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from garrison.errors import ConfigError
from garrison.process import KEPT_LINES, MAX_LINE_BYTES, Child

PATIENCE_S = 30


class Sink:
    """Collect a child's lines."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self._changed = threading.Condition()

    def __call__(self, line: bytes) -> None:
        with self._changed:
            self.lines.append(line)
            self._changed.notify_all()

    def wait_for(self, count: int) -> list[bytes]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.lines) >= count, PATIENCE_S), self.lines
        return self.lines


def until(condition) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def has_ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE  # whoever inherits it may not reap it
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def start(tmp_path):
    """Start Python code as a child; it is stopped after the test."""
    children = []

    def run(code: str, sink=None, environment=None) -> tuple[Child, Sink]:
        sink = sink or Sink()
        children.append(Child("test", [sys.executable, "-u", "-c", code], environment or {}, tmp_path, sink))
        return children[-1], sink

    yield run
    for child in children:
        child.stop(0)


def test_lines_of_both_streams_reach_the_sink(start):
    _, sink = start("import sys; print('out'); print('err', file=sys.stderr)")
    assert sink.wait_for(2) == [b"out", b"err"]


def test_the_environment_is_given_and_not_inherited(start, monkeypatch):
    monkeypatch.setenv("SECRET", "x")
    _, sink = start("import os; print(sorted(os.environ))", environment={"A": "1"})
    assert b"SECRET" not in sink.wait_for(1)[0]
    assert b"'A'" in sink.lines[0]


def test_there_is_no_standard_input(start):
    _, sink = start("import sys; print(repr(sys.stdin.read()))")
    assert sink.wait_for(1) == [b"''"]


def test_a_line_at_the_limit_is_one_and_a_longer_one_is_cut(start):
    _, sink = start(f"print('a' * {MAX_LINE_BYTES - 1}); print('b' * {MAX_LINE_BYTES}); print('end')")
    assert [len(line) for line in sink.wait_for(4)] == [MAX_LINE_BYTES - 1, MAX_LINE_BYTES, 0, 3]


def test_a_line_without_an_end_is_never_held_as_a_whole(start):
    _, sink = start(f"import sys; sys.stdout.write('a' * {10 * MAX_LINE_BYTES})")
    assert {len(line) for line in sink.wait_for(10)} == {MAX_LINE_BYTES}


def test_only_the_last_lines_are_kept(start):
    child, sink = start(f"for n in range({KEPT_LINES + 1}): print(n)")
    sink.wait_for(KEPT_LINES + 1)
    assert list(child.last_lines) == [str(n) for n in range(1, KEPT_LINES + 1)]


def test_bytes_that_are_no_text_are_kept_readable(start):
    child, sink = start(r"import sys; sys.stdout.buffer.write(b'\xff\n')")
    sink.wait_for(1)
    assert list(child.last_lines) == ["\ufffd"]


def test_a_log_that_cannot_be_written_does_not_block_the_child(start):
    """A full disk once stopped the reader, then the pipe was full, then the server stood still."""

    def full(line: bytes) -> None:
        raise OSError("No space left on device")

    child, _ = start("for n in range(20000): print('a' * 100)", sink=full)
    until(lambda: child.exit_code() is not None)
    assert child.exit_code() == 0


@pytest.mark.parametrize(
    ("code", "status"), [("raise SystemExit(3)", 3), ("import os; os.abort()", -signal.SIGABRT)], ids=["exit", "signal"]
)
def test_the_exit_code_is_told(start, code, status):
    child, _ = start(code)
    until(lambda: child.exit_code() is not None)
    assert child.exit_code() == status


def test_stop_asks_first(start):
    child, sink = start(
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('bye'), sys.exit(7)))\n"
        "print('up'); time.sleep(600)"
    )
    sink.wait_for(1)
    child.stop(PATIENCE_S)
    assert (child.exit_code(), sink.lines) == (7, [b"up", b"bye"])


IGNORE = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);"


def test_stop_kills_what_does_not_listen(start):
    child, sink = start(f"{IGNORE} import time; print('up'); time.sleep(600)")
    sink.wait_for(1)
    child.stop(0.1)
    assert child.exit_code() == -signal.SIGKILL


@pytest.mark.parametrize("parent_waits", [True, False], ids=["parent-running", "parent-gone"])
def test_stop_leaves_no_grandchild(start, parent_waits):
    sleeper = f"{IGNORE} import time; print('up', flush=True); time.sleep(600)"
    child, sink = start(
        "import subprocess, sys, time\n"
        f"print(subprocess.Popen([sys.executable, '-c', {sleeper!r}]).pid)\n"
        + ("time.sleep(600)" if parent_waits else "")
    )
    grandchild = next(int(line) for line in sink.wait_for(2) if line.isdigit())
    child.stop(PATIENCE_S)
    until(lambda: has_ended(grandchild))


def test_stop_may_be_called_twice_and_after_the_end(start):
    child, _ = start("pass")
    until(lambda: child.exit_code() is not None)
    child.stop(0)
    child.stop(0)


def test_a_child_dies_with_a_parent_that_is_killed(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from garrison.process import Child\n"
        "command = [sys.executable, '-c', 'import time; time.sleep(600)']\n"
        "print(Child('c', command, {}, Path('/'), print).pid, flush=True); time.sleep(600)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment) as parent:
        pid = int(parent.stdout.readline())
        assert not has_ended(pid)
        parent.kill()
    until(lambda: has_ended(pid))


def test_a_command_that_cannot_be_started_is_named(tmp_path):
    with pytest.raises(ConfigError, match="/nowhere/java: cannot be started"):
        Child("test", ["/nowhere/java"], {}, tmp_path, print)
