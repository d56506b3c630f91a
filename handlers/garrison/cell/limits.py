"""What a process gives up before it runs a model's code: its own privileges enter, a process with few of them goes on.

Every step goes one way, and each is read back where the kernel lets one read it. Capabilities and "no new privileges"
belong to a thread: call these while there is only one.

Not defended against here: what remains reachable by system calls and paths (seccomp and Landlock), and the number of
threads, which the kernel counts per user, and for root not at all: the supervisor counts the calls that start one.
"""

import ctypes
import os
import resource
import signal
from collections.abc import Collection
from pathlib import Path

from garrison.errors import ConfigError, Undecided

MAX_OPEN_FILES = 256  # a worker holds about 20; a handler that maps its weights file by file a few more
MAX_STACK_BYTES = 8 * 1024 * 1024  # of the main thread; those of the others count as memory
MAX_LOCKED_BYTES = 64 * 1024
MAX_PENDING_SIGNALS = 256
WORKERS_OF_A_USER = 64  # the limit on threads counts all that one user runs: the server and every other worker as well
_PR_SET_PDEATHSIG, _PR_GET_DUMPABLE, _PR_SET_DUMPABLE = 1, 3, 4
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS, _PR_GET_NO_NEW_PRIVS = 38, 39
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_CAPABILITY_VERSION_3 = 0x20080522
_MOST_CAPABILITIES = 64  # what the sets have room for; the kernel says where its own list ends
_SYS_CLOSE_RANGE = 436
_LAST_DESCRIPTOR = 2**32 - 1
_libc = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def set_limits(memory_bytes: int, threads: int, scratch_bytes: int) -> None:
    """Bound what this process can use, for good: private memory, the size of a file, and what a model never needs.

    A hard limit that is lower already stays.

    Raises:
        ConfigError: the kernel does not set one.
    """
    wanted = {
        "RLIMIT_DATA": memory_bytes,  # not the address space: torch and CUDA reserve far more than they use
        "RLIMIT_FSIZE": scratch_bytes,
        "RLIMIT_NOFILE": MAX_OPEN_FILES,
        "RLIMIT_NPROC": threads * WORKERS_OF_A_USER,
        "RLIMIT_CORE": 0,  # memory of a model; where cores go to a program, it is undumpable that prevents them
        "RLIMIT_STACK": MAX_STACK_BYTES,
        "RLIMIT_MSGQUEUE": 0,
        "RLIMIT_MEMLOCK": MAX_LOCKED_BYTES,
        "RLIMIT_SIGPENDING": MAX_PENDING_SIGNALS,
        "RLIMIT_NICE": 0,
        "RLIMIT_RTPRIO": 0,
    }
    for name, value in wanted.items():
        _set_limit(name, value)


def allow_open_files() -> None:
    """Let this process have as many descriptors as it may: a supervisor holds each file of its worker."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def drop_capabilities() -> None:
    """Give up every capability of this thread, and the means to get one back.

    Raises:
        ConfigError: one is left.
    """
    for capability in range(_MOST_CAPABILITIES):  # without CAP_SETPCAP refused, and then of no use either
        _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header, sets = _Header(_CAPABILITY_VERSION_3, 0), (_Sets * 2)()
    if _libc.capset(ctypes.byref(header), ctypes.byref(sets)) != 0:
        raise ConfigError(f"capabilities cannot be dropped ({_reason()})")
    left = read_capabilities()
    if left:
        raise ConfigError(f"capabilities are left after they were dropped: {left:#x}")


def read_capabilities() -> int:
    """Return this thread's effective, permitted and inheritable capabilities in one mask.

    Raises:
        ConfigError: the kernel does not tell.
    """
    header, sets = _Header(_CAPABILITY_VERSION_3, 0), (_Sets * 2)()
    if _libc.capget(ctypes.byref(header), ctypes.byref(sets)) != 0:
        raise ConfigError(f"capabilities cannot be read ({_reason()})")
    low, high = (part.effective | part.permitted | part.inheritable for part in sets)
    return int(low | high << 32)


def set_no_new_privs() -> None:
    """Let nothing that is executed from here on gain privileges; unprivileged seccomp and Landlock demand it.

    Raises:
        ConfigError: the kernel does not know it.
    """
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if _libc.prctl(_PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1:
        raise ConfigError("'no new privileges' cannot be set; Linux 3.5 or newer is needed")


def set_undumpable() -> None:
    """Keep other processes of this user from reading this one's memory, and the kernel from writing it to a core file.

    Raises:
        ConfigError: the kernel does not set it.
    """
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if _libc.prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise ConfigError(f"the process cannot be made undumpable ({_reason()})")


def close_descriptors(keep: Collection[int]) -> None:
    """Close every descriptor of this process that is not in `keep`.

    Raises:
        Undecided: what is open cannot be found out, on a kernel older than 5.9 without /proc.
    """
    kept = sorted({number for number in keep if number >= 0})
    for first, last in zip([0, *(n + 1 for n in kept)], [*(n - 1 for n in kept), _LAST_DESCRIPTOR], strict=True):
        if first <= last and not _close_range(first, last):
            _close_listed(kept)
            return


def die_with_parent(parent_pid: int) -> None:
    """Let the kernel kill this process when the thread that started it ends.

    A change of user or group would undo it, and so would another `prctl`: seccomp has to keep that from the model.

    Raises:
        Undecided: the parent has ended already.
    """
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        raise Undecided(f"the parent, process {parent_pid}, has ended")


def _set_limit(name: str, value: int) -> None:
    number = getattr(resource, name)
    hard = resource.getrlimit(number)[1]
    bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
    try:
        resource.setrlimit(number, (bound, bound))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{name} cannot be set to {bound} ({error})") from error
    if resource.getrlimit(number) != (bound, bound):  # gVisor, for one, takes some limits without keeping them
        raise ConfigError(f"{name} cannot be set to {bound}: the kernel does not keep it")


def _close_range(first: int, last: int) -> bool:
    return bool(_libc.syscall(_SYS_CLOSE_RANGE, ctypes.c_uint(first), ctypes.c_uint(last), ctypes.c_uint(0)) == 0)


def _close_listed(kept: Collection[int]) -> None:
    """Close what /proc lists, for kernels before 5.9 and filters that do not know close_range."""
    try:
        numbers = [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]
    except OSError as error:
        raise Undecided(f"open descriptors cannot be listed in /proc/self/fd ({error.strerror})") from error
    for number in numbers:
        if number not in kept:
            os.closerange(number, number + 1)  # the one that listed them is gone already; closerange takes no offence


def _reason() -> str:
    return os.strerror(ctypes.get_errno())
