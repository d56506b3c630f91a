"""Filters and notifications, in real processes: what fits a rule gets its action, everything else the default."""

import ctypes
import errno
import os
import select
import signal
import socket
import threading

import pytest

from garrison.cell import seccomp
from garrison.cell.seccomp import ALLOW, KILL, Condition, Rule, fail_with
from garrison.cell.syscalls import NUMBERS
from garrison.errors import ConfigError

LIBC = ctypes.CDLL(None, use_errno=True)
DENIED = fail_with(errno.EPERM)


def call(name, *arguments):
    """Make a raw system call; return 0 or the errno."""
    values = [ctypes.c_ulong(value) for value in arguments]
    return 0 if LIBC.syscall(ctypes.c_long(NUMBERS[name]), *values) >= 0 else ctypes.get_errno()


def in_child(work):
    """Run something in a forked child; return what it returned, a small number, or minus the signal."""
    pid = os.fork()
    if pid == 0:
        status = 255
        try:
            status = work()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def under(rules, default, *attempts):
    """Apply a filter in a child; return the first attempt's result that is not 0."""

    def work():
        seccomp_ready()
        seccomp.install(seccomp.assemble(rules, default))
        return next((result for attempt in attempts if (result := attempt())), 0)

    return in_child(work)


def seccomp_ready():
    LIBC.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS


def test_this_kernel_can():
    assert seccomp.is_available()


@pytest.mark.parametrize(
    ("rules", "attempt", "expected"),
    [
        pytest.param([], lambda: call("getppid"), 0, id="no-rule"),
        pytest.param([Rule("getppid", DENIED)], lambda: call("getppid"), errno.EPERM, id="named"),
        pytest.param([Rule("getuid", DENIED)], lambda: call("getppid"), 0, id="another-is-named"),
        pytest.param([Rule("getppid", ALLOW), Rule("getppid", DENIED)], lambda: call("getppid"), 0, id="first-wins"),
        pytest.param([Rule("getppid", fail_with(errno.ENOSYS))], lambda: call("getppid"), errno.ENOSYS, id="errno"),
        pytest.param([Rule("getppid", KILL)], lambda: call("getppid"), -signal.SIGSYS, id="kill"),
    ],
)
def test_a_rule_decides_about_the_call_it_names(rules, attempt, expected):
    assert under(rules, ALLOW, attempt) == expected


def kill_rules(*conditions):
    return [Rule("kill", fail_with(errno.EXDEV), conditions)]  # as it never fails by itself, whoever is asking


@pytest.mark.parametrize(
    ("conditions", "arguments", "denied"),
    [
        pytest.param([Condition(1, 0)], (1, 0), True, id="equal"),
        pytest.param([Condition(1, 1)], (1, 0), False, id="different"),
        pytest.param([Condition(1, 0, mask=0x6)], (1, 0), True, id="masked-bits-equal"),
        pytest.param([Condition(1, 0, mask=0x1)], (0, 0x0), True, id="other-bits-do-not-count"),
        pytest.param([Condition(1, 0), Condition(0, 1)], (1, 0), True, id="all-hold"),
        pytest.param([Condition(1, 0), Condition(0, 2)], (1, 0), False, id="one-does-not"),
        pytest.param([Condition(0, 1)], (1 | 1 << 32, 0), True, id="upper-half-ignored"),
        pytest.param([Condition(0, 1, whole=True)], (1 | 1 << 32, 0), False, id="upper-half-compared"),
        pytest.param([Condition(0, 1, whole=True)], (1, 0), True, id="whole"),
    ],
)
def test_all_conditions_have_to_hold(conditions, arguments, denied):
    assert (under(kill_rules(*conditions), ALLOW, lambda: call("kill", *arguments)) == errno.EXDEV) is denied


def test_after_a_condition_that_does_not_hold_the_next_rules_count():
    rules = [*kill_rules(Condition(1, 9)), Rule("kill", fail_with(errno.ENOSYS)), Rule("getppid", DENIED)]
    assert under(rules, ALLOW, lambda: call("kill", 1, 0)) == errno.ENOSYS
    assert under(rules, ALLOW, lambda: call("getppid")) == errno.EPERM


def test_the_default_is_for_the_rest():
    rules = [Rule("exit_group", ALLOW), Rule("write", ALLOW)]
    assert under(rules, DENIED, lambda: call("getppid")) == errno.EPERM


def test_calls_of_another_instruction_set_kill():
    """With x32's bit, another table of numbers is used."""
    assert under([], ALLOW, lambda: LIBC.syscall(ctypes.c_long(0x40000000 | NUMBERS["getppid"]))) == -signal.SIGSYS


def test_too_many_rules_are_refused():
    with pytest.raises(ConfigError, match="instructions"):
        seccomp.assemble([Rule("getppid", ALLOW)] * 3000, ALLOW)


def test_a_filter_that_the_kernel_does_not_take_is_refused():
    def work():
        try:
            seccomp.install(b"")
        except ConfigError:
            return 7
        return 0

    assert in_child(work) == 7


class Listening:
    """A child whose getppid and dup calls wait for an answer of ours."""

    def __init__(self, *attempts):
        ours, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            status = 255
            try:
                seccomp_ready()
                rules = [Rule("getppid", seccomp.NOTIFY), Rule("dup", seccomp.NOTIFY)]
                listener = seccomp.install_with_listener(seccomp.assemble(rules, ALLOW))
                socket.send_fds(theirs, [b"x"], [listener])
                os.close(listener)
                theirs.recv(1)
                status = next((result for attempt in attempts if (result := attempt())), 0)
            finally:
                os._exit(status)
        _, (self.listener,), _, _ = socket.recv_fds(ours, 1, 1)
        ours.send(b"x")
        ours.close()
        theirs.close()

    def next(self):
        """Wait for a notification, for ten seconds at most."""
        poll = select.poll()
        poll.register(self.listener, select.POLLIN)
        assert poll.poll(10_000)
        return seccomp.receive(self.listener)

    def end(self):
        os.close(self.listener)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_a_notification_tells_who_called_what():
    child = Listening(lambda: call("dup", 1234, 5, 6))
    notification = child.next()
    seccomp.refuse(child.listener, notification, errno.EXDEV)
    assert (notification.call, notification.thread) == ("dup", child.pid)
    assert notification.arguments[:3] == (1234, 5, 6)
    assert child.end() == errno.EXDEV


def test_what_may_pass_is_done_by_the_kernel():
    child = Listening(lambda: 0 if os.getppid() == os.getppid() != 0 else 1)
    for _ in range(2):
        seccomp.let_pass(child.listener, child.next())
    assert child.end() == 0


def test_without_anybody_who_answers_the_call_fails():
    child = Listening(lambda: call("getppid"))
    child.next()
    assert child.end() == errno.ENOSYS


def test_a_caller_that_dies_meanwhile_is_no_error():
    child = Listening(lambda: call("getppid"))
    notification = child.next()
    os.kill(child.pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1]) == -signal.SIGKILL
    seccomp.refuse(child.listener, notification, errno.EPERM)
    seccomp.let_pass(child.listener, notification)
    assert seccomp.receive(child.listener) is None
    os.close(child.listener)


def test_threads_that_are_started_later_are_filtered_too():
    def work():
        seccomp_ready()
        seccomp.install(seccomp.assemble([Rule("getppid", DENIED)], ALLOW))
        found = []
        thread = threading.Thread(target=lambda: found.append(call("getppid")))
        thread.start()
        thread.join()
        return found[0]

    assert in_child(work) == errno.EPERM
