"""How an effect is seen from outside: each function looks at a scene and returns what it saw, or nothing.

Read from the file system, /proc and our own sockets, never from what the attacker claims, except where a secret came
back in an answer: the attacker was never told it, so only the theft explains it.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from attacks.escape.model import Scene

Seen = Callable[[Scene], str]
MANY_PROCESSES, MANY_THREADS, MANY_DESCRIPTORS, MANY_FILES = 100, 1000, 2000, 5000
MUCH_DISK_BYTES, MUCH_MEMORY_BYTES = 96 * 2**20, 1200 * 2**20
LASTING_S = 2.5  # a supervisor looks several times a second, and ends what takes too much


def marker_exists(scene: Scene) -> str:
    """See a file outside that was not there."""
    return f"{scene.marker.name} exists" if os.path.lexists(scene.marker) else ""


def secret_came_back(scene: Scene) -> str:
    """See in the answer what the attacker was never told."""
    return "the secret came back in an answer" if scene.secret in scene.report else ""


def was_heard(scene: Scene) -> str:
    """See the token at one of our listeners."""
    return next((f"heard {data[:60]!r}" for data in scene.heard if scene.token.encode() in data), "")


def differs(read: Callable[[Scene], object]) -> Seen:
    """See that something is not what it was when the scene was set (see `remember`)."""

    def look(scene: Scene) -> str:
        now = read(scene)
        return f"{scene.kept['before']} became {now}" if now != scene.kept["before"] else ""

    return look


def lasting(seen: Seen) -> Seen:
    """See something at every look for a while: what is noticed and ended at once does not count."""

    def look(scene: Scene) -> str:
        what, now = seen(scene), time.monotonic()
        if not what:
            scene.kept.pop("since", None)
        return what if what and now - scene.kept.setdefault("since", now) >= LASTING_S else ""

    return look


def process_lives(scene: Scene) -> str:
    """See a process that carries the token in its name or arguments, or that the attacker's worker started."""
    pids = find_started(scene)
    return f"{len(pids)} processes live" if pids else ""


def many_processes_live(scene: Scene) -> str:
    """See a crowd of processes."""
    pids = find_marked(scene)
    return f"{len(pids)} processes live" if len(pids) >= MANY_PROCESSES else ""


def find_started(scene: Scene) -> list[int]:
    """Return the processes that carry the token, and those below the attacker's worker."""
    below = [one.pid for pid in scene.own_pids() for one in _descendants(pid)]
    return sorted({*find_marked(scene), *below})


def find_marked(scene: Scene) -> list[int]:
    """Return the processes that carry the token."""
    return [pid for pid in psutil.pids() if scene.token in _name(pid)]


def _name(pid: int) -> str:
    place, parts = Path("/proc", str(pid)), []
    for name in ("comm", "cmdline"):
        with contextlib.suppress(OSError):
            parts.append((place / name).read_text(errors="replace"))
    with contextlib.suppress(OSError):
        if (place / "stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return ""
    return "\n".join(parts)


def worker_status(field: str, wanted: Callable[[str], bool]) -> Seen:
    """See a line of /proc/<pid>/status in one of the attacker's threads."""

    def look(scene: Scene) -> str:
        for status in _each_thread(scene, "status"):
            for line in _read(status).splitlines():
                name, _, value = line.partition(":\t")
                if name == field and wanted(value):
                    return line.replace("\t", " ")
        return ""

    return look


def many_threads(scene: Scene) -> str:
    """See a crowd of threads."""
    counts = [sum(1 for _ in Path(f"/proc/{pid}/task").iterdir()) for pid in scene.own_pids() if psutil.pid_exists(pid)]
    return next((f"{count} threads" for count in counts if count >= MANY_THREADS), "")


def many_descriptors(scene: Scene) -> str:
    """See a crowd of open descriptors."""
    counts = [len(list(_list_descriptors(pid))) for pid in scene.own_pids()]
    return next((f"{count} descriptors" for count in counts if count >= MANY_DESCRIPTORS), "")


def holds(kind: str) -> Seen:
    """See an open descriptor of a kind in the attacker's worker."""

    def look(scene: Scene) -> str:
        found = [link for pid in scene.own_pids() for link in _list_descriptors(pid) if f"anon_inode:{kind}" in link]
        return f"open: {found[0]}" if found else ""

    return look


def other_namespace(scene: Scene) -> str:
    """See a thread, or a descendant of the server, in a namespace that is not ours."""
    pids = [scene.server.jvm, *(one.pid for one in _descendants(scene.server.jvm)), *find_marked(scene)]
    for pid in pids:
        with contextlib.suppress(OSError):
            for link in Path(f"/proc/{pid}/task").glob("*/ns/*"):
                ours = Path("/proc/self/ns", link.name)
                if not link.name.endswith("_for_children") and link.readlink() != ours.readlink():
                    return f"{link} is {link.readlink()}"
    return ""


def other_root(scene: Scene) -> str:
    """See a process whose root directory is the scene's place."""
    for process in _descendants(scene.server.jvm):
        with contextlib.suppress(OSError):
            if (link := Path(f"/proc/{process.pid}/root").readlink()) == scene.place:
                return f"the root of {process.pid} is {link}"
    return ""


def mounted(scene: Scene) -> str:
    """See a mount below the scene's place, here or in a namespace of one of the server's descendants."""
    for pid in (os.getpid(), *(one.pid for one in _descendants(scene.server.jvm))):
        found = [line for line in _read(Path(f"/proc/{pid}/mountinfo")).splitlines() if f"{scene.place}/" in line]
        if found:
            return f"mounted: {found[0]}"
    return ""


def much_memory(scene: Scene) -> str:
    """See the attacker's worker hold more memory than any model here needs."""
    for pid in scene.own_pids():
        for line in _read(Path(f"/proc/{pid}/status")).splitlines():
            if line.startswith("VmRSS:") and int(line.split()[1]) * 1024 >= MUCH_MEMORY_BYTES:
                return line.replace("\t", " ")
    return ""


def much_unmapped_memory(scene: Scene) -> str:
    """See the attacker's worker hold files that lie in memory only, and are large."""
    total = sum(size for size, link in _list_sizes(scene) if link.startswith("/memfd:"))
    return f"{total >> 20} MiB in nameless memory" if total >= MUCH_MEMORY_BYTES else ""


def much_disk(scene: Scene) -> str:
    """See files of the attacker's take a lot of the disk."""
    total = sum(_stat_blocks(path) for path in _list_files(scene))
    return f"{total >> 20} MiB in files" if total >= MUCH_DISK_BYTES else ""


def many_files(scene: Scene) -> str:
    """See a crowd of files."""
    count = sum(1 for _ in _list_files(scene))
    return f"{count} files" if count >= MANY_FILES else ""


def much_hidden_disk(scene: Scene) -> str:
    """See the attacker's worker hold deleted files that take a lot of the disk."""
    total = sum(size for size, link in _list_sizes(scene) if "(deleted)" in link and not link.startswith("/memfd:"))
    return f"{total >> 20} MiB in deleted files" if total >= MUCH_DISK_BYTES else ""


def neighbour_ended(scene: Scene) -> str:
    """See that the neighbour's worker is not the one that it was."""
    pids = scene.kept["neighbours"]
    return f"the neighbour's worker {pids} is gone" if not any(map(_lives, pids)) else ""


def attacker_lives(scene: Scene) -> str:
    """See a process of the attacker's that outlived its server."""
    pids = [pid for pid in (*scene.kept.get("attackers", ()), *find_marked(scene)) if _lives(pid)]
    return f"{pids} live on" if pids else ""


def _lives(pid: int) -> bool:
    with contextlib.suppress(psutil.Error):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def _descendants(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return list(psutil.Process(pid).children(recursive=True))
    return []


def _each_thread(scene: Scene, name: str) -> Iterator[Path]:
    for pid in scene.own_pids():
        yield from Path(f"/proc/{pid}/task").glob(f"*/{name}")


def _list_descriptors(pid: int) -> Iterator[str]:
    with contextlib.suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                yield str(link.readlink())


def _list_sizes(scene: Scene) -> Iterator[tuple[int, str]]:
    for pid in scene.own_pids():
        with contextlib.suppress(OSError):
            for link in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    yield _stat_blocks(link, follow=True), str(link.readlink())


def _list_files(scene: Scene) -> Iterator[Path]:
    for place in scene.server.places:
        for directory, _, names in os.walk(place):
            yield from (Path(directory, name) for name in names if scene.token in name)


def _stat_blocks(path: Path, follow: bool = False) -> int:
    with contextlib.suppress(OSError):
        return path.stat(follow_symlinks=follow).st_blocks * 512
    return 0


def _read(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(errors="replace")
    return ""
