"""Close the cell from inside: a freshly forked child enters, a confined process leaves, before anything of the model.

The steps, in `Inside.close_cell`, in this order:

    1 tie        the child dies with its supervisor
    2 limits     descriptors, scratch as the working directory, environment, resource limits
    3 privileges no capability, none to be gained, no core dump, no other process that looks in
    4 Landlock   what may be read and written (before numpy, whose import starts threads)
    5 seccomp    what may be called; the listener goes to the supervisor, and no copy of it stays
    6 posture    all of it is tried

What the child says to its supervisor afterwards may come from hostile code. It can only say that it is further than it
is, which takes rights away, or ask what was denied to it.
"""

import contextlib
import fcntl
import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn, Protocol

from garrison.cell import landlock, limits, seccomp
from garrison.cell.calls import make_rules
from garrison.cell.posture import Posture, render_posture, try_everything
from garrison.cell.reach import list_own_files
from garrison.cell.settings import LANDLOCK, SECCOMP, CellSettings
from garrison.cell.trials import Surroundings
from garrison.errors import ConfigError, GarrisonError, Undecided

MAX_MESSAGE_BYTES = 64 * 1024
EXIT_ENDED = 1  # of a worker that a signal ended, or an error that is not ours

CLOSED, PREPARED, SERVING, DENIED = "closed", "prepared", "serving", "denied"
ANSWER = "answer"


@dataclass(frozen=True)
class CellPlan:
    """What one worker's cell is made of.

    `rules` say what it may read and write, `scratch` is the one place among it where it may write; `environment` is
    all that it gets; `surroundings` are what must be out of its reach.
    """

    model: str
    settings: CellSettings
    rules: landlock.Rules
    scratch: Path
    environment: Mapping[str, str]
    surroundings: Surroundings
    cuda: bool


class Inside:
    """The child's line to its supervisor, `control`; descriptors pass by `handover`, until there is a model."""

    def __init__(self, control: socket.socket, handover: socket.socket) -> None:
        self._control, self._handover = control, handover
        self._connection: socket.socket | None = None

    def close_cell(self, plan: CellPlan, supervisor: int) -> Posture:
        """Close the cell around this process, and return what was found by trying it.

        Raises:
            ConfigError: the kernel does not give what it takes.
        """
        limits.die_with_parent(supervisor)  # 1
        rules = replace(plan.rules, read=(*plan.rules.read, *list_own_files(os.getpid())))
        held = _hold(path for path in rules.read if path.is_relative_to("/proc"))
        self._handover = _move_out_of_reach(self._handover)
        limits.close_descriptors({0, 1, 2, self._control.fileno(), self._handover.fileno(), *held})  # 2
        os.chdir(plan.scratch)
        os.environ.clear()
        os.environ.update(plan.environment)
        os.umask(0o077)
        limits.set_limits(plan.settings.memory_bytes, plan.settings.threads, plan.settings.scratch_max_bytes)
        limits.drop_capabilities()  # 3
        limits.set_no_new_privs()
        limits.set_undumpable()
        if landlock.probe_abi() or LANDLOCK not in plan.settings.unsafe_without:  # what there is, is used
            landlock.restrict(rules)  # 4
        try:
            self._filter_calls(cuda=plan.cuda)  # 5
        except ConfigError:
            if SECCOMP not in plan.settings.unsafe_without:
                raise
        return try_everything(plan.surroundings)  # 6

    def tell(self, message: str, content: Any = None) -> None:
        """Tell the supervisor how far this process is."""
        self._control.send(encode(message, content))

    def start_serving(self) -> None:
        """Give up what only loading needs; returns when it is gone."""
        self.tell(SERVING)
        self.wait()

    def wait(self) -> Any:
        """Wait for the supervisor's answer and return it; without a supervisor there is no process either."""
        return decode(self._control.recv(MAX_MESSAGE_BYTES))[1]

    def ask_denied(self) -> list[str]:
        """Ask which system calls were denied to this process lately, the last one at the end."""
        self.tell(DENIED)
        answer = self.wait()
        return [str(name) for name in answer] if isinstance(answer, list) else []

    def receive_connection(self) -> None:
        """Wait for the server's connection, if there is to be one; no descriptor comes or goes after it."""
        _, descriptors, _, _ = socket.recv_fds(self._handover, 1, 1)
        self._handover.close()
        if descriptors:
            self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=descriptors[0])

    def take_connection(self) -> socket.socket:
        """Return the server's connection.

        Raises:
            Undecided: there is none.
        """
        if self._connection is None:
            raise Undecided("the supervisor handed over no connection")
        return self._connection

    def _filter_calls(self, *, cuda: bool) -> None:
        program = seccomp.assemble(make_rules(os.getpid(), self._handover.fileno(), cuda=cuda), seccomp.NOTIFY)
        listener = seccomp.install_with_listener(program)
        socket.send_fds(self._handover, [bytes(1)], [listener])
        os.close(listener)
        self.wait()  # from here on somebody answers


def _hold(paths: Iterable[Path]) -> list[int]:
    """Keep files below /proc as they are: the kernel makes them anew once nobody holds them, and a rule is for one."""
    return [os.open(path, os.O_PATH | os.O_CLOEXEC) for path in paths]


def _move_out_of_reach(handover: socket.socket) -> socket.socket:
    """Give a socket a number that nothing can have again, once it is closed and the limit on descriptors is set.

    The filter lets descriptors pass by this number. Had a model a way to send them, those on their way would count for
    all workers of this user: no other could start.
    """
    try:
        moved = fcntl.fcntl(handover.fileno(), fcntl.F_DUPFD_CLOEXEC, limits.MAX_OPEN_FILES)
    except OSError as error:
        told = f"more than {limits.MAX_OPEN_FILES} open files must be allowed; raise `ulimit -n`"
        raise ConfigError(f"{told} ({error.strerror})") from error
    handover.close()
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fileno=moved)


class Task(Protocol):
    """What the worker does in its cell."""

    def prepare(self) -> None:
        """Import what the work needs; nothing of the model."""

    def run(self, inside: Inside) -> None:
        """Do the work; calls `inside.start_serving()` once everything is loaded."""


def become_worker(plan: CellPlan, task: Task, inside: Inside, supervisor: int, outputs: Sequence[int]) -> NoReturn:
    """Close the cell and do the task, in the child that was just forked; nothing of the supervisor's is left behind."""
    status = EXIT_ENDED
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        null = os.open(os.devnull, os.O_RDONLY)
        for number, descriptor in enumerate((null, *outputs)):
            os.dup2(descriptor, number)
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # what was said before the end counts
        inside.tell(CLOSED, render_posture(inside.close_cell(plan, supervisor)))
        inside.wait()
        task.prepare()
        inside.tell(PREPARED)
        inside.receive_connection()
        task.run(inside)
        status = 0
    except GarrisonError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        status = error.exit_code
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else EXIT_ENDED
    except BaseException:  # noqa: BLE001 - the supervisor's frames are above us; nothing may get there
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def decode(data: bytes) -> tuple[str, Any]:
    """Return a message and its content; what is no message is one without a name."""
    try:
        message, content = json.loads(data)
    except (ValueError, TypeError, RecursionError):
        return "", None
    return (message, content) if isinstance(message, str) else ("", None)


def encode(message: str, content: Any = None) -> bytes:
    """Write a message."""
    return json.dumps([message, content]).encode()
