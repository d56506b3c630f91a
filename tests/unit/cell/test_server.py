"""The start of the server's cell: a file and a command enter, the command runs confined, or nothing runs."""

import ctypes
import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from garrison.cell import seccomp
from garrison.cell.landlock import Rules
from garrison.cell.seccomp import ALLOW, NOTIFY, Condition, Rule
from garrison.cell.server import ServerCell, enclose, read_places, write_places
from garrison.cell.server_calls import DENIED, make_server_rules
from garrison.cell.syscalls import NUMBERS
from garrison.errors import ConfigError
from lacking import LANDLOCK, SECCOMP, lack

SYSTEM = tuple(Path(path) for path in ("/usr", "/lib", "/lib64", "/proc"))
LIBC = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """The places of a cell in which `/bin` may be executed and `work` written to."""
    (tmp_path / "work").mkdir()
    rules = Rules(read=SYSTEM, execute=(Path("/bin"), Path("/lib64/ld-linux-x86-64.so.2")), write=(tmp_path / "work",))
    write_places(ServerCell(rules), tmp_path / "places.json")
    return tmp_path / "places.json"


def run(places: Path, *command: str, before: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    line = [*before, *enclose(command, places)]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    cell = ServerCell(Rules(read=SYSTEM, links=SYSTEM[:1], bind_ephemeral_port=True), ("seccomp",))
    write_places(cell, tmp_path / "places.json")
    assert read_places(tmp_path / "places.json") == cell


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"rules": {}}', '{"rules": {"everything": ["/"]}, "unsafe_without": [], "limits": {}}',
     '{"rules": [], "unsafe_without": [], "limits": {}}',
     '{"rules": {"read": [1]}, "unsafe_without": [], "limits": {}}',
     '{"rules": {}, "unsafe_without": 1, "limits": {}}'],
)  # fmt: skip
def test_what_is_no_cell_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "places.json").write_text(text)
    with pytest.raises(ConfigError, match=r"places\.json: cannot be read"):
        read_places(tmp_path / "places.json")


def test_the_command_runs_in_the_same_process_without_privileges(places: Path) -> None:
    with subprocess.Popen(enclose(["/bin/cat", "/proc/self/status"], places), stdout=subprocess.PIPE, text=True) as cat:
        told, _ = cat.communicate(timeout=60)
    status = dict(line.split(":\t", 1) for line in told.splitlines() if ":\t" in line)
    assert (status["Name"], int(status["Pid"])) == ("cat", cat.pid)
    assert (status["Seccomp"], status["NoNewPrivs"], int(status["CapEff"], 16)) == ("2", "1", 0)


def test_its_exit_status_and_its_output_are_the_command_s(places: Path) -> None:
    result = run(places, "/bin/sh", "-c", "echo here; echo there >&2; exit 7")
    assert (result.returncode, result.stdout, result.stderr) == (7, "here\n", "there\n")


def test_it_inherits_no_descriptor(places: Path) -> None:
    with Path("/etc/passwd").open() as secret:
        os.set_inheritable(secret.fileno(), True)
        command = enclose(["/bin/ls", "/proc/self/fd"], places)
        listed = subprocess.run(command, capture_output=True, text=True, close_fds=False, timeout=60, check=True)
    assert listed.stdout.split() == ["0", "1", "2", "3"]  # the last one is the directory that it lists


def test_it_writes_only_where_it_may(places: Path, tmp_path: Path) -> None:
    assert run(places, "/bin/mkdir", str(tmp_path / "work/file")).returncode == 0
    assert "Permission denied" in run(places, "/bin/mkdir", str(tmp_path / "file")).stderr


def test_without_a_part_that_the_kernel_lacks_and_may_lack_the_other_holds(places: Path, tmp_path: Path) -> None:
    values = json.loads(places.read_text())
    places.write_text(json.dumps({**values, "unsafe_without": ["landlock"]}))
    assert run(places, "/bin/mkdir", str(tmp_path / "free"), before=lack(LANDLOCK)).returncode == 0
    assert run(places, "/bin/chmod", "755", str(tmp_path / "work"), before=lack(LANDLOCK)).returncode != 0
    places.write_text(json.dumps({**values, "unsafe_without": ["seccomp"]}))
    assert "Permission denied" in run(places, "/bin/mkdir", str(tmp_path / "denied"), before=lack(SECCOMP)).stderr
    assert run(places, "/bin/chmod", "755", str(tmp_path / "work"), before=lack(SECCOMP)).returncode == 0
    assert run(places, "/bin/true", before=lack(LANDLOCK)).returncode == 78


def test_what_may_be_missing_and_is_there_is_used(places: Path, tmp_path: Path) -> None:
    values = json.loads(places.read_text())
    places.write_text(json.dumps({**values, "unsafe_without": ["landlock", "seccomp"]}))
    assert "Permission denied" in run(places, "/bin/mkdir", str(tmp_path / "denied")).stderr
    assert run(places, "/bin/chmod", "755", str(tmp_path / "work")).returncode != 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "usage: "),
        (["PLACES"], "usage: "),
        (["PLACES", "/bin/true"], "usage: "),
        (["PLACES", "--"], "usage: "),
        (["/nowhere.json", "--", "/bin/true"], "/nowhere.json: cannot be read"),
        (["PLACES", "--", "/bin/nothing"], "/bin/nothing cannot be executed (No such file or directory)"),
        (["PLACES", "--", "/usr/share"], "/usr/share cannot be executed (Permission denied)"),
    ],
)
def test_nothing_starts_if_something_is_wrong(places: Path, arguments: list[str], told: str) -> None:
    given = [str(places) if argument == "PLACES" else argument for argument in arguments]
    command = [sys.executable, "-I", "-m", "garrison.cell.server", *given]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stdout) == (78, "")
    assert result.stderr.startswith(f"the server's cell: {told}")


def test_a_place_that_is_missing_is_named(tmp_path: Path) -> None:
    write_places(ServerCell(Rules(read=(tmp_path / "gone",))), tmp_path / "places.json")
    result = run(tmp_path / "places.json", "/bin/true")
    assert (result.returncode, result.stdout) == (78, "")
    assert f"{tmp_path / 'gone'}: cannot be given to a confined process" in result.stderr


def call(name: str, *arguments: int) -> int:
    values = [ctypes.c_ulong(value) for value in (*arguments, *[2**64 - 1] * (6 - len(arguments)))]
    return 0 if LIBC.syscall(ctypes.c_long(NUMBERS[name]), *values) >= 0 else ctypes.get_errno()


def under_the_filter(name: str, *arguments: int) -> int:
    """Make a system call in a child under the server's filter; return the errno."""
    pid = os.fork()
    if pid == 0:
        status = 255
        try:
            LIBC.prctl(38, 1, 0, 0, 0)
            seccomp.install(seccomp.assemble(make_server_rules(), ALLOW))
            status = call(name, *arguments)
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("name", DENIED)
def test_a_denied_call_does_not_reach_the_kernel(name: str) -> None:
    assert under_the_filter(name) == errno.ENOSYS


STREAM_FLAGS = 1 | 0o2000000 | 0o4000  # SOCK_STREAM, SOCK_CLOEXEC, SOCK_NONBLOCK


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("getppid", (), 0),
        ("kill", (0, 0), 0),
        ("socket", (1, STREAM_FLAGS, 0), 0),
        ("socket", (1, 5, 0), 0),
        ("socket", (2, STREAM_FLAGS, 0), 0),
        ("socket", (10, 1, 6), 0),
        ("socket", (2, 2, 0), errno.ENOSYS),
        ("socket", (10, 2, 17), errno.ENOSYS),
        ("socket", (2, 3, 6), errno.ENOSYS),
        ("socket", (2, 1, 262), errno.ENOSYS),
        ("socket", (2, 1, 132), errno.ENOSYS),
        ("socket", (16, 3, 0), errno.ENOSYS),
        ("sendto", (2**32 - 1, 0, 0, 0), errno.EBADF),
        ("sendto", (2**32 - 1, 0, 0, 0x20000000), errno.EPERM),
        ("sendmsg", (2**32 - 1, 0, 0x20004000), errno.EPERM),
        ("sendmmsg", (2**32 - 1, 0, 0, 0x20000000), errno.EPERM),
        ("ioctl", (0, 0x5412, 0), errno.EPERM),
        ("ioctl", (2**32 - 1, 0x5413, 0), errno.EBADF),
        ("prlimit64", (0, 7, 0, 0), 0),
        ("prlimit64", (1, 7, 0, 0), 0),
        ("prlimit64", (1, 7, 1, 0), errno.ENOSYS),
        ("openat", (2**32 - 1, 0, os.O_RDONLY | os.O_CLOEXEC), errno.EFAULT),
        ("openat", (2**32 - 1, 0, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), errno.EFAULT),
        ("openat", (2**32 - 1, 0, os.O_RDONLY | os.O_TRUNC), errno.ENOSYS),
        ("openat", (2**32 - 1, 0, os.O_RDONLY | os.O_TRUNC | os.O_CLOEXEC), errno.ENOSYS),
        ("openat", (2**32 - 1, 0, os.O_ACCMODE), errno.ENOSYS),
        ("open", (0, os.O_RDWR | os.O_TRUNC), errno.EFAULT),
        ("open", (0, os.O_RDONLY | os.O_TRUNC), errno.ENOSYS),
        ("clone3", (), errno.ENOSYS),
        ("clone", (0x10000000 | 17, 0, 0, 0, 0), errno.ENOSYS),
        ("clone", (0x00020000 | 17, 0, 0, 0, 0), errno.ENOSYS),
        ("clone", (0x40000000 | 17, 0, 0, 0, 0), errno.ENOSYS),
    ],
)
def test_arguments_decide(name: str, arguments: tuple[int, ...], expected: int) -> None:
    told = under_the_filter(name, *arguments)
    if (name, expected) == ("prlimit64", 0) and os.geteuid() != 0:
        assert told in (0, errno.EPERM)  # the first process belongs to somebody else
    else:
        assert told == expected


def test_threads_and_processes_are_started(places: Path) -> None:
    script = (
        "import os, threading as t; a = t.Timer(0, print, ['thread']); a.start(); a.join(); os.system('echo child')"
    )
    values = json.loads(places.read_text())
    values["rules"]["read"].append(sys.base_prefix)
    values["rules"]["execute"] += [sys.executable, "/bin/sh"]
    places.write_text(json.dumps(values))
    result = run(places, os.path.realpath(sys.executable), "-I", "-c", script)
    assert sorted(result.stdout.split()) == ["child", "thread"], result.stderr


def test_a_supervisor_below_is_told_of_what_the_server_s_filter_refuses() -> None:
    """An error from the outer filter would go before the notification, and a worker's violations uncounted."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, watch_one_call().encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(pid, 0)
    with os.fdopen(reading) as told:
        assert told.read() == f"unshare {errno.EPERM}"


def watch_one_call() -> str:
    LIBC.prctl(38, 1, 0, 0, 0)
    seccomp.install(seccomp.assemble(make_server_rules(), ALLOW))
    listener = seccomp.install_with_listener(seccomp.assemble([Rule("unshare", NOTIFY, (Condition(0, 0),))], ALLOW))
    answers: list[int] = []
    thread = threading.Thread(target=lambda: answers.append(call("unshare", 0)))
    thread.start()
    notification = seccomp.receive(listener)
    assert notification is not None
    seccomp.refuse(listener, notification, errno.EPERM)
    thread.join()
    return f"{notification.call} {answers[0]}"
