"""A child ends with its parent, leaves nothing of its group behind, and cannot flood or block its reader."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

import psutil
import pytest

from garrison.errors import ConfigError
from garrison.lines import CUT, MAX_LINE_BYTES
from garrison.process import KEPT_LINES, Child, last_words, load_failure

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
    assert sorted(sink.wait_for(2)) == [b"err", b"out"]


def test_the_environment_is_given_and_not_inherited(start, monkeypatch):
    monkeypatch.setenv("SECRET", "x")
    _, sink = start("import os; print(sorted(os.environ))", environment={"A": "1"})
    assert b"SECRET" not in sink.wait_for(1)[0]
    assert b"'A'" in sink.lines[0]


def test_there_is_no_standard_input(start):
    _, sink = start("import sys; print(repr(sys.stdin.read()))")
    assert sink.wait_for(1) == [b"''"]


def test_a_line_at_the_limit_is_one_and_a_longer_one_is_cut(start):
    _, sink = start(f"print('a' * {MAX_LINE_BYTES}); print('b' * {MAX_LINE_BYTES + 1}); print('end')")
    assert sink.wait_for(3) == [b"a" * MAX_LINE_BYTES, b"b" * MAX_LINE_BYTES + CUT, b"end"]


def test_a_line_without_an_end_is_never_held_as_a_whole(start):
    _, sink = start(f"import sys; sys.stdout.write('a' * {10 * MAX_LINE_BYTES})")
    assert sink.wait_for(1) == [b"a" * MAX_LINE_BYTES + CUT]


TORN = """
import os, threading
def write(descriptor, block):
    for _ in range(50):
        os.write(descriptor, block)
block = b"".join(b"%06d" % number + b"x" * 194 + b"\\n" for number in range(320))
threads = [threading.Thread(target=write, args=pair) for pair in ((1, block), (2, b"a warning\\n"))]
[thread.start() for thread in threads]
"""


def test_what_is_written_to_one_stream_does_not_tear_the_lines_of_the_other(start):
    """A block larger than PIPE_BUF is not written at once; Envoy writes its access log in such blocks."""
    _, sink = start(TORN)
    lines = sink.wait_for(50 * 320 + 50)
    assert {len(line) for line in lines} == {200, len(b"a warning")}


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


# What a person is told of a server's last lines -----------------------------------------------------------------------


def server_line(message: str, logger: str = "org.pytorch.serve.wlm.WorkerThread") -> str:
    return json.dumps({"time": "now", "gate": "server", "event": "log", "logger": logger, "message": message})


def worker_line(message: str, gate: str = "contract", event: str = "output", model: str = "digits") -> str:
    """What a worker printed, as the relay stamped it and the server logged it."""
    return server_line(json.dumps({"gate": gate, "event": event, "model": model, "message": message}), "MODEL_LOG")


@dataclass
class Ended:
    """A server that printed these lines."""

    last_lines: list[str]


AGAIN = "; mend the model and pack it again"
NOISE = [worker_line("Backend worker process died."), server_line("Load model failed: digits, error: Worker died.")]
TRACEBACK = [
    "Traceback (most recent call last):",
    '  File "x.py", line 1, in f',
    "garrison.errors.ConfigError: no labels",
]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (
            [worker_line("handler.py, line 3: opened a socket", event="load_failed")],
            "handler.py, line 3: opened a socket",
        ),
        ([*map(worker_line, TRACEBACK)], "no labels"),
        ([server_line("Failed to load model digits, exception System out of memory")], "System out of memory"),
        ([worker_line("first", event="load_failed"), worker_line("last", event="load_failed")], "last"),
        ([worker_line("mine", event="load_failed"), worker_line("other", event="load_failed", model="faces")], "mine"),
        ([worker_line("KeyError: mine"), worker_line("KeyError: other", model="faces")], "mine"),
        ([worker_line("why", event="load_failed"), worker_line("ValueError: later")], "why"),
    ],
)
def test_why_a_model_was_not_loaded_is_found_in_what_its_worker_said(lines, told):
    assert load_failure(Ended([*NOISE, *lines, *NOISE]), "digits") == f": {told}{AGAIN}"


@pytest.mark.parametrize(
    "line",
    [
        worker_line("wrote 9 bytes, of 5 allowed; it is ended", "cell", "scratch_full"),
        worker_line("wrote 9 bytes, of 5 allowed; it is ended", "cell", "cell_open"),
        server_line("worker-python: wrote 9 bytes, of 5 allowed; it is ended", "MODEL_LOG"),
    ],
)
def test_what_its_cell_says_of_a_worker_counts_too(line):
    told = load_failure(Ended([*NOISE, line, *NOISE]), "digits")
    assert told == ": wrote 9 bytes, of 5 allowed; it is ended; see cell.yaml"


def test_a_model_cannot_speak_for_another_or_for_the_cell():
    forged = [
        worker_line(worker_line("a lie", event="load_failed", model="digits"), model="faces"),
        worker_line("a lie", event="load_failed", model="faces"),
        worker_line("a lie", event="scratch_full"),
        worker_line("worker-python: a lie", model="faces"),
        worker_line("Failed to load model digits, exception a lie", model="faces"),
    ]
    assert "see cell.yaml" not in load_failure(Ended(forged), "digits")
    assert AGAIN not in load_failure(Ended(forged), "digits")


def test_without_a_reason_the_last_lines_are_told_as_the_worker_wrote_them():
    lines = [worker_line(text) for text in ("loading", "still loading", 'File "x.py", line 1', "^^^^", "killed")]
    assert load_failure(Ended(lines), "digits") == "\n    loading\n    still loading\n    killed"
    assert (
        last_words(Ended(["not JSON", '"text"', "{}", "[" * 9])) == '\n    not JSON\n    "text"\n    {}\n    [[[[[[[[['
    )


def test_what_a_worker_said_is_one_line_at_a_terminal_too():
    told = last_words(Ended([worker_line("dead\nready: all is well\x1b[2J"), "\x1b]0;title\x07"]))
    assert told == "\n    dead\\nready: all is well\\x1b[2J\n    \\x1b]0;title\\x07"


ORPHANAGE = """
import subprocess, sys, time
from garrison.process import adopt_orphans, end_orphans, reap_orphans, _list_children
adopt_orphans()
own = subprocess.Popen(["sleep", "60"])
leaving = (
    "import os, subprocess, sys; "
    "kept = subprocess.Popen(['sleep', sys.argv[1]], stdout=-3, start_new_session=True); "  # unreferenced, it is reaped
    "print(kept.pid, flush=True); os._exit(0)"
)
def orphan(seconds):
    return int(subprocess.run([sys.executable, "-c", leaving, seconds], check=True, stdout=-1).stdout)
brief = orphan("0")
while _list_children() != {own.pid, brief}: time.sleep(0.01)
while brief in _list_children():
    reap_orphans([own.pid])
    time.sleep(0.01)
lasting = orphan("60")
while _list_children() != {own.pid, lasting}: time.sleep(0.01)
reap_orphans([own.pid])
print(lasting in _list_children())
end_orphans([own.pid])
print(_list_children() == {own.pid}, own.poll())
own.kill()
own.wait()
"""


def test_orphans_are_adopted_reaped_and_ended_and_our_own_left_alone():
    """Even one that began a session of its own."""
    told = subprocess.run([sys.executable, "-c", ORPHANAGE], capture_output=True, text=True, check=True, timeout=60)
    assert told.stdout.split() == ["True", "True", "None"]
