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
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from garrison.errors import ConfigError

MAX_LINE_BYTES = 16 * 1024
KEPT_LINES = 100  # a worker that fails writes about 30; the reason must still be there when the next one starts
_EXCEPTION = r"(?:\w+\.)*\w+(?:Error|Exception|Refused): (.+)"  # the last line of Python's traceback
_PR_SET_PDEATHSIG = 1
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
                stderr=subprocess.STDOUT,
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
        stream = self._process.stdout
        if stream is None:
            return
        with stream:
            while line := stream.readline(MAX_LINE_BYTES):
                line = line.rstrip(b"\r\n")
                self.last_lines.append(line.decode("utf-8", "replace"))
                with contextlib.suppress(OSError, ValueError):  # a full disk or a closed log must not block the child
                    sink(line)


def describe_exit(code: int) -> str:
    """Put an exit status into words."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


def last_words(child: Child) -> str:
    """Return the last lines of a server's output that say something, for a message to a person."""
    lines = [_message(line) for line in child.last_lines]
    spoken = [line for line in lines if line and not line.startswith(("at ", "File ", "^"))]
    return "".join(f"\n    {line}" for line in spoken[-4:])


def load_failure(child: Child, model: str) -> str:
    """Return why a model was not loaded: TorchServe's line about it, else the last exception, else the last lines."""
    lines = [_message(line) for line in reversed(child.last_lines)]
    for pattern in (rf"Failed to load model {re.escape(model)}, exception (.+)", _EXCEPTION):
        for line in lines:
            if match := re.fullmatch(pattern, line):
                return f": {match[1]}; mend the model and pack it again"
    return last_words(child)


def _die_with_parent() -> None:
    os.umask(0o077)  # sockets, too, are for this user only
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _message(line: str) -> str:
    try:
        event = json.loads(line)
    except ValueError:
        return line.strip()[:300]
    return str(event.get("message", "")).strip()[:300] if isinstance(event, dict) else ""
