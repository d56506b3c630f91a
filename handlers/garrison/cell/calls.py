"""What becomes of each system call of a worker: the filter for the kernel, and the supervisor's answers to the rest.

The kernel lets pass by itself what inference needs. Everything else waits for the supervisor, which looks at the
call's number and registers, and at the stage the worker is in:

    closing  the cell was just closed, and is tried from inside: what is forbidden fails, and that is what is wanted
    loading  torch is imported, the model's code and weights are loaded
    serving  the model answers requests; what only loading needs is over

New threads, new files and shared mappings pass while there is room for them. It keeps no state but counts.
"""

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from garrison.cell.seccomp import ALLOW, Condition, Notification, Rule, fail_with
from garrison.cell.syscalls import INFERENCE, LOADING

MAX_SHARED_MAPPINGS = 4096  # in a worker's life: counts, and libraries that map what they read

_THREAD_FLAGS = 0x00010F00  # CLONE_THREAD, _SIGHAND, _FILES, _FS and _VM: nothing of its own but a stack
_OTHER_CLONE_FLAGS = 0x7E02E000 | 0x80  # namespaces, CLONE_PTRACE, _VFORK, _PARENT; 0x80 is CLONE_NEWTIME
_UNNAMED_FILE = 0o20000000  # the bit by which O_TMPFILE differs from O_DIRECTORY
_ACCESS, _TRUNCATE = 0o3, 0o1000
_CHANGING_FLAGS = 0o100 | _TRUNCATE | _UNNAMED_FILE  # O_CREAT, O_TRUNC
_MAP_SHARED, _MAP_ANONYMOUS = 0x01, 0x20
_MAP_GROWS_DOWN = 0x100  # a stack, to the kernel: not counted as the memory that RLIMIT_DATA bounds
_SEND_FLAGS = 0x40 | 0x4000 | 0x8000  # MSG_DONTWAIT, _NOSIGNAL, _MORE; above all not MSG_OOB, full of faults
_RECEIVE_FLAGS = 0x02 | 0x20 | 0x40 | 0x100  # MSG_PEEK, _TRUNC, _DONTWAIT, _WAITALL
_PRCTL_OPTIONS = (15, 16, 3, 2, 21, 23, 39, 0x53564D41)  # names, questions, PR_SET_VMA; nothing that opens a door
_IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)  # terminal? its size? bytes waiting? blocking, close on exec
_FCNTLS = (0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1030)  # copies, flags, locks; F_SETOWN would send signals to others
_OPENS = {"open": 1, "openat": 2}  # which argument holds the flags
_MAKES = ("creat", "mkdir", "mkdirat")
REMOVING = frozenset(("unlink", "unlinkat", "rename"))  # a file may lose its name, and is looked at before
MAKING = frozenset((*_OPENS, *_MAKES))  # when it comes to the supervisor


class Stage(StrEnum):
    """How far a worker is."""

    CLOSING = "closing"
    LOADING = "loading"
    SERVING = "serving"
    ENDED = "ended"


@dataclass(frozen=True)
class Room:
    """What the worker may still take: threads, files in its scratch directory, shared mappings."""

    threads: int
    files: int
    mappings: int


@dataclass(frozen=True)
class Verdict:
    """What the supervisor answers: `error` 0 lets the call pass; `forbidden` says that it counts as a violation."""

    error: int
    forbidden: bool = False


PASS = Verdict(0)
FORBIDDEN = Verdict(errno.EPERM, forbidden=True)


def make_rules(pid: int, handover: int, *, cuda: bool) -> tuple[Rule, ...]:
    """Return what the kernel decides alone, for a process and the number by which descriptors pass, to and fro.

    `cuda` leaves ioctl to the driver's files.
    """
    special: Mapping[str, tuple[Rule, ...]] = {
        "mmap": (_allow("mmap", Condition(3, 0, mask=_MAP_SHARED | _MAP_GROWS_DOWN)),),
        "sendto": (_allow("sendto", _only_flags(3, _SEND_FLAGS), Condition(4, 0, whole=True)),),  # to no address
        "recvfrom": (_allow("recvfrom", _only_flags(3, _RECEIVE_FLAGS)),),
        "prctl": tuple(_allow("prctl", Condition(0, option)) for option in _PRCTL_OPTIONS),
        "fcntl": tuple(_allow("fcntl", Condition(1, command)) for command in _FCNTLS),
        "ioctl": _allow_ioctls(cuda=cuda),
        "tgkill": (_allow("tgkill", Condition(0, pid)),),
        "prlimit64": (_allow("prlimit64", Condition(2, 0, whole=True)),),  # without a new limit, it only asks
        **{name: _allow_opening(name, flags) for name, flags in _OPENS.items()},
        **dict.fromkeys(("clone", *_MAKES, *REMOVING), ()),
    }
    rules = [Rule("clone3", fail_with(errno.ENOSYS))]  # its flags lie in memory; the C library then uses clone
    for name in INFERENCE:
        rules.extend(special.get(name, (_allow(name),)))
    rules.extend(_allow(name, Condition(0, handover)) for name in ("sendmsg", "recvmsg"))
    return tuple(rules)


def decide(notification: Notification, stage: Stage, room: Room) -> Verdict:
    """Answer a call that the kernel did not let pass by itself."""
    call, arguments = notification.call, notification.arguments
    if call == "clone":
        return _decide_clone(arguments[0], room)
    if call in _OPENS:
        return _decide_open(arguments[_OPENS[call]], room)
    if call in REMOVING:
        return PASS
    if call in _MAKES:
        return PASS if room.files > 0 else Verdict(errno.ENOSPC)
    if call == "sched_setaffinity" and arguments[0] != 0:
        return FORBIDDEN  # another process of this user
    if call == "mmap":
        unbounded = arguments[3] & (_MAP_ANONYMOUS | _MAP_GROWS_DOWN)  # by any limit of the kernel
        return FORBIDDEN if unbounded else PASS if room.mappings > 0 else Verdict(errno.ENOMEM)
    if call in LOADING and stage is Stage.LOADING:
        return PASS
    return FORBIDDEN


def _decide_clone(flags: int, room: Room) -> Verdict:
    if flags & _THREAD_FLAGS != _THREAD_FLAGS or flags & _OTHER_CLONE_FLAGS:
        return FORBIDDEN
    return PASS if room.threads > 0 else Verdict(errno.EAGAIN)


def _decide_open(flags: int, room: Room) -> Verdict:
    access = flags & _ACCESS
    if access == _ACCESS or (flags & _TRUNCATE and access == os.O_RDONLY):
        return FORBIDDEN  # either would cut a file that may only be read, where Landlock is older than Linux 6.2
    if flags & _UNNAMED_FILE:
        return Verdict(errno.EOPNOTSUPP)  # nobody could count it; Python then makes one that has a name
    return PASS if room.files > 0 or not flags & os.O_CREAT else Verdict(errno.ENOSPC)


def _allow_opening(call: str, flags: int) -> tuple[Rule, ...]:
    """Let files be opened for reading, writing or both, if that neither makes nor cuts one."""
    modes = (os.O_RDONLY, os.O_WRONLY, os.O_RDWR)
    return tuple(_allow(call, Condition(flags, mode, mask=_CHANGING_FLAGS | _ACCESS)) for mode in modes)


def _allow_ioctls(*, cuda: bool) -> tuple[Rule, ...]:
    if cuda:  # the driver's numbers have no pattern; the worker can open no terminal (TIOCSTI), Landlock sees to that
        return (_allow("ioctl"),)
    return tuple(_allow("ioctl", Condition(1, command)) for command in _IOCTLS)


def _only_flags(argument: int, flags: int) -> Condition:
    return Condition(argument, 0, mask=0xFFFFFFFF & ~flags)


def _allow(call: str, *conditions: Condition) -> Rule:
    return Rule(call, ALLOW, conditions)
