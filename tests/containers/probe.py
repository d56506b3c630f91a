"""Look around from inside a container and print what was found, as JSON: what is tried is what an intruder would try.

Runs by `python -I -c` with the standard library alone: there is no shell to run anything else by. Its one argument is
JSON: {"addresses": [[host, port], ...], "names": [...]}: what to connect to and what to look up.
"""

import json
import mmap
import os
import re
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

KERNELS = ("/proc", "/sys")  # not files: looked at by themselves
PROGRAM = f"#!{sys.executable} -I\nraise SystemExit(42)\n"
RAN = 42
CONNECT_TIMEOUT_S = 0.5
PROGRAM_HEADER_INTERPRETER = 3
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
KERNEL_SECRETS = ("/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sysrq-trigger", "/dev/mem", "/dev/kmsg")
LIMITS = {  # cgroup v1, then v2
    "memory": ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory.max"),
    "processes": ("/sys/fs/cgroup/pids/pids.max", "/sys/fs/cgroup/pids.max"),
    "processor": ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu.max"),
}


def main() -> None:
    """Print everything."""
    tried = json.loads(sys.argv[1])
    writable = find_writable()
    facts = {
        "self": read_status("self"),
        "first": read_status("1"),
        "writable": writable,
        "changeable": find_changeable(writable),
        "runs": {place: runs_from(place) for place in writable},
        "can_start": subprocess.run([sys.executable, "-I", "-c", "exit(42)"], check=False).returncode == RAN,
        "mounts": read_mounts(),
        "devices": sorted(str(path) for path in Path("/dev").rglob("*") if is_open_device(path)),
        "interfaces": read_table("/proc/net/dev", 2, lambda row: row[0].rstrip(":")),
        "routes": read_table("/proc/net/route", 1, lambda row: row[0])
        + [route for route in read_table("/proc/net/ipv6_route", 0, lambda row: row[-1]) if route != "lo"],
        "listening": [
            address
            for family in ("tcp", "tcp6")
            for address in read_table(f"/proc/net/{family}", 1, lambda row: row[1] if row[3] == "0A" else None)
        ],
        "reached": [address for address in tried["addresses"] if reaches(*address)],
        "found": [name for name in tried["names"] if finds(name)],
        "environment": dict(os.environ),
        "environment_of_first": read_environment("1"),
        "processes": [read_words(f"/proc/{pid}/cmdline") for pid in processes()],
        "namespaces": {name: str(Path(f"/proc/self/ns/{name}").readlink()) for name in NAMESPACES},
        "limits": {name: read_first(paths) for name, paths in LIMITS.items()},
        "kernel": [path for path in KERNEL_SECRETS if reads_or_writes(path)],
        **look_at_files(),
    }
    json.dump(facts, sys.stdout)


def walk(*without: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield each path below the root with its state, links as links, without what the kernel makes up."""
    pending = ["/"]
    while pending:
        with suppress(OSError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.path in (*KERNELS, *without):
                    continue
                with suppress(OSError):
                    yield entry.path, entry.stat(follow_symlinks=False)
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)


def find_writable() -> list[str]:
    """Return the directories in which a file could be made, the uppermost of each tree."""
    found: list[str] = []
    directories = ["/", *(path for path, state in walk() if stat.S_ISDIR(state.st_mode))]
    for path in sorted(directories):
        if not path.startswith(tuple(f"{one.rstrip('/')}/" for one in found)) and can_make_file(path):
            found.append(path)
    return found


def can_make_file(directory: str) -> bool:
    path = Path(directory) / ".probe"
    with suppress(OSError):
        path.touch(0o600, exist_ok=False)
        path.unlink()
        return True
    return False


def find_changeable(writable: list[str]) -> list[str]:
    """Return files that could be written to, outside the directories that may be: the kernel's as well."""
    files = [path for path, state in walk("/dev") if stat.S_ISREG(state.st_mode)]
    for top in KERNELS:
        for directory, directories, names in os.walk(top):
            directories[:] = [one for one in directories if not (top == "/proc" and re.fullmatch(r"\d+|.*self", one))]
            files += [f"{directory}/{name}" for name in names]
    places = tuple(f"{place}/" for place in writable)
    return [path for path in files if not path.startswith(places) and may_write(path)]


def runs_from(directory: str) -> dict[str, bool]:
    """Tell whether a program that was written there runs, and whether its memory may become code."""
    path = Path(directory) / ".probe"
    try:
        path.write_text(PROGRAM)
        path.chmod(0o700)
        return {"starts": starts(str(path)), "maps": maps(str(path))}
    except OSError:  # /dev/mqueue: a file there is a queue, which holds no program
        return {"starts": False, "maps": False}
    finally:
        path.unlink()


def starts(path: str) -> bool:
    with suppress(OSError):
        return subprocess.run([path], check=False).returncode == RAN
    return False


def maps(path: str) -> bool:
    with suppress(OSError), Path(path).open("rb") as file:
        mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_EXEC).close()
        return True
    return False


def is_open_device(path: Path) -> bool:
    """Whether a device's node can be opened for writing, by its mode."""
    with suppress(OSError):
        state = path.lstat()
        return (stat.S_ISCHR(state.st_mode) or stat.S_ISBLK(state.st_mode)) and os.access(path, os.W_OK)
    return False


def processes() -> list[str]:
    return [path.name for path in Path("/proc").iterdir() if path.name.isdigit()]


def read_status(process: str) -> dict[str, str]:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def read_mounts() -> dict[str, dict[str, Any]]:
    """Return the mounts by their places: the options of the mount, and the kind of file system."""
    found = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split()
        found[fields[4]] = {"options": fields[5].split(","), "type": after.split()[0]}
    return found


def read_table(path: str, heading: int, take: Callable[[list[str]], str | None]) -> list[str]:
    """Return what is taken of each row of one of the kernel's tables; none of a table that is not there."""
    with suppress(FileNotFoundError):
        taken = [take(line.split()) for line in Path(path).read_text().splitlines()[heading:]]
        return [one for one in taken if one is not None]
    return []


def reaches(host: str, port: int) -> bool:
    """Whether something answers there, be it by a refusal: then packets go both ways."""
    try:
        socket.create_connection((host, port), CONNECT_TIMEOUT_S).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return True


def finds(name: str) -> bool:
    with suppress(OSError):
        return bool(socket.getaddrinfo(name, 8443))
    return False


def connects(path: str) -> bool:
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(CONNECT_TIMEOUT_S)
        connection.connect(path)
        return True
    return False


def read_words(path: str) -> list[str]:
    with suppress(OSError):
        return Path(path).read_bytes().decode(errors="replace").rstrip("\0").split("\0")
    return []


def read_environment(process: str) -> dict[str, str]:
    words = [word.partition("=") for word in read_words(f"/proc/{process}/environ")]
    return {name: value for name, equals, value in words if equals}


def read_first(paths: tuple[str, ...]) -> str:
    for path in paths:
        with suppress(OSError):
            return Path(path).read_text().strip()
    return ""


def may_write(path: str) -> bool:
    """Whether a file may be written to; the engine hides files of the kernel behind /dev/null."""
    with suppress(OSError):
        return os.access(path, os.W_OK) and not Path(path).samefile("/dev/null")
    return False


def reads_or_writes(path: str) -> bool:
    with suppress(OSError), Path(path).open("rb") as file:
        if file.read(1):
            return True
    return may_write(path)


def look_at_files() -> dict[str, list[Any]]:
    """Return what a file's state tells: of all files of the image and its volumes."""
    found: dict[str, list[Any]] = {
        kind: [] for kind in ("privileged", "loose", "foreign", "programs", "names", "sockets", "connects")
    }
    for path, state in walk("/dev"):
        mode = state.st_mode
        found["names"].append(path)
        if stat.S_ISSOCK(mode):
            found["sockets"].append(path)
            if connects(path):
                found["connects"].append(path)
        if stat.S_ISLNK(mode):
            continue
        if mode & (stat.S_ISUID | stat.S_ISGID):
            found["privileged"].append(path)
        if mode & (stat.S_IWGRP | stat.S_IWOTH):
            found["loose"].append(path)
        if state.st_uid != 0:
            found["foreign"].append(path)
        if stat.S_ISREG(mode) and mode & 0o111 and is_program(path):
            found["programs"].append(path)
    return found


def is_program(path: str) -> bool:
    """Whether a file that may be run is a script, or a binary that names its loader or needs none: no library."""
    with suppress(OSError, struct.error), Path(path).open("rb") as file:
        head = file.read(64)
        if head[:4] != b"\x7fELF":
            return head[:2] == b"#!"
        kind, table, size, count = (
            struct.unpack_from(form, head, at)[0] for form, at in (("<H", 16), ("<Q", 32), ("<H", 54), ("<H", 56))
        )
        file.seek(table)
        headers = file.read(size * count)
        names_loader = any(
            struct.unpack_from("<I", headers, number * size)[0] == PROGRAM_HEADER_INTERPRETER for number in range(count)
        )
        return names_loader or kind == 2  # a position-dependent executable
    return False


if __name__ == "__main__":
    main()
