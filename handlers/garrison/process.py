"""Run one server process for as long as we live: a command enters, its output lines leave.

The child gets its own process group, an environment that is given and not inherited, and no standard input. It is
killed by the kernel when its parent dies, and `stop` leaves none of its group behind.
"""

import collections
import contextlib
import ctypes
import json
import os
import re
import select
import signal
import subprocess
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from garrison.errors import ConfigError
from garrison.event import escape
from garrison.lines import Lines

READ_BYTES = 64 * 1024  # what a pipe holds
KEPT_LINES = 100  # a worker that fails writes about 30; the reason must still be there when the next one starts
_EXCEPTION = r"(?:\w+\.)*\w+(?:Error|Exception|Refused): (.+)"  # the last line of Python's traceback
_STAMP = ("gate", "event", "model")
WORKER_LOGGER = "MODEL_LOG"  # TorchServe's name for what workers print
LOAD_FAILED = "load_failed"
CELL_GATE = "cell"
# The supervisor's events before it ends a worker.
CELL_ENDINGS = frozenset({"cell_open", "scratch_full", "memory_full"})
MAX_TOLD_CHARACTERS = 700
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_libc = ctypes.CDLL(None, use_errno=True)

Sink = Callable[[bytes], None]


class Child:
    """One running process whose output goes line by line to `sink`."""

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], cwd: Path, sink: Sink
    ) -> None:
        self.name = name
        self.last_lines: collections.deque[str] = collections.deque(maxlen=KEPT_LINES)
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the command is ours
                command,
                env=dict(environment),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,  # apart: a long line in one pipe would be torn by what is written beside it
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - one system call
            )
        except OSError as error:
            raise ConfigError(f"{command[0]}: cannot be started ({error.strerror})") from error
        self._relay = threading.Thread(target=self._relay_lines, args=(sink,), daemon=True)
        self._relay.start()

    @property
    def pid(self) -> int:
        """The child's process id, which is also its process group's."""
        return self._process.pid

    def exit_code(self) -> int | None:
        """Return the exit status, negative for a signal, or None while the child runs."""
        return self._process.poll()

    def stop(self, timeout_s: float) -> None:
        """Ask the child to end, wait, then kill what is left of its process group."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._relay.join(timeout=5)

    def _relay_lines(self, sink: Sink) -> None:
        streams = [stream for stream in (self._process.stdout, self._process.stderr) if stream is not None]
        open_lines = {stream.fileno(): Lines() for stream in streams}
        watch = select.poll()
        for descriptor in open_lines:
            watch.register(descriptor, select.POLLIN)
        with contextlib.ExitStack() as stack:
            for stream in streams:
                stack.enter_context(stream)
            while open_lines:
                for descriptor, _ in watch.poll():
                    data = os.read(descriptor, READ_BYTES)
                    lines = open_lines[descriptor]
                    self._pass_on(lines.feed(data) if data else lines.finish(), sink)
                    if not data:
                        watch.unregister(descriptor)
                        del open_lines[descriptor]

    def _pass_on(self, lines: Iterable[bytes], sink: Sink) -> None:
        for line in lines:
            self.last_lines.append(line.decode("utf-8", "replace"))
            with contextlib.suppress(OSError, ValueError):  # a full disk or a closed log must not block the child
                sink(line)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, so that none is lost: a worker's, for one."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap_orphans(own: Collection[int]) -> None:
    """Take leave of adopted processes that have ended; `own` are our own children, for whom somebody waits already."""
    for pid in _list_children() - {*own}:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def end_orphans(own: Collection[int]) -> None:
    """Kill adopted processes, and what they leave behind in turn."""
    while orphans := _list_children() - {*own}:
        for pid in orphans:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def _list_children() -> set[int]:
    """Return all children of this process; the kernel lists them by the thread that started them."""
    found: set[int] = set()
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that ended meanwhile
            found.update(map(int, (thread / "children").read_text().split()))
    return found


def describe_exit(code: int) -> str:
    """Put an exit status into words."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


def last_words(child: Child) -> str:
    """Return the last lines of a server's output that say something, for a message to a person."""
    lines = [_read_line(line).text for line in child.last_lines]
    spoken = [line for line in lines if line and not line.startswith(("at ", "File ", "^"))]
    return "".join(f"\n    {line}" for line in spoken[-4:])


def load_failure(child: Child, model: str) -> str:
    """Return why a model was not loaded: what its worker said, else its last exception, its cell, the last lines."""
    lines = [_read_line(line) for line in reversed(child.last_lines)]
    own = [line for line in lines if line.model == model]
    unstamped = [line for line in lines if not line.model]  # the server's, and what a supervisor says itself
    for told in (
        *(line.text for line in own if line.event == LOAD_FAILED),
        *_matches(rf"Failed to load model {re.escape(model)}, exception (.+)", unstamped),
        *_matches(_EXCEPTION, own),
    ):
        return f": {told}; mend the model and pack it again"
    for told in (
        *(line.text for line in own if line.gate == CELL_GATE and line.event in CELL_ENDINGS),
        *_matches(r"worker-python: (.+)", unstamped),
    ):
        return f": {told}; see cell.yaml"
    return last_words(child)


def _die_with_parent() -> None:
    os.umask(0o077)  # sockets, too, are for this user only
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


@dataclass(frozen=True)
class _Line:
    """A server's line, or what a worker printed that the server passed on; gate, event and model are the relay's."""

    text: str
    gate: str = ""
    event: str = ""
    model: str = ""


def _read_line(line: str) -> _Line:
    event = _read_object(line)
    if event.get("logger") == WORKER_LOGGER:
        event = _read_object(str(event.get("message", ""))) or event
    if not event:
        return _Line(escape(line.strip()[:MAX_TOLD_CHARACTERS], keep=""))
    told = (str(event.get(name, "")).strip()[:MAX_TOLD_CHARACTERS] for name in ("message", *_STAMP))
    text, *stamp = (escape(one, keep="") for one in told)  # a line stays one at a terminal, too
    return _Line(text, *stamp)


def _read_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _matches(pattern: str, lines: Iterable[_Line]) -> Iterator[str]:
    return (match[1] for line in lines if (match := re.fullmatch(pattern, line.text)))
