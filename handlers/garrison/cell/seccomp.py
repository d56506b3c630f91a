"""Filter system calls: rules enter, a filter that the kernel applies leaves, with a listener for the rest.

A rule names a system call, conditions on its arguments, and what happens; the first rule that fits decides, and the
default the rest. Conditions see registers only: what an argument points to can be changed by another thread after it
was looked at, so nothing here, and nothing that answers a notification, depends on it.

Other instruction sets of the same processor (32-bit calls, x32) number their calls differently; using them kills the
process. It does not decide what may be named by a path: that is Landlock's part.

Sources: seccomp(2), seccomp_unotify(2), and the kernel's include/uapi/linux/seccomp.h and filter.h.
"""

import ctypes
import errno
import fcntl
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from garrison.cell.syscalls import NUMBERS, name_of
from garrison.errors import ConfigError

ALLOW = 0x7FFF0000
NOTIFY = 0x7FC00000
KILL = 0x80000000
REFUSE_UNLESS_NOTIFIED = (
    0x7FF00000  # SECCOMP_RET_TRACE: ENOSYS without a tracer; an inner filter's NOTIFY goes before it
)

_ARCHITECTURE = 0xC000003E  # AUDIT_ARCH_X86_64
_X32_BIT = 0x40000000
_SECCOMP = 317
_SET_MODE_FILTER, _GET_ACTION_AVAILABLE = 1, 2
_NEW_LISTENER = 1 << 3
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_CONTINUE = 1
_NOTIFICATION = struct.Struct("=QIIiIQ6Q")  # id, pid, flags; then number, architecture, instruction pointer, arguments
_RESPONSE = struct.Struct("=QqiI")  # id, value, error, flags
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16
_MOST_INSTRUCTIONS = 4096

_libc = ctypes.CDLL(None, use_errno=True)


def fail_with(number: int) -> int:
    """Return the action that lets a call fail with an errno."""
    return 0x00050000 | number


@dataclass(frozen=True)
class Condition:
    """An argument's lower 32 bits, under a mask, equal a value; `whole` compares the upper 32 bits with zero, too."""

    argument: int
    value: int
    mask: int = 0xFFFFFFFF
    whole: bool = False


@dataclass(frozen=True)
class Rule:
    """What happens to a system call if all conditions hold."""

    call: str
    action: int
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True)
class Notification:
    """A call that waits for an answer: which thread called what, with which six register values."""

    id: int
    thread: int
    number: int
    arguments: tuple[int, ...]

    @property
    def call(self) -> str:
        """The system call's name."""
        return name_of(self.number)


def is_available() -> bool:
    """Say whether this kernel filters system calls and can notify somebody."""
    action = ctypes.c_uint32(NOTIFY)
    return int(_libc.syscall(_SECCOMP, _GET_ACTION_AVAILABLE, 0, ctypes.byref(action))) == 0


def assemble(rules: Sequence[Rule], default: int) -> bytes:
    """Return the filter as instructions of the kernel's packet filter.

    Raises:
        ConfigError: there are more rules than a filter can hold.
    """
    program = [
        *_leave(_ARCHITECTURE_AT, _JUMP_EQUAL, _ARCHITECTURE, unless=KILL),
        _instruction(_LOAD, _NUMBER_AT),
        _instruction(_JUMP_AT_LEAST, _X32_BIT, 0, 1),
        _instruction(_RETURN, KILL),
    ]
    for rule in rules:
        program += _translate(rule)
    program.append(_instruction(_RETURN, default))
    if len(program) > _MOST_INSTRUCTIONS:
        raise ConfigError(f"the seccomp filter has {len(program)} instructions; the kernel takes {_MOST_INSTRUCTIONS}")
    return b"".join(program)


def install(program: bytes) -> None:
    """Apply a filter to this thread and what it will start; it can never be taken off.

    Raises:
        ConfigError: the kernel does not take it.
    """
    _set_filter(program, 0)


def install_with_listener(program: bytes) -> int:
    """Apply a filter as `install` does, and return the descriptor on which its notifications arrive.

    Raises:
        ConfigError: the kernel does not take it.
    """
    return _set_filter(program, _NEW_LISTENER)


def receive(listener: int) -> Notification | None:
    """Take the next notification; None if the caller is gone."""
    buffer = bytearray(_NOTIFICATION.size)
    try:
        fcntl.ioctl(listener, _RECEIVE, buffer)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINTR, errno.EAGAIN):
            return None
        raise
    identity, thread, _, number, _, _, *arguments = _NOTIFICATION.unpack(buffer)
    return Notification(identity, thread, number, tuple(arguments))


def let_pass(listener: int, notification: Notification) -> None:
    """Let the kernel carry out the call with the registers that were looked at."""
    _answer(listener, _RESPONSE.pack(notification.id, 0, 0, _CONTINUE))


def refuse(listener: int, notification: Notification, number: int) -> None:
    """Let the call fail with an errno."""
    _answer(listener, _RESPONSE.pack(notification.id, 0, -number, 0))


def _answer(listener: int, response: bytes) -> None:
    try:
        fcntl.ioctl(listener, _SEND, response)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EINPROGRESS):  # the caller died, or a signal took it away
            raise


def _set_filter(program: bytes, flags: int) -> int:
    class _Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))

    described = _Program(len(program) // 8, program)
    result = int(_libc.syscall(_SECCOMP, _SET_MODE_FILTER, flags, ctypes.byref(described)))
    if result < 0:
        told = os.strerror(ctypes.get_errno())
        raise ConfigError(f"the kernel takes no seccomp filter ({told}); see `garrison posture`")
    return result


def _translate(rule: Rule) -> list[bytes]:
    number = NUMBERS[rule.call]
    checks = [step for condition in rule.conditions for step in _compare(condition)]
    body = [*(make(len(checks) - place) for place, make in enumerate(checks)), _instruction(_RETURN, rule.action)]
    if checks:
        body.append(_instruction(_LOAD, _NUMBER_AT))  # the conditions loaded something else
        return [_instruction(_JUMP_EQUAL, number, 0, len(body)), *body]
    return [_instruction(_JUMP_EQUAL, number, 0, 1), *body]


class _Step:
    """One instruction of a comparison; one that jumps is told how far it is to the end of the rule's body."""

    def __init__(self, code: int, value: int, *, leaves: bool = False) -> None:
        self._code, self._value, self._leaves = code, value, leaves

    def __call__(self, left: int) -> bytes:
        return _instruction(self._code, self._value, 0, left if self._leaves else 0)


def _compare(condition: Condition) -> list[_Step]:
    place = _ARGUMENTS_AT + 8 * condition.argument
    steps = [_Step(_LOAD, place), _Step(_AND, condition.mask), _Step(_JUMP_EQUAL, condition.value, leaves=True)]
    if condition.whole:
        steps += [_Step(_LOAD, place + 4), _Step(_JUMP_EQUAL, 0, leaves=True)]
    return steps


def _leave(place: int, jump: int, value: int, unless: int) -> list[bytes]:
    return [_instruction(_LOAD, place), _instruction(jump, value, 1, 0), _instruction(_RETURN, unless)]


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
