"""What a closed cell must refuse, each tried once: where a cell stands enters, what happened to each attempt leaves.

The attempts run in a worker that was just closed, before anything of a model is in it. Each is harmless where it
succeeds: it undoes what it made, or asks for what cannot be (a descriptor of -1, flags that do not exist), which an
allowed call answers with another error than a forbidden one. A filter decides before the kernel looks at arguments:
"no such file" from `execve` means that programs may be started.

A trial tells that something is refused, not by which part of the cell: several may be in the way. It does not tell
what a kernel with a fault can be made to do.
"""

import ctypes
import errno
import os
import resource
import stat
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from garrison.cell.syscalls import NUMBERS

LANDLOCK, SECCOMP, NETWORK, LIMITS, PROCESS = PARTS = ("landlock", "seccomp", "network", "limits", "process")
POSSIBLE = "was possible"
_NO_DESCRIPTOR = -1
_NO_FLAG = 0x7FFFFFFF  # bits that no call knows all of
_NO_NAMESPACE = 1
_CLONE_SIGHAND = 0x800  # without CLONE_VM it is always an error
_PTRACE_PEEKUSER = 3  # always an error with whom is not traced
_AF_UNIX, _AF_INET, _AF_NETLINK, _SOCK_STREAM, _SOCK_DGRAM = 1, 2, 16, 1, 2
_PR_GET_DUMPABLE, _PR_SET_DUMPABLE = 3, 4
_CAPABILITY_VERSION = 0x20080522
_CAP_CHOWN = 1
_SYSTEM_FILES = ("/etc/passwd", "/etc/os-release", "/proc/sys/kernel/ostype")
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


@dataclass(frozen=True)
class Surroundings:
    """What lies around a cell: its supervisor, a file that exists but is not for it, and the directories it knows.

    `landlock_abi` is what was found before closing: inside, asking is forbidden. `cuda` says that /proc is given, too.
    """

    parent: int
    outside_file: Path
    models_directory: Path
    model_directory: Path
    scratch: Path
    landlock_abi: int
    cuda: bool = False


@dataclass(frozen=True)
class Attempt:
    """One thing to try, and the errors that mean it was refused."""

    part: str
    what: str
    act: Callable[[Surroundings], object]
    refusals: frozenset[int]


@dataclass(frozen=True)
class Trial:
    """What came of an attempt: `detail` is the name of the error, or that it was possible."""

    part: str
    what: str
    held: bool
    detail: str


def run_attempts(around: Surroundings) -> tuple[Trial, ...]:
    """Try everything and say what happened; an attempt is held only if the error is the one that was expected."""
    chosen = (attempt for attempt in ATTEMPTS if not (around.cuda and attempt.act in _POSSIBLE_WITH_CUDA))
    return tuple(_run(attempt, around) for attempt in chosen)


def read_own_status() -> dict[str, str]:
    """Return what the kernel says of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def read_capabilities(status: Mapping[str, str]) -> int:
    """Return the capabilities that a process has or may take, from what the kernel says of it."""
    return int(status["CapEff"], 16) | int(status["CapPrm"], 16)


def is_dumpable() -> bool:
    """Say whether others of this user can look into this process."""
    return _call("prctl", _PR_GET_DUMPABLE) != 0


def _run(attempt: Attempt, around: Surroundings) -> Trial:
    try:
        attempt.act(around)
    except OSError as error:
        code = error.errno or 0
        return Trial(attempt.part, attempt.what, code in attempt.refusals, errno.errorcode.get(code, str(error)))
    return Trial(attempt.part, attempt.what, False, POSSIBLE)


# Files ----------------------------------------------------------------------------------------------------------------


def _read_a_file_of_the_launcher(around: Surroundings) -> None:
    _open(around.outside_file, os.O_RDONLY)


def _read_a_file_of_the_system(_: Surroundings) -> None:
    _open(next(Path(path) for path in _SYSTEM_FILES if Path(path).exists()), os.O_RDONLY)


def _list_the_root_directory(_: Surroundings) -> None:
    list(Path("/").iterdir())


def _list_the_models(around: Surroundings) -> None:
    list(around.models_directory.iterdir())


def _read_the_state_of_the_supervisor(around: Surroundings) -> None:
    _open(Path(f"/proc/{around.parent}/stat"), os.O_RDONLY)  # for everybody, elsewhere


def _read_the_environment_of_the_supervisor(around: Surroundings) -> None:
    _open(Path(f"/proc/{around.parent}/environ"), os.O_RDONLY)


def _list_the_sockets_of_the_machine(_: Surroundings) -> None:
    _open(Path("/proc/self/net/unix"), os.O_RDONLY)


def _write_to_a_file_of_the_launcher(around: Surroundings) -> None:
    _open(around.outside_file, os.O_WRONLY)


def _make_a_file_beside_the_models(around: Surroundings) -> None:
    _undo(around.models_directory, lambda path: _open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))


def _make_a_file_beside_its_model(around: Surroundings) -> None:
    _undo(around.model_directory, lambda path: _open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))


def _make_a_symbolic_link_in_scratch(around: Surroundings) -> None:
    _undo(around.scratch, lambda path: path.symlink_to("/"))


def _make_a_pipe_in_scratch(around: Surroundings) -> None:
    _undo(around.scratch, os.mkfifo)


def _make_a_socket_in_scratch(around: Surroundings) -> None:
    _undo(around.scratch, lambda path: os.mknod(path, stat.S_IFSOCK | 0o600))


def _link_a_file_into_scratch(around: Surroundings) -> None:
    _undo(around.scratch, lambda path: path.hardlink_to(around.outside_file))


# What Landlock does not see: attributes of files ----------------------------------------------------------------------


def _change_the_mode_of_a_file(around: Surroundings) -> None:
    around.outside_file.chmod(stat.S_IMODE(around.outside_file.stat().st_mode))


def _change_the_owner_of_a_file(around: Surroundings) -> None:
    os.chown(around.outside_file, -1, -1)


def _change_the_times_of_a_file(around: Surroundings) -> None:
    found = around.outside_file.stat()
    os.utime(around.outside_file, ns=(found.st_atime_ns, found.st_mtime_ns))


def _change_an_attribute_of_a_file(around: Surroundings) -> None:
    os.removexattr(around.outside_file, "user.garrison.posture")


def _cut_a_file(around: Surroundings) -> None:
    os.truncate(around.outside_file, around.outside_file.stat().st_size)


# Programs and other processes -----------------------------------------------------------------------------------------


def _fork_a_process(_: Surroundings) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def _signal_the_supervisor(around: Surroundings) -> None:
    os.kill(around.parent, 0)


def _trace_the_supervisor(around: Surroundings) -> None:
    _call("ptrace", _PTRACE_PEEKUSER, around.parent, 0, 0)


def _read_the_memory_of_the_supervisor(around: Surroundings) -> None:
    _call("process_vm_readv", around.parent, 0, 0, 0, 0, 0)


def _write_the_memory_of_the_supervisor(around: Surroundings) -> None:
    _call("process_vm_writev", around.parent, 0, 0, 0, 0, 0)


def _open_the_supervisor(around: Surroundings) -> None:
    os.close(_call("pidfd_open", around.parent, 0))


# Limits ---------------------------------------------------------------------------------------------------------------


def _raise_a_limit(_: Surroundings) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    if hard == resource.RLIM_INFINITY:
        return  # there is none
    _set_core_limit(soft, hard + 1)
    _set_core_limit(soft, hard)


def _regain_a_capability(_: Surroundings) -> None:
    if read_capabilities(read_own_status()):
        return  # it has some
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION, 0))
    data = ctypes.create_string_buffer(struct.pack("=6I", _CAP_CHOWN, _CAP_CHOWN, 0, 0, 0, 0))
    _call("capset", ctypes.addressof(header), ctypes.addressof(data))


def _become_readable_for_others(_: Surroundings) -> None:
    before = _call("prctl", _PR_GET_DUMPABLE)
    _call("prctl", _PR_SET_DUMPABLE, 1)
    _call("prctl", _PR_SET_DUMPABLE, before)


# The list -------------------------------------------------------------------------------------------------------------


def _attempt(part: str, act: Callable[[Surroundings], object], *refusals: int) -> Attempt:
    usual = (errno.EACCES,) if part == LANDLOCK else (errno.EPERM,)
    return Attempt(part, act.__name__.replace("_", " ").strip(), act, frozenset(refusals or usual))


def _forbidden(part: str, name: str, *arguments: int, refusal: int = errno.EPERM, what: str = "") -> Attempt:
    return Attempt(part, what or f"call {name}", lambda _: _call(name, *arguments), frozenset({refusal}))


def _no_socket(what: str, family: int, kind: int) -> Attempt:
    return Attempt(
        NETWORK, f"make a {what} socket", lambda _: os.close(_call("socket", family, kind, 0)), frozenset({errno.EPERM})
    )


_POSSIBLE_WITH_CUDA = (_read_the_state_of_the_supervisor, _list_the_sockets_of_the_machine)  # the driver needs /proc
ATTEMPTS = (
    _attempt(LANDLOCK, _read_a_file_of_the_launcher),
    _attempt(LANDLOCK, _read_a_file_of_the_system),
    _attempt(LANDLOCK, _list_the_root_directory),
    _attempt(LANDLOCK, _list_the_models),
    _attempt(LANDLOCK, _read_the_state_of_the_supervisor),
    _attempt(LANDLOCK, _read_the_environment_of_the_supervisor),
    _attempt(LANDLOCK, _list_the_sockets_of_the_machine),
    _attempt(LANDLOCK, _write_to_a_file_of_the_launcher),
    _attempt(LANDLOCK, _make_a_file_beside_the_models),
    _attempt(LANDLOCK, _make_a_file_beside_its_model),
    _attempt(LANDLOCK, _make_a_symbolic_link_in_scratch, errno.EACCES, errno.EPERM),
    _attempt(LANDLOCK, _make_a_pipe_in_scratch, errno.EACCES, errno.EPERM),
    _attempt(LANDLOCK, _make_a_socket_in_scratch, errno.EACCES, errno.EPERM),
    _attempt(LANDLOCK, _link_a_file_into_scratch, errno.EXDEV, errno.EACCES, errno.EPERM),
    _attempt(SECCOMP, _change_the_mode_of_a_file),
    _attempt(SECCOMP, _change_the_owner_of_a_file),
    _attempt(SECCOMP, _change_the_times_of_a_file),
    _attempt(SECCOMP, _change_an_attribute_of_a_file),
    _attempt(SECCOMP, _cut_a_file, errno.EPERM, errno.EACCES),  # Landlock may see it first (ABI 3)
    _no_socket("TCP", _AF_INET, _SOCK_STREAM),
    _no_socket("UDP", _AF_INET, _SOCK_DGRAM),
    _no_socket("unix", _AF_UNIX, _SOCK_STREAM),
    _no_socket("netlink", _AF_NETLINK, _SOCK_DGRAM),
    _forbidden(NETWORK, "connect", _NO_DESCRIPTOR, 0, 0),
    _forbidden(NETWORK, "bind", _NO_DESCRIPTOR, 0, 0),
    _forbidden(NETWORK, "listen", _NO_DESCRIPTOR, 0),
    _forbidden(NETWORK, "accept", _NO_DESCRIPTOR, 0, 0),
    _forbidden(NETWORK, "sendmsg", _NO_DESCRIPTOR, 0, 0),
    _forbidden(NETWORK, "recvmsg", _NO_DESCRIPTOR, 0, 0),
    _attempt(PROCESS, _fork_a_process),
    _forbidden(PROCESS, "clone", _CLONE_SIGHAND, 0, 0, 0, 0),
    _forbidden(PROCESS, "clone3", 0, 0, refusal=errno.ENOSYS),  # so that libc falls back to clone
    _forbidden(PROCESS, "execve", 0, 0, 0),
    _forbidden(PROCESS, "execveat", _NO_DESCRIPTOR, 0, 0, 0, 0),
    _attempt(PROCESS, _signal_the_supervisor),
    _attempt(PROCESS, _trace_the_supervisor),
    _attempt(PROCESS, _read_the_memory_of_the_supervisor),
    _attempt(PROCESS, _write_the_memory_of_the_supervisor),
    _attempt(PROCESS, _open_the_supervisor),
    _forbidden(PROCESS, "pidfd_send_signal", _NO_DESCRIPTOR, 0, 0, 0),
    _forbidden(PROCESS, "pidfd_getfd", _NO_DESCRIPTOR, 0, 0),
    _forbidden(SECCOMP, "mount", 0, 0, 0, 0, 0),
    _forbidden(SECCOMP, "chroot", 0),
    _forbidden(SECCOMP, "unshare", _NO_NAMESPACE),
    _forbidden(SECCOMP, "setns", _NO_DESCRIPTOR, 0),
    _forbidden(SECCOMP, "bpf", 0, 0, 2**31),
    _forbidden(SECCOMP, "io_uring_setup", 0, 0),
    _forbidden(SECCOMP, "userfaultfd", _NO_FLAG),
    _forbidden(SECCOMP, "perf_event_open", 0, 0, 0, _NO_DESCRIPTOR, _NO_FLAG),
    _forbidden(SECCOMP, "keyctl", _NO_FLAG),
    _forbidden(SECCOMP, "add_key", 0, 0, 0, 0, 0),
    _forbidden(SECCOMP, "shmget", 0x7FFFFFF1, 1, 0),  # a key that nobody uses, and no wish to make it
    _forbidden(SECCOMP, "mq_open", 0, 0, 0, 0),
    _forbidden(SECCOMP, "inotify_init1", _NO_FLAG),
    Attempt(SECCOMP, "make a file in memory", lambda _: os.close(os.memfd_create("posture")), frozenset({errno.EPERM})),
    _attempt(SECCOMP, _become_readable_for_others),
    _attempt(LIMITS, _raise_a_limit),
    _attempt(LIMITS, _regain_a_capability),
)


def _open(path: Path, flags: int) -> None:
    os.close(os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK, 0o600))


def _undo(directory: Path, make: Callable[[Path], object]) -> None:
    path = directory / ".garrison-posture"
    make(path)
    path.unlink()


def _set_core_limit(soft: int, hard: int) -> None:
    limit = ctypes.create_string_buffer(struct.pack("=QQ", soft, hard))
    _call("prlimit64", 0, resource.RLIMIT_CORE, ctypes.addressof(limit), 0)


def _call(name: str, *arguments: int) -> int:
    result = int(_libc.syscall(ctypes.c_long(NUMBERS[name]), *(ctypes.c_long(value) for value in arguments)))
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), name)
    return result
