"""A process that gave something up cannot take it back, whether it was root or not."""

import json
import os
import resource
import signal
import subprocess
import sys
import textwrap

import pytest

PATIENCE_S = 60
NOBODY = 65534
USERS = [
    pytest.param(None, id="this user"),
    pytest.param(NOBODY, id="nobody", marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes nobody")),
]


def run(code: str, *, user: int | None = None, **options) -> subprocess.CompletedProcess:
    """Run code in a process of its own, as another user only after the imports: root's Python may be hidden from it."""
    become = "" if user is None else f"os.setgroups([]); os.setgid({user}); os.setuid({user})"
    source = f"from garrison.cell import limits\nimport ctypes, json, os, resource\n{become}\n{textwrap.dedent(code)}"
    command = [sys.executable, "-I", "-c", source]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE_S, **options)


def result_of(code: str, **options):
    """Run code that prints one JSON value, and return the value."""
    done = run(code, **options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("user", USERS)
def test_limits_are_as_said_and_cannot_be_raised(user):
    code = """
    limits.set_limits(2**30, 32, 2**20)
    names = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    print(json.dumps({name: resource.getrlimit(getattr(resource, name)) for name in names}))
    """
    found = result_of(code, user=user)
    assert found["RLIMIT_DATA"] == [2**30, 2**30]
    assert found["RLIMIT_FSIZE"] == [2**20, 2**20]
    assert found["RLIMIT_NOFILE"] == [256, 256]
    assert found["RLIMIT_CORE"] == found["RLIMIT_MSGQUEUE"] == found["RLIMIT_RTPRIO"] == [0, 0]
    assert all(found[name][0] == found[name][1] for name in ("RLIMIT_STACK", "RLIMIT_MEMLOCK", "RLIMIT_NPROC"))


def test_a_lower_hard_limit_stays():
    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 120))

    code = "limits.set_limits(2**30, 32, 2**20); print(json.dumps(resource.getrlimit(resource.RLIMIT_NOFILE)))"
    assert result_of(code, preexec_fn=lower) == [120, 120]


def test_private_memory_beyond_the_limit_is_a_memory_error():
    code = """
    limits.set_limits(2**30, 32, 2**20)
    held = bytearray(2**28)
    try:
        bytearray(2**30)
    except MemoryError:
        print(json.dumps(len(held)))
    """
    assert result_of(code) == 2**28


def test_a_file_beyond_the_limit_is_an_error_and_no_signal(tmp_path):
    code = f"""
    limits.set_limits(2**30, 32, 2**20)
    file = open({str(tmp_path / "file")!r}, "wb", buffering=0)
    written = file.write(bytes(2**21))
    try:
        file.write(b"x")
    except OSError as error:
        print(json.dumps([written, error.errno == 27]))
    """
    assert result_of(code) == [2**20, True]


@pytest.mark.parametrize("user", USERS)
def test_dropped_capabilities_are_gone_from_every_set(user):
    code = """
    limits.drop_capabilities()
    lines = dict(line.split(":") for line in open("/proc/thread-self/status").read().splitlines())
    print(json.dumps({name: int(value, 16) for name, value in lines.items() if name.startswith("Cap")}))
    """
    found = result_of(code, user=user)
    assert found["CapEff"] == found["CapPrm"] == found["CapInh"] == found["CapAmb"] == 0
    assert found["CapBnd"] == 0 or user is not None or os.geteuid() != 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has capabilities to give up")
def test_root_without_capabilities_reads_no_one_elses_file(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    file.chmod(0)
    os.chown(file, NOBODY, NOBODY)
    code = f"""
    before = open({str(file)!r}).read()
    limits.drop_capabilities()
    try:
        open({str(file)!r})
    except PermissionError:
        print(json.dumps([before, limits.read_capabilities()]))
    """
    assert result_of(code) == ["", 0]


def test_no_new_privs_and_undumpable_are_in_force():
    code = """
    limits.set_no_new_privs()
    limits.set_undumpable()
    libc = ctypes.CDLL(None)
    print(json.dumps([libc.prctl(39, 0, 0, 0, 0), libc.prctl(3, 0, 0, 0, 0)]))
    """
    assert result_of(code) == [1, 0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes nobody")
def test_another_process_of_the_user_cannot_read_an_undumpable_one():
    code = """
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # a change of user made it undumpable
    pid = os.getpid()
    reader, writer = os.pipe()
    before = open(f"/proc/{pid}/environ").read() is not None
    limits.set_undumpable()
    if os.fork() == 0:
        try:
            open(f"/proc/{pid}/environ").read()
            os.write(writer, b"read")
        except PermissionError:
            os.write(writer, b"refused")
        os._exit(0)
    print(json.dumps([before, os.read(reader, 10).decode()]))
    """
    assert result_of(code, user=NOBODY) == [True, "refused"]


@pytest.mark.parametrize("close_range", [True, False], ids=["close_range", "a kernel without it"])
def test_every_descriptor_but_those_kept_is_closed(close_range):
    code = f"""
    if not {close_range}:
        limits._close_range = lambda first, last: False
    os.dup2(2, 900)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    files = [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]
    limits.close_descriptors([0, 1, 2, files[3], files[4], files[9], -1])
    left = [number for number in range(1024) if os.path.exists("/proc/self/fd/%d" % number)]
    print(json.dumps(left == [0, 1, 2, files[3], files[4], files[9]]))
    """
    assert result_of(code) is True


def test_a_process_dies_with_its_parent():
    code = """
    import time
    parent = os.getpid()
    ready, told = os.pipe()
    if os.fork() == 0:
        limits.die_with_parent(parent)
        os.write(told, b"x")
        while True:
            time.sleep(60)
    os.read(ready, 1)
    os.kill(parent, 9)
    """
    done = run(code)  # would wait for the child, which holds standard output open, until it is killed itself
    assert done.returncode == -signal.SIGKILL


def test_a_process_whose_parent_is_gone_already_says_so():
    code = """
    from garrison.errors import Undecided
    try:
        limits.die_with_parent(os.getppid() + 1)
    except Undecided as error:
        print('"' + str(error).split()[-1] + '"')
    """
    assert result_of(code) == "ended"
