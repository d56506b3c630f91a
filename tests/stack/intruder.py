"""What somebody tries who has taken over a process: run as a script, given places in JSON, it prints what came of it.

Every attempt runs in a child of its own and answers with "done" or the name of an error; a system call that the kernel
only refused for its senseless arguments (EFAULT, EINVAL ...) is done, too. Only the standard library is used, for the
script is handed to `python -c` where no file of ours can be read.
"""

import ctypes
import errno
import json
import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ATTEMPT_TIMEOUT_S = 20
CLONE_NEWUSER, CLONE_NEWNS, SIGCHLD = 0x10000000, 0x00020000, 17
MSG_FASTOPEN, IPPROTO_MPTCP, AT_FDCWD = 0x20000000, 262, -100
CALLS = {"process_vm_readv": 310, "bpf": 321, "io_uring_setup": 425, "userfaultfd": 323, "perf_event_open": 298,
         "add_key": 248, "keyctl": 250, "unshare": 272, "clone": 56, "mount": 165, "setxattr": 188, "ptrace": 101,
         "pidfd_open": 434, "pidfd_getfd": 438, "chroot": 161, "personality": 135, "shmget": 29, "setns": 308,
         "init_module": 175, "kexec_load": 246, "setpriority": 141, "sched_setscheduler": 144, "kcmp": 312}  # fmt: skip
REACHED = {errno.EFAULT, errno.EINVAL, errno.E2BIG, errno.ENOTDIR, errno.ENOENT, errno.EBADF, errno.ESRCH}

libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: int | bytes | ctypes.Array[Any]) -> int:
    """Make a raw system call."""
    wide = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    result = libc.syscall(ctypes.c_long(CALLS[name]), *wide)
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return int(result)


def reach(name: str, *arguments: int | bytes) -> None:
    """Make a system call whose arguments make no sense: done, if the kernel got as far as looking at them."""
    try:
        call(name, *arguments)
    except OSError as error:
        if error.errno not in REACHED:
            raise


def execute(path: str, *arguments: str) -> None:
    """Become another program."""
    os.execv(path, [path, *arguments])


def execute_from_memory() -> None:
    """Become a program that has no path."""
    file = os.memfd_create("program")
    os.write(file, Path("/proc/self/exe").read_bytes())
    os.execv(f"/proc/self/fd/{file}", ["python", "-c", ""])


def execute_written(directory: str) -> None:
    """Write a program and become it."""
    path = Path(directory) / f"program-{os.getpid()}"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o700), "w") as file:
        file.write("#!/bin/sh\n")
    try:
        if os.spawnv(os.P_WAIT, str(path), [str(path)]) != 0:
            raise PermissionError(errno.EACCES, "exec")
    finally:
        path.unlink()


def empty(path: Path, text: str) -> None:
    """Empty a file by opening it for reading, and fill it again."""
    os.close(os.open(path, os.O_RDONLY | os.O_TRUNC))
    path.write_text(text)


def connect(port: int, protocol: int = 0) -> None:
    """Connect by TCP, or what passes for it."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol) as client:
        client.connect(("127.0.0.1", port))


def connect_fast(port: int) -> None:
    """Connect as a part of sending."""
    with socket.socket() as client:
        client.sendto(b"x", MSG_FASTOPEN, ("127.0.0.1", port))


def send_datagram(port: int) -> None:
    """Send by UDP, as a question to a name server is."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"x", ("127.0.0.1", port))


def connect_abstract(name: str) -> None:
    """Connect to a unix socket that has no path."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"\0{name}")


def make_socket(family: int, kind: int) -> None:
    """Make a socket of a rare kind."""
    socket.socket(family, kind).close()


def bind(port: int) -> None:
    """Take a port that was chosen."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", port))


def trace(pid: int) -> None:
    """Attach to another process, and let it go again."""
    call("ptrace", 16, pid, 0, 0)
    os.waitpid(pid, 0x40000000)
    call("ptrace", 17, pid, 0, 0)


def read_memory(pid: int) -> None:
    """Read a few bytes of another process's first mapping, wherever it is."""
    local = ctypes.create_string_buffer(8)
    ours = struct.pack("PN", ctypes.addressof(local), 8)
    call("process_vm_readv", pid, ours, 1, struct.pack("PN", 0, 0), 1, 0)


def take_descriptor(pid: int) -> None:
    """Take another process's standard input."""
    call("pidfd_getfd", call("pidfd_open", pid, 0), 0, 0)


def clone_namespace() -> None:
    """Start a child in a namespace of its own."""
    child = call("clone", CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0)
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def set_limit(pid: int) -> None:
    """Limit another process, which would break it."""
    import resource

    resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))


def list_attempts(given: dict[str, Any]) -> dict[str, Callable[[], object]]:
    """Return everything there is to try, by name."""
    secret, config, scratch = Path(given["secret"]), Path(given["config"]), Path(given["scratch"])
    run, pid, port = Path(given["run"]), int(given["pid"]), int(given["port"])
    return {
        "execute a program": lambda: execute("/bin/true"),
        "execute a program that was written": lambda: execute_written(str(scratch)),
        "execute from memory": execute_from_memory,
        "read a secret": secret.read_text,
        "read the users of the system": Path("/etc/passwd").read_text,
        "read the gateway's settings": (run / "envoy.json").read_text,
        "list the run directory": lambda: list(run.iterdir()),
        "write a setting": lambda: config.write_text(given["config text"]),
        "append to a setting": lambda: config.open("a").close(),
        "truncate a setting": lambda: os.truncate(config, len(given["config text"].encode())),
        "empty a setting": lambda: empty(config, given["config text"]),
        "remove a file of the launcher": (run / "decoy").unlink,
        "make a file beside the sockets": (run / f"new-{os.getpid()}").touch,
        "write into a served model": (run / "models" / f"new-{os.getpid()}").touch,
        "replace a program on the path": lambda: (run / "bin" / "new").symlink_to("/bin/sh"),
        "link a secret into scratch": lambda: os.link(secret, scratch / f"hard-{os.getpid()}"),
        "move a secret into scratch": lambda: secret.with_name("second").rename(scratch / "moved"),
        "make a symbolic link in scratch": lambda: (scratch / f"link-{os.getpid()}").symlink_to("/etc/passwd"),
        "make a fifo in scratch": lambda: os.mkfifo(scratch / f"fifo-{os.getpid()}"),
        "change a secret's mode": lambda: secret.chmod(0o644),
        "change a secret's owner": lambda: os.chown(secret, os.getuid(), os.getgid()),
        "change a secret's times": lambda: os.utime(secret),
        "change a secret's attributes": lambda: reach("setxattr", os.fsencode(secret), b"user.a", b"", 0, 9),
        "connect by TCP": lambda: connect(port),
        "connect by TCP while sending": lambda: connect_fast(port),
        "connect by multipath TCP": lambda: connect(port, IPPROTO_MPTCP),
        "send by UDP": lambda: send_datagram(port),
        "connect to an abstract socket": lambda: connect_abstract(given["abstract"]),
        "bind a chosen port": lambda: bind(given["free port"]),
        "listen to the kernel (netlink)": lambda: make_socket(socket.AF_NETLINK, socket.SOCK_RAW),
        "use the kernel's ciphers": lambda: make_socket(socket.AF_ALG, socket.SOCK_SEQPACKET),
        "trace a process": lambda: trace(pid),
        "read a process's memory": lambda: read_memory(pid),
        "read a process's environment": Path(f"/proc/{pid}/environ").read_bytes,
        "read a process's directory": Path(f"/proc/{pid}/cwd").readlink,
        "take a process's descriptor": lambda: take_descriptor(pid),
        "compare processes": lambda: call("kcmp", os.getpid(), os.getpid(), 1, 0, 0),
        "signal a process": lambda: os.kill(pid, signal.SIGCONT),
        "limit a process": lambda: set_limit(pid),
        "slow a process down": lambda: call("setpriority", 0, pid, 1),
        "reschedule a process": lambda: call("sched_setscheduler", pid, 0, struct.pack("i", 0)),
        "enter a new user namespace": lambda: call("unshare", CLONE_NEWUSER),
        "start a child in a new user namespace": clone_namespace,
        "enter another namespace": lambda: reach("setns", -1, 0),
        "mount": lambda: reach("mount", 0, 0, 0, 0, 0),
        "change the root": lambda: reach("chroot", 0),
        "load a program into the kernel": lambda: reach("bpf", 99, 0, 0),
        "load a module": lambda: reach("init_module", 0, 0, 0),
        "load another kernel": lambda: reach("kexec_load", 0, 99, 0, 99),
        "set up io_uring": lambda: reach("io_uring_setup", 0, 0),
        "handle page faults": lambda: reach("userfaultfd", -1),
        "watch performance": lambda: reach("perf_event_open", 0, 0, 0, 0, 0),
        "keep a key in the kernel": lambda: reach("add_key", 0, 0, 0, 0, 0),
        "use a keyring": lambda: call("keyctl", 1, 0, 0, 0, 0),
        "change the personality": lambda: call("personality", 0x0040000),
        "keep memory beyond the end": lambda: call("shmget", 0, 4096, 0o600),
        "become another user": lambda: os.setuid(65534),
    }


def try_in_child(attempt: Callable[[], object]) -> str:
    """Try in a child of its own, which keeps what it gains to itself."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            attempt()
            os.write(writing, b"done")
        except OSError as error:
            os.write(writing, errno.errorcode.get(error.errno or 0, str(error)).encode())
        except BaseException as error:  # noqa: BLE001 - the child's only way to say it
            os.write(writing, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    if not select.select([reading], [], [], ATTEMPT_TIMEOUT_S)[0]:
        os.kill(pid, signal.SIGKILL)
    told = os.read(reading, 1000).decode()
    os.close(reading)
    os.waitpid(pid, 0)
    return told or "done"  # it became another program


def main() -> None:
    """Try everything, or only what is named."""
    given = json.loads(sys.argv[1])
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    outcomes = {name: try_in_child(attempt) for name, attempt in list_attempts(given).items()}
    sys.stdout.write(json.dumps({"status": status, "outcomes": outcomes}))


if __name__ == "__main__":
    main()
