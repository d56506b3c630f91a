"""Take the file system and the network away from this process: rules enter, a restricted process goes on.

Every access right that the running kernel knows is *handled*: what no rule gives is denied, for this process and for
whatever it starts. Nothing gives connecting by TCP, making a FIFO or a device, an abstract socket or a process of
somebody else: those are denied everywhere. Raw system calls, because the interface is three of them and has not changed
since Linux 5.13 other than by growing.

It does not defend against looking: whether a path exists, `stat`, `readlink` and `chdir` are not governed. Neither are
descriptors that are open already, `chmod`, `chown`, `setxattr` and `utime` on a file that may be seen, listening by TCP
without binding, connecting as a part of sending (TCP fast open), executing a file that has no path (`memfd_create`),
and, for a process with CAP_SYS_ADMIN or CAP_PERFMON, another one's environment in `/proc`. That is for seccomp and for
having no capabilities. What an older kernel lacks, `list_gaps` says.
"""

import ctypes
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from garrison.errors import ConfigError, Undecided

# linux/landlock.h: rights to a file or directory
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE, MAKE_CHAR, MAKE_DIR, MAKE_REG, MAKE_SOCK = (
    1 << bit for bit in range(10)
)
MAKE_FIFO, MAKE_BLOCK, MAKE_SYM, REFER, TRUNCATE, IOCTL_DEV, RESOLVE_UNIX = (1 << bit for bit in range(10, 17))
BIND_TCP, CONNECT_TCP, BIND_UDP, CONNECT_SEND_UDP = 1, 2, 4, 8
SCOPE_ABSTRACT_SOCKET, SCOPE_SIGNAL = 1, 2

READING = READ_FILE | READ_DIR
EXECUTING = READING | EXECUTE
WRITING = READING | WRITE_FILE | TRUNCATE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG
_OF_A_FILE = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV  # the kernel refuses any other right on a file

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_RULE_PATH_BENEATH, _RULE_PORT = 1, 2
_VERSION = 1
_PR_SET_NO_NEW_PRIVS = 38
_REFER_SINCE, _TRUNCATE_SINCE, _TCP_SINCE, _IOCTL_SINCE, _SCOPES_SINCE = range(2, 7)
_SOCKETS_SINCE, _UDP_SINCE = 9, 10
_GAPS = {  # from which version on the kernel governs what; what REFER would give is denied before it, too
    1: "any file at all (Linux 5.13)",
    _TRUNCATE_SINCE: "truncating a file that may only be read (Linux 6.2)",
    _TCP_SINCE: "TCP: binding and connecting (Linux 6.7)",
    _IOCTL_SINCE: "device files: ioctl (Linux 6.10)",
    _SCOPES_SINCE: "abstract unix sockets and signals to other processes (Linux 6.12)",
    _SOCKETS_SINCE: "connecting to a unix socket that has a path (Linux 7.1)",
    _UDP_SINCE: "UDP: binding and sending (Linux 7.2)",
}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


class _Port(ctypes.Structure):
    _fields_ = (("allowed", ctypes.c_uint64), ("port", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


@dataclass(frozen=True)
class Rules:
    """What stays reachable: files, or directories with all below them; a link stands for what it points to.

    `execute` also gives reading, `write` gives reading, making and removing files and directories (and ioctl, on a
    device file). Rules on one path add up: `sockets` and `links` give making unix sockets and symbolic links, and no
    more than that. Nothing gives renaming or linking from one directory to another.
    `bind_ephemeral_port` gives binding by TCP to a port that the kernel picks.
    """

    read: tuple[Path, ...] = ()
    execute: tuple[Path, ...] = ()
    write: tuple[Path, ...] = ()
    sockets: tuple[Path, ...] = ()
    links: tuple[Path, ...] = ()
    bind_ephemeral_port: bool = False

    def __iter__(self) -> Iterator[tuple[Path, int]]:
        """Go through the paths and the rights that each one gives."""
        yield from ((path, READING) for path in self.read)
        yield from ((path, EXECUTING) for path in self.execute)
        yield from ((path, WRITING | IOCTL_DEV) for path in self.write)
        yield from ((path, MAKE_SOCK) for path in self.sockets)
        yield from ((path, MAKE_SYM) for path in self.links)


def probe_abi() -> int:
    """Return the version of Landlock that the running kernel speaks, 0 if it has none or has it switched off."""
    return max(0, int(_libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))))


def list_gaps(abi: int) -> tuple[str, ...]:
    """Return what a kernel with this version of Landlock does not govern and a newer one does."""
    return tuple(what for since, what in _GAPS.items() if abi < since)


def restrict(rules: Rules) -> None:
    """Leave this process and whatever it starts with nothing but what `rules` give; there is no way back.

    Only for a process with one thread: the kernel restricts the thread that calls. Sets `no_new_privs`.

    Raises:
        ConfigError: the kernel has no Landlock, or a path cannot be opened.
        Undecided: the process has other threads, or the kernel refused a step.
    """
    abi = probe_abi()
    if abi < 1:
        raise ConfigError(
            "this kernel has no Landlock, so that a worker cannot be kept from other files; use Linux 5.13 or newer "
            "with `landlock` in the boot parameter lsm="
        )
    _check_single_thread()
    ruleset = _create_ruleset(abi)
    try:
        for path, rights in rules:
            _add_path(ruleset, path, rights & _handled_files(abi))
        if rules.bind_ephemeral_port and abi >= _TCP_SINCE:
            _add_rule(ruleset, _RULE_PORT, _Port(BIND_TCP, 0), "for port 0")
        _call("prctl", _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        _call("landlock_restrict_self", _libc.syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0)))
    finally:
        os.close(ruleset)


def _check_single_thread() -> None:
    try:
        threads = Path("/proc/self/task").stat().st_nlink - 2  # a look that needs no right, also in a second domain
    except OSError as error:
        raise Undecided(f"/proc/self/task: {error.strerror}; the threads of this process cannot be counted") from error
    if threads != 1:
        raise Undecided(f"{threads} threads run already, and Landlock would hold for one of them only")


def _create_ruleset(abi: int) -> int:
    network = BIND_TCP | CONNECT_TCP if abi >= _TCP_SINCE else 0
    network |= BIND_UDP | CONNECT_SEND_UDP if abi >= _UDP_SINCE else 0
    scopes = SCOPE_ABSTRACT_SOCKET | SCOPE_SIGNAL if abi >= _SCOPES_SINCE else 0
    handled = _Ruleset(_handled_files(abi), network, scopes)  # an older kernel takes the long form if its rest is zero
    size = ctypes.c_size_t(ctypes.sizeof(handled))
    return _call("landlock_create_ruleset", _libc.syscall(_CREATE_RULESET, ctypes.byref(handled), size, 0))


def _handled_files(abi: int) -> int:
    handled = (MAKE_SYM << 1) - 1
    newer = {_REFER_SINCE: REFER, _TRUNCATE_SINCE: TRUNCATE, _IOCTL_SINCE: IOCTL_DEV, _SOCKETS_SINCE: RESOLVE_UNIX}
    for since, right in newer.items():
        handled |= right if abi >= since else 0
    return handled


def _add_path(ruleset: int, path: Path, rights: int) -> None:
    try:
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be given to a confined process ({error.strerror})") from error
    try:
        mode = os.fstat(parent).st_mode
        if not stat.S_ISDIR(mode):
            rights &= _OF_A_FILE
        if not (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)):
            rights &= ~IOCTL_DEV  # beneath a directory it would open whatever device may one day appear there
        _add_rule(ruleset, _RULE_PATH_BENEATH, _Beneath(rights, parent), f"for {path}")
    finally:
        os.close(parent)


def _add_rule(ruleset: int, kind: int, rule: ctypes.Structure, what: str) -> None:
    step = _libc.syscall(_ADD_RULE, ctypes.c_int(ruleset), kind, ctypes.byref(rule), ctypes.c_uint32(0))
    _call(f"landlock_add_rule {what}", step)


def _call(step: str, result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise Undecided(f"{step}: {os.strerror(number)} ({errno.errorcode.get(number, number)})")
    return int(result)
