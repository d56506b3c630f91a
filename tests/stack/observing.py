"""Look at running processes from outside: who belongs together, what they listen on, how much memory they took.

Read from /proc, so that what a process says of itself does not count.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil

WAIT_S = 60
LISTENING = {
    "tcp": "0A",
    "tcp6": "0A",
    "udp": "07",
    "udp6": "07",
    "raw": "07",
    "raw6": "07",
}  # states of net/tcp_states.h
ACCEPTS_CONNECTIONS = 0x10000  # __SO_ACCEPTCON in /proc/net/unix


def wait_for(happened: Callable[[], bool], what: str, timeout_s: float = WAIT_S) -> None:
    """Wait until something has happened, and fail with `what` if it does not."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if happened():
            return
        time.sleep(0.1)
    raise AssertionError(f"not within {timeout_s} s: {what}")


def find_family(pid: int) -> dict[int, str]:
    """Return a process and all its descendants: process id → name of the program."""
    parent = psutil.Process(pid)
    return {process.pid: process.name() for process in (parent, *parent.children(recursive=True))}


def find_processes(directory: Path) -> list[str]:
    """Return the command lines of all processes on this machine that mention a directory or work in it."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            line = " ".join(process.cmdline())
            if process.status() != psutil.STATUS_ZOMBIE and (
                str(directory) in line or process.cwd().startswith(str(directory))
            ):
                found.append(line)
    return found


def list_listeners(pids: Sequence[int]) -> set[tuple[int, str, str]]:
    """Return everything that accepts connections or datagrams: (process id, protocol, address or path)."""
    owners = {inode: pid for pid in pids for inode in _list_socket_inodes(pid)}
    sockets = [*_list_internet_sockets(), *_list_unix_sockets()]
    return {(owners[inode], protocol, address) for inode, protocol, address in sockets if inode in owners}


def measure_peak(pid: int, work: Callable[[], object]) -> int:
    """Return by how many bytes a process's resident memory rose above where it began, at its highest, during `work`."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the kernel's mark of the highest value starts again from here
    before = _read_status(pid, "VmRSS")
    work()
    return _read_status(pid, "VmHWM") - before


def _read_status(pid: int, field: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    kilobytes = next(line.split()[1] for line in lines if line.startswith(f"{field}:"))
    return int(kilobytes) * 1024


def _list_socket_inodes(pid: int) -> Iterator[str]:
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            target = str(link.readlink())
            if target.startswith("socket:["):
                yield target.removeprefix("socket:[").removesuffix("]")


def _list_internet_sockets() -> Iterator[tuple[str, str, str]]:
    for protocol, state in LISTENING.items():
        for fields in _read_table(protocol):
            if fields[3] == state:
                yield fields[9], protocol, _decode_address(fields[1])


def _list_unix_sockets() -> Iterator[tuple[str, str, str]]:
    for fields in _read_table("unix"):
        if int(fields[3], 16) & ACCEPTS_CONNECTIONS:
            yield fields[6], "unix", fields[7] if len(fields) > 7 else ""


def _read_table(name: str) -> list[list[str]]:
    table = Path("/proc/net") / name
    return [line.split() for line in table.read_text().splitlines()[1:]] if table.exists() else []


def _decode_address(text: str) -> str:
    """Turn `0100007F:1F90` into `127.0.0.1:8080`; an IPv4 address within an IPv6 one is shown as the former."""
    host, port = text.split(":")
    words = [bytes.fromhex(host[start : start + 8])[::-1] for start in range(0, len(host), 8)]
    address = b"".join(words)
    if len(address) == 16 and address.startswith(bytes(10) + b"\xff\xff"):
        address = address[12:]
    shown = ".".join(map(str, address)) if len(address) == 4 else address.hex(":", 2)
    return f"{shown}:{int(port, 16)}"
