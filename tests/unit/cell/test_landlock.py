"""What Landlock takes away, tried by real processes: what a plain child can do, a restricted one cannot.

/proc deserves a word. Landlock forbids a restricted process to trace one outside, which covers `mem`, `cwd`, `root`
and the rest of /proc/<pid>; but the kernel lets whoever has CAP_PERFMON or CAP_SYS_ADMIN read `environ`, `maps` and
`auxv` without asking Landlock (`may_access_mm` in kernel/fork.c). So a cell needs both: Landlock and no capabilities.
"""

import contextlib
import ctypes
import errno
import os
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from garrison.cell import landlock
from garrison.cell.landlock import Rules, list_gaps, probe_abi, restrict
from garrison.errors import ConfigError, GarrisonError, Undecided

ABI = probe_abi()
CHILD_TIMEOUT_S = 20
PTRACE_ATTACH, PTRACE_DETACH = 16, 17
SECRET = "GARRISON_TEST_SECRET=hunter2"
libc = ctypes.CDLL(None, use_errno=True)

Attempt = Callable[[], object]


def try_in_child(*steps: Attempt) -> str:
    """Run the steps in a forked child; return what the last one returned, or the name of the error that ended it."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, outcome(steps).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        if not select.select([answer], [], [], CHILD_TIMEOUT_S)[0]:
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return answer.read().decode()


def outcome(steps: tuple[Attempt, ...]) -> str:
    try:
        results = [step() for step in steps]
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    except GarrisonError as error:
        return f"{type(error).__name__}: {error}"
    except BaseException as error:  # noqa: BLE001 - the child's only way to say it
        return repr(error)
    return "" if results[-1] is None else str(results[-1])


def quietly(attempt: Attempt) -> str:
    """Run one attempt in a plain child; return what went wrong, or nothing."""

    def run() -> None:
        attempt()

    return try_in_child(run)


def list_names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def drop_capabilities() -> None:
    """Take every capability from this process; its user stays."""
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capset(header, data) == 0


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory `inside` and one `outside`, with a file `note` in each and ways that lead out."""
    for name in ("inside", "outside", "inside/sub"):
        (tmp_path / name).mkdir()
    (tmp_path / "inside/note").write_text("in")
    (tmp_path / "outside/note").write_text("out")
    (tmp_path / "inside/leading_out").symlink_to("../outside/note")
    os.mkfifo(tmp_path / "outside/fifo")
    return tmp_path


@pytest.fixture
def neighbour() -> Iterator[subprocess.Popen[bytes]]:
    """A process outside, with a secret in its environment."""
    name, _, value = SECRET.partition("=")
    with subprocess.Popen(["/bin/sleep", "60"], env={name: value}) as process:
        yield process
        process.kill()


def confined(place: Path, attempt: Attempt, **more: tuple[Path, ...]) -> str:
    rules = Rules(write=(place / "inside",), **more)
    return try_in_child(lambda: restrict(rules), attempt)


FILES: dict[str, Callable[[Path], object]] = {
    "read": lambda p: (p / "outside/note").read_text(),
    "read through a link": lambda p: (p / "inside/leading_out").read_text(),
    "read through dots": lambda p: (p / "inside/sub/../../outside/note").read_text(),
    "read a directory": lambda p: list_names(p / "outside"),
    "read the system": lambda p: Path("/etc/passwd").read_text(),
    "write": lambda p: (p / "outside/note").write_text("new"),
    "append": lambda p: os.close(os.open(p / "outside/note", os.O_WRONLY | os.O_APPEND)),
    "write through a link": lambda p: (p / "inside/leading_out").write_text("new"),
    "make a file": lambda p: (p / "outside/new").touch(),
    "make a directory": lambda p: (p / "outside/new").mkdir(),
    "remove a file": lambda p: (p / "outside/note").unlink(),
    "open a fifo": lambda p: os.close(os.open(p / "outside/fifo", os.O_RDWR)),
    "execute": lambda p: subprocess.run(["/bin/true"], check=True),
    "link into": lambda p: os.link(p / "outside/note", p / "inside/hard"),
    "link out of": lambda p: os.link(p / "inside/note", p / "outside/hard"),
    "rename into": lambda p: (p / "outside/note").rename(p / "inside/moved"),
    "rename out of": lambda p: (p / "inside/note").rename(p / "outside/moved"),
    "rename across, inside": lambda p: (p / "inside/note").rename(p / "inside/sub/moved"),
    "make a symbolic link": lambda p: (p / "inside/new").symlink_to("/etc/passwd"),
    "make a fifo": lambda p: os.mkfifo(p / "inside/new"),
    "make a socket": lambda p: socket.socket(socket.AF_UNIX).bind(str(p / "inside/new")),
}


@pytest.mark.parametrize("what", FILES)
def test_what_no_rule_gives_is_denied(place: Path, what: str) -> None:
    assert confined(place, lambda: FILES[what](place)) in ("EACCES", "EXDEV", "PermissionError")
    assert quietly(lambda: FILES[what](place)) == ""


@pytest.mark.skipif(ABI < 3, reason="before Linux 6.2 truncating is not governed")
def test_truncating_counts_as_writing(place: Path) -> None:
    assert confined(place, lambda: os.truncate(place / "outside/note", 0)) == "EACCES"
    assert confined(place, lambda: os.truncate(place / "inside/note", 0)) == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="making a device needs root")
def test_no_device_is_made(place: Path) -> None:
    node = place / "inside/null"
    assert confined(place, lambda: os.mknod(node, 0o20666, os.makedev(1, 3))) == "EACCES"
    assert try_in_child(lambda: os.mknod(node, 0o20666, os.makedev(1, 3))) == ""


def test_what_is_given_works(place: Path) -> None:
    inside = place / "inside"

    def work() -> str:
        (inside / "sub/new").write_text("x")
        (inside / "sub/new").rename(inside / "sub/newer")
        (inside / "sub/newer").unlink()
        (inside / "sub").rmdir()
        return (inside / "note").read_text() + str(list_names(inside))

    assert confined(place, work) == "in['leading_out', 'note']"


def test_reading_gives_no_more(place: Path) -> None:
    outside = place / "outside"
    read = {"read": (outside,)}
    assert confined(place, (outside / "note").read_text, **read) == "out"
    assert confined(place, lambda: list_names(outside), **read) == "['fifo', 'note']"
    for attempt in (lambda: (outside / "note").write_text("x"), (outside / "new").touch, (outside / "note").unlink):
        assert confined(place, attempt, **read) == "EACCES"


def test_one_file_gives_that_file(place: Path) -> None:
    (place / "outside/other").write_text("other")
    read = {"read": (place / "outside/note",)}
    assert confined(place, (place / "outside/note").read_text, **read) == "out"
    assert confined(place, (place / "outside/other").read_text, **read) == "EACCES"


def test_a_link_stands_for_what_it_points_to(place: Path) -> None:
    (place / "link").symlink_to(place / "outside")
    assert confined(place, (place / "outside/note").read_text, read=(place / "link",)) == "out"


def test_a_writable_file_gives_nothing_beside_it(place: Path) -> None:
    note = place / "outside/note"
    rules = Rules(write=(note,))
    assert try_in_child(lambda: restrict(rules), lambda: note.write_text("new")) == "3"
    assert try_in_child(lambda: restrict(rules), (place / "outside/new").touch) == "EACCES"


def test_only_what_may_be_executed_is(place: Path) -> None:
    read, execute = (
        (Path("/usr"), Path("/lib"), Path("/lib64")),
        (Path("/bin/true"), Path("/lib64/ld-linux-x86-64.so.2")),
    )
    run = [lambda name=name: os.spawnv(os.P_WAIT, name, [name]) for name in ("/bin/true", "/bin/false")]
    assert confined(place, run[0], read=read, execute=execute) == "0"
    assert confined(place, run[1], read=read, execute=execute) == "127"
    assert try_in_child(run[1]) == "1"


def test_sockets_and_links_are_made_where_they_are_given(place: Path) -> None:
    outside = place / "outside"

    def bind() -> None:
        socket.socket(socket.AF_UNIX).bind(str(outside / "socket"))

    def link() -> None:
        (outside / "link").symlink_to("x")

    assert confined(place, link, sockets=(outside,)) == "EACCES"
    assert confined(place, bind, links=(outside,)) == "EACCES"
    assert confined(place, bind, sockets=(outside,)) == ""
    assert confined(place, link, links=(outside,)) == ""


def test_files_are_not_moved_between_directories(place: Path) -> None:
    inside = place / "inside"
    assert confined(place, lambda: (inside / "note").rename(inside / "sub/note")) == "EXDEV"


@pytest.mark.parametrize("kind", ["sockets", "links"])
def test_what_is_given_for_one_thing_gives_no_other(place: Path, kind: str) -> None:
    given = {kind: (place / "outside",)}
    for what in ("read", "read a directory", "write", "make a file", "remove a file", "make a directory"):
        assert confined(place, lambda what=what: FILES[what](place), **given) == "EACCES"


@pytest.mark.skipif(ABI < 4, reason="before Linux 6.7 the network is not governed")
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=lambda f: f.name)
def test_there_is_no_tcp(place: Path, family: int) -> None:
    host = "127.0.0.1" if family == socket.AF_INET else "::1"
    with socket.create_server((host, 0), family=family) as server:
        address = server.getsockname()[:2]
        assert confined(place, lambda: socket.socket(family).bind((host, 0))) == "EACCES"
        assert confined(place, lambda: socket.socket(family).connect(address)) == "EACCES"
        assert try_in_child(lambda: socket.socket(family).connect(address)) == ""


@pytest.mark.skipif(ABI < 4, reason="before Linux 6.7 the network is not governed")
def test_a_port_is_bound_only_where_the_kernel_picks_it() -> None:
    rules = Rules(bind_ephemeral_port=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert try_in_child(lambda: restrict(rules), lambda: socket.socket().bind(("127.0.0.1", 0))) == ""
    assert try_in_child(lambda: restrict(rules), lambda: socket.socket().bind(("127.0.0.1", port))) == "EACCES"
    assert quietly(lambda: socket.socket().bind(("127.0.0.1", port))) == ""


@pytest.mark.skipif(ABI < 6, reason="before Linux 6.12 abstract sockets and signals are not governed")
def test_an_abstract_socket_outside_is_out_of_reach(place: Path) -> None:
    name = f"\0garrison-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        server.listen()
        assert confined(place, lambda: socket.socket(socket.AF_UNIX).connect(name)) == "EPERM"
        assert try_in_child(lambda: socket.socket(socket.AF_UNIX).connect(name)) == ""


@pytest.mark.skipif(ABI < 6, reason="before Linux 6.12 abstract sockets and signals are not governed")
def test_a_process_outside_gets_no_signal(place: Path, neighbour: subprocess.Popen[bytes]) -> None:
    assert confined(place, lambda: os.kill(neighbour.pid, signal.SIGKILL)) == "EPERM"
    assert neighbour.poll() is None
    assert try_in_child(lambda: os.kill(neighbour.pid, signal.SIGKILL)) == ""
    assert neighbour.wait(CHILD_TIMEOUT_S) == -signal.SIGKILL


def trace(pid: int) -> None:
    if libc.ptrace(PTRACE_ATTACH, pid, None, None) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")
    os.waitpid(pid, 0x40000000)  # __WALL
    libc.ptrace(PTRACE_DETACH, pid, None, None)


PROCESS: dict[str, Callable[[int], object]] = {
    "ptrace": trace,
    "mem": lambda pid: os.close(os.open(f"/proc/{pid}/mem", os.O_RDONLY)),
    "cwd": lambda pid: Path(f"/proc/{pid}/cwd").readlink(),
    "root": lambda pid: Path(f"/proc/{pid}/root/etc/passwd").read_text(),
    "descriptors": lambda pid: Path(f"/proc/{pid}/fd/0").readlink(),
}


@pytest.mark.parametrize("what", PROCESS)
def test_a_process_outside_is_not_traced(place: Path, neighbour: subprocess.Popen[bytes], what: str) -> None:
    """Not even with /proc given, and by root with all its capabilities."""
    proc = {"read": (Path("/proc"),)}
    assert confined(place, lambda: PROCESS[what](neighbour.pid), **proc) in ("EACCES", "EPERM")
    assert quietly(lambda: PROCESS[what](neighbour.pid)) == ""


def test_the_environment_of_a_process_outside_is_safe_only_without_capabilities(
    place: Path, neighbour: subprocess.Popen[bytes]
) -> None:
    def read() -> str:
        return Path(f"/proc/{neighbour.pid}/environ").read_text().rstrip("\0")

    rules = Rules(read=(Path("/proc"),))
    assert try_in_child(read) == SECRET
    assert try_in_child(drop_capabilities, lambda: restrict(rules), read) == "EACCES"
    assert try_in_child(drop_capabilities, read) in (SECRET, "EACCES")  # EACCES: the other has capabilities, we do not


def test_what_a_restricted_process_starts_is_restricted(place: Path) -> None:
    execute = tuple(Path(path) for path in ("/bin", "/lib", "/lib64", "/usr"))
    command = ["/bin/cat", str(place / "outside/note")]
    assert confined(place, lambda: os.spawnv(os.P_WAIT, command[0], command), execute=execute) == "1"
    assert confined(place, lambda: os.spawnv(os.P_WAIT, "/bin/true", ["true"]), execute=execute) == "0"


def test_a_file_without_a_path_is_executed_all_the_same(place: Path) -> None:
    """Landlock's gap, which seccomp closes: an internal mount is not governed."""
    read = (Path("/usr"), Path("/lib"), Path("/lib64"))
    loader = (Path("/lib64/ld-linux-x86-64.so.2"),)
    program = Path("/bin/true").read_bytes()

    def run() -> int:
        file = os.memfd_create("program")
        os.write(file, program)
        return os.spawnv(os.P_WAIT, f"/proc/self/fd/{file}", ["true"])

    assert confined(place, run, read=read, execute=loader) == "0"


def test_a_second_domain_gives_nothing_back(place: Path) -> None:
    wider = Rules(write=(place,))
    assert confined(place, lambda: (restrict(wider), (place / "outside/note").read_text())) == "EACCES"


def test_an_open_descriptor_stays_usable(place: Path) -> None:
    """Why a cell closes what it inherited."""
    descriptor = os.open(place / "outside/note", os.O_RDONLY)
    try:
        assert confined(place, lambda: os.pread(descriptor, 9, 0)) == "b'out'"
    finally:
        os.close(descriptor)


def test_it_sets_no_new_privs(place: Path) -> None:
    status = {"read": (Path("/proc"),)}
    assert "NoNewPrivs:\t1" in confined(place, lambda: Path("/proc/self/status").read_text(), **status)


def test_a_path_that_is_missing_is_named(place: Path) -> None:
    missing = place / "missing"
    answer = confined(place, lambda: None, read=(missing,))
    assert answer == f"ConfigError: {missing}: cannot be given to a confined process (No such file or directory)"


def test_other_threads_are_refused(place: Path) -> None:
    """Landlock holds for the thread that asks; another one would stay free."""

    def restrict_with_a_thread() -> None:
        release = threading.Event()
        thread = threading.Thread(target=release.wait, daemon=True)
        thread.start()
        restrict(Rules())

    assert try_in_child(restrict_with_a_thread).startswith("Undecided: 2 threads run already")


def test_a_kernel_without_landlock_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "probe_abi", lambda: 0)
    with pytest.raises(ConfigError, match=r"no Landlock.*lsm="):
        restrict(Rules())


@pytest.mark.parametrize("abi", range(1, ABI + 1))
def test_an_older_kernel_s_form_is_taken(place: Path, monkeypatch: pytest.MonkeyPatch, abi: int) -> None:
    """The rights of every version up to this kernel's, each one enough to deny reading."""
    monkeypatch.setattr(landlock, "probe_abi", lambda: abi)
    assert confined(place, (place / "outside/note").read_text) == "EACCES"
    assert confined(place, (place / "inside/note").read_text) == "in"


@pytest.mark.parametrize("abi", range(1, ABI + 1))
def test_an_older_kernel_takes_the_rules_that_it_does_not_know(
    place: Path, monkeypatch: pytest.MonkeyPatch, abi: int
) -> None:
    """Each version refuses a rule with a right of a later one."""
    monkeypatch.setattr(landlock, "probe_abi", lambda: abi)
    inside = place / "inside"
    given: dict[str, tuple[Path, ...]] = dict.fromkeys(("sockets", "links"), (inside,))
    assert confined(place, (inside / "note").read_text, **given) == "in"
    assert confined(place, lambda: (inside / "note").rename(inside / "sub/note"), **given) == "EXDEV"


def test_the_kernel_s_refusal_is_told() -> None:
    with pytest.raises(Undecided, match=r"a step: Bad file descriptor \(EBADF\)"), contextlib.ExitStack():
        ctypes.set_errno(errno.EBADF)
        landlock._call("a step", -1)


@pytest.mark.parametrize(("abi", "gaps"), [(0, 7), (1, 6), (2, 6), (3, 5), (6, 2), (9, 1), (10, 0), (99, 0)])
def test_gaps_are_what_newer_kernels_govern(abi: int, gaps: int) -> None:
    assert len(list_gaps(abi)) == gaps
    assert not gaps or list_gaps(abi)[-1].startswith("UDP")
