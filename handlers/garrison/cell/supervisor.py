"""Keep one worker in its cell: a plan and a task enter, the worker's exit status leaves.

The supervisor forks the worker, and does until its end what the worker cannot be trusted with:

    calls     answer what the kernel's filter does not decide, count and report what is forbidden
    output    pass on what the worker prints, stamped and bounded
    server    make the socket that the server connects to, and hand over the one connection
    watch     its threads, memory and scratch directory; end it when it takes too much, or when the server is gone

It runs no code and parses no data of the model, only lines, registers and messages of a few fixed words. If it dies,
the kernel kills the worker, and until then every call that the filter does not let pass fails. What it cannot see is a
read or write that Landlock denies: that fails, uncounted.
"""

import contextlib
import os
import select
import signal
import socket
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from garrison.cell import calls, limits, seccomp
from garrison.cell.calls import Stage
from garrison.cell.door import Door
from garrison.cell.inside import (
    ANSWER,
    CLOSED,
    DENIED,
    EXIT_ENDED,
    MAX_MESSAGE_BYTES,
    PREPARED,
    SERVING,
    CellPlan,
    Inside,
    Task,
    become_worker,
    decode,
    encode,
)
from garrison.cell.outlet import Outlet
from garrison.cell.output import Relay
from garrison.cell.posture import Posture, find_problems, read_posture
from garrison.cell.settings import END
from garrison.cell.status import Status, write_status
from garrison.cell.syscalls import ATTACKS
from garrison.cell.vitals import Vitals
from garrison.errors import ConfigError

LOADING_LIMIT_S = 600  # TorchServe's own limit is shorter; this one holds without it
TICK_S = 0.25
HELD_S = 0.01
MEASURES_TOLD_EVERY_S = 5.0
READ_BYTES = 64 * 1024
KEPT_DENIALS = 16
LAST_WORDS_S = 2.0


@dataclass
class _Counts:
    stage: Stage = Stage.CLOSING
    posture: Posture | None = None
    violations: Counter[str] = field(default_factory=Counter)
    denied: list[str] = field(default_factory=list)
    ended: str = ""


class Supervisor:
    """One worker, from the fork to its end."""

    def __init__(self, plan: CellPlan, task: Task, status_file: Path, door: Door | None = None) -> None:
        self._plan, self._task, self._status_file, self._door = plan, task, status_file, door
        self._counts = _Counts()
        self._outlet = Outlet(1)
        self._relay = Relay(plan.model, self._outlet.write)
        self._listener = -1
        self._written: Status | None = None
        self._measures_told_s = 0.0
        self._unwritten = False

    def run(self) -> int:
        """Start the worker, and look after it until it ends; return its exit status."""
        self._began = time.monotonic()
        limits.allow_open_files()
        pipes = {name: os.pipe() for name in ("stdout", "stderr")}
        control, handover = (socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2))
        supervisor = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            inside = Inside(control[1], handover[1])
            become_worker(self._plan, self._task, inside, supervisor, [write for _, write in pipes.values()])
        for theirs in (control[1], handover[1]):
            theirs.close()
        self._vitals = Vitals(self._pid, self._plan.scratch)
        for _, write in pipes.values():
            os.close(write)
        self._control, self._handover = control[0], handover[0]
        self._outputs = {read: name for name, (read, _) in pipes.items()}
        signal.signal(signal.SIGTERM, lambda *_: self._end("the server ended it"))
        self._watch = select.poll()
        for descriptor in (0, self._control.fileno(), self._handover.fileno(), *self._outputs):
            self._watch.register(descriptor, select.POLLIN)
        try:
            return self._look_after()
        finally:
            self._clean_up()

    # --- the loop ---------------------------------------------------------------------------------------------------

    def _look_after(self) -> int:
        exit_code = None
        next_tick = 0.0
        while exit_code is None:
            wait_s = self._hold_back_output()
            for descriptor, _ in self._watch.poll(wait_s * 1000):
                self._serve(descriptor)
            if (now := time.monotonic()) >= next_tick:
                next_tick = now + TICK_S
                self._measure(now - self._began)
                self._write_status()
            exit_code = self._exit_code()
        self._drain_output()
        return exit_code

    def _serve(self, descriptor: int) -> None:
        if descriptor == self._listener:
            self._answer_call()
        elif descriptor in self._outputs:
            self._read_output(descriptor)
        elif descriptor == self._outlet.descriptor:
            self._outlet.flush()
        elif descriptor == self._control.fileno():
            self._read_message()
        elif descriptor == self._handover.fileno():
            self._take_listener()
        elif descriptor == 0:
            if not os.read(0, READ_BYTES):  # the server is gone, even if it was killed
                self._watch.unregister(0)
                self._end("the server is gone")
        elif self._door is not None:
            self._accept(self._door)

    def _exit_code(self) -> int | None:
        pid, status = os.waitpid(self._pid, os.WNOHANG)
        if not pid:
            return None
        code = os.waitstatus_to_exitcode(status)
        self._counts.ended = self._counts.ended or (f"signal {-code}" if code < 0 else f"exit status {code}")
        return code if code >= 0 else EXIT_ENDED

    def _tell_and_end(self, why: str) -> None:
        """End the worker for what it did, and say so first: as soon as it is gone, the server ends us as well."""
        self._counts.ended = self._counts.ended or why
        self._write_status()
        self._end(why)

    def _end(self, why: str) -> None:
        if not self._counts.ended:
            self._counts.ended = why
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)  # not yet waited for, so the id is still the worker's

    def _clean_up(self) -> None:
        self._counts.stage = Stage.ENDED
        if self._door is not None:
            self._close_door(self._door)
        self._write_status(last=True)  # the launcher takes the counts out of the scratch directory, and removes it

    # --- system calls -----------------------------------------------------------------------------------------------

    def _answer_call(self) -> None:
        notification = seccomp.receive(self._listener)
        if notification is None:
            return
        verdict = calls.decide(
            notification, self._counts.stage, self._vitals.find_room(notification.call, self._plan.settings)
        )
        if verdict.forbidden:
            self._count_violation(notification.call)
        if verdict.forbidden and self._ends_for(notification.call):
            self._tell_and_end(f"it called {notification.call}")
        elif verdict.error:
            seccomp.refuse(self._listener, notification, verdict.error)
        else:
            self._vitals.count(notification.call)
            seccomp.let_pass(self._listener, notification)

    def _ends_for(self, call: str) -> bool:
        return self._counts.stage is Stage.SERVING and self._plan.settings.on_violation == END and call in ATTACKS

    def _count_violation(self, call: str) -> None:
        stage = self._counts.stage
        if stage is Stage.CLOSING:
            return  # our own trials
        self._counts.denied = [*self._counts.denied, call][-KEPT_DENIALS:]
        key = f"{stage}/{call}"
        self._counts.violations[key] += 1
        count = self._counts.violations[key]
        if count & (count - 1) == 0:  # the 1st, 2nd, 4th, 8th ...: a loop must not fill the log
            ended = "; it is ended" if self._ends_for(call) else ""
            self._relay.tell(
                "violation",
                f"a forbidden system call while {stage}: {call}{ended}",
                call=call,
                stage=stage,
                count=count,
            )

    # --- messages, connection, output -------------------------------------------------------------------------------

    def _read_message(self) -> None:
        data = self._control.recv(MAX_MESSAGE_BYTES)
        if not data:
            self._watch.unregister(self._control)
            return
        message, content = decode(data)
        if message == CLOSED and self._counts.stage is Stage.CLOSING:
            self._judge(read_posture(content))
        elif message == PREPARED:
            self._open_door()
        elif message == SERVING:
            self._start_serving("loaded")
            self._answer([])
        elif message == DENIED:
            self._answer(self._counts.denied)

    def _take_listener(self) -> None:
        """Take what comes before anything of the model does; nothing is taken after it."""
        _, descriptors, _, _ = socket.recv_fds(self._handover, 1, 1)
        self._watch.unregister(self._handover)
        for self._listener in descriptors:
            self._watch.register(self._listener, select.POLLIN)
            self._answer([])

    def _answer(self, content: list[str]) -> None:
        with contextlib.suppress(OSError):  # a worker that does not read its answers
            self._control.send(encode(ANSWER, content), socket.MSG_DONTWAIT)

    def _judge(self, posture: Posture) -> None:
        self._counts.posture = posture
        if problems := find_problems(posture, self._plan.settings):
            self._relay.tell("cell_open", "the cell does not hold: " + "; ".join(problems))
            self._end("its cell does not hold")
            return
        self._counts.stage = Stage.LOADING
        self._answer([])
        self._relay.tell("cell_closed", f"the cell is closed: {posture.summary()}")

    def _start_serving(self, why: str) -> None:
        if self._counts.stage is Stage.LOADING:
            self._counts.stage = Stage.SERVING
            self._relay.tell("cell_sealed", f"only what inference needs is allowed from here on ({why})")

    def _open_door(self) -> None:
        if self._door is None:
            self._end_handover()
        else:
            self._outlet.write(self._door.announce(self._pid))
            self._watch.register(self._door.listener, select.POLLIN)

    def _accept(self, door: Door) -> None:
        connection, stranger = door.accept()
        if connection is None:
            self._relay.tell("stranger", f"{stranger} connected in the server's place")
            return
        with connection:
            socket.send_fds(self._handover, [bytes(1)], [connection.fileno()])
        self._end_handover()
        self._close_door(door)

    def _end_handover(self) -> None:
        if self._handover.fileno() >= 0:
            with contextlib.suppress(KeyError):
                self._watch.unregister(self._handover)
            self._handover.close()

    def _close_door(self, door: Door) -> None:
        self._door = None
        with contextlib.suppress(KeyError):
            self._watch.unregister(door.listener)
        door.close()

    def _read_output(self, descriptor: int) -> None:
        data = os.read(descriptor, min(READ_BYTES, max(self._relay.allowance(), 1)))
        if data:
            self._relay.feed(self._outputs[descriptor], data)
        else:
            self._watch.unregister(descriptor)
            del self._outputs[descriptor]

    def _hold_back_output(self) -> float:
        """Let a worker that prints too fast wait in its own pipe; return for how long to look at other things only."""
        held = self._relay.allowance() == 0
        for descriptor in self._outputs:
            self._watch.modify(descriptor, 0 if held or self._outlet.is_waiting else select.POLLIN)
        if self._outlet.is_waiting:
            self._watch.register(self._outlet.descriptor, select.POLLOUT)
        else:
            with contextlib.suppress(KeyError):
                self._watch.unregister(self._outlet.descriptor)
        return HELD_S if held else TICK_S

    def _drain_output(self) -> None:
        for descriptor, stream in self._outputs.items():
            os.set_blocking(descriptor, False)
            with contextlib.suppress(BlockingIOError):
                self._relay.feed(stream, os.read(descriptor, READ_BYTES))
        self._relay.flush()
        self._outlet.finish(LAST_WORDS_S)

    # --- watch ------------------------------------------------------------------------------------------------------

    def _measure(self, age_s: float) -> None:
        self._relay.tick()
        self._vitals.measure()
        event, told = self._vitals.find_excess(self._plan.settings)
        if event and not self._counts.ended:
            self._relay.tell(event, f"{told}; it is ended")
            self._tell_and_end(told)
        if age_s > LOADING_LIMIT_S:
            self._start_serving(f"not loaded after {LOADING_LIMIT_S} s")
        if self._door is not None and age_s > LOADING_LIMIT_S:
            self._end("the server did not connect")

    def _write_status(self, *, last: bool = False) -> None:
        counts = self._counts
        status = Status(
            model=self._plan.model,
            pid=self._pid,
            supervisor=os.getpid(),
            stage=counts.stage,
            posture=counts.posture,
            violations=dict(counts.violations),
            output_dropped_bytes=self._relay.dropped_bytes + self._outlet.lost_bytes,
            threads=self._vitals.threads,
            memory_bytes=self._vitals.memory_bytes,
            scratch_bytes=self._vitals.scratch_bytes,
            ended=counts.ended,
        )
        now = time.monotonic()
        news = self._written is None or status != _with_measures_of(status, self._written)
        if last or news or now >= self._measures_told_s + MEASURES_TOLD_EVERY_S:
            try:
                write_status(self._status_file, status)
            except ConfigError as error:  # a full disk; the worker need not end for it, and we try again
                if not self._unwritten:
                    self._relay.tell("status_failed", f"what this worker does is not counted any more: {error}")
                self._unwritten = True
                return
            self._written, self._measures_told_s, self._unwritten = status, now, False


def _with_measures_of(status: Status, earlier: Status) -> Status:
    """Return the earlier status with today's measures, which change all the time and are no news."""
    return replace(
        earlier, threads=status.threads, memory_bytes=status.memory_bytes, scratch_bytes=status.scratch_bytes
    )
