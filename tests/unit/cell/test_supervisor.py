"""A worker in its cell, from the fork to the end: real processes, without TorchServe."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from celled import MEBIBYTE, read_status, run_celled, start_celled
from garrison.cell.settings import MOST_FILES

LIBC = "import ctypes; libc = ctypes.CDLL(None, use_errno=True)\n"
SERVE = "inside.start_serving()\n"


def attempt(code):
    """Wrap code so that it prints what came of it."""
    return (
        f"try:\n    {code}\n    print('done')\nexcept BaseException as error:\n    print(type(error).__name__, error)\n"
    )


def test_a_worker_works_and_ends(tmp_path):
    outcome = run_celled("print('hello')", tmp_path)
    assert (outcome.code, outcome.printed) == (0, ["hello"])
    assert outcome.status["ended"] == "exit status 0"
    assert outcome.status["violations"] == {}


def test_before_a_line_of_its_code_everything_was_tried(tmp_path):
    outcome = run_celled("print('hello')", tmp_path)
    (closed,) = outcome.named("cell_closed")
    assert outcome.events[0] == closed
    trials = outcome.status["posture"]["trials"]
    assert len(trials) > 40
    assert all(trial["held"] for trial in trials)


def test_its_working_directory_is_its_scratch_directory_and_is_left_to_the_launcher(tmp_path):
    outcome = run_celled("open('counts', 'w').write('x'); print(__import__('os').getcwd())", tmp_path)
    (scratch,) = (tmp_path / "tmp/workers").iterdir()
    assert outcome.printed == [str(scratch)]
    assert (scratch / "counts").read_text() == "x"
    assert scratch.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("code", "status", "ended"),
    [
        pytest.param("raise SystemExit(3)", 3, "exit status 3", id="exit"),
        pytest.param("1 / 0", 1, "exit status 1", id="error"),
        pytest.param("import os; os.abort()", 1, "signal 6", id="abort"),
        pytest.param("import ctypes; ctypes.string_at(0)", 1, "signal 11", id="crash"),
    ],
)
def test_how_it_ended_is_told(code, status, ended, tmp_path):
    outcome = run_celled(code, tmp_path)
    assert (outcome.code, outcome.status["ended"]) == (status, ended)


# --- system calls ---------------------------------------------------------------------------------------------------


def test_a_forbidden_call_fails_while_loading_and_is_counted_by_name(tmp_path):
    outcome = run_celled(attempt("import socket; socket.socket()") + "print(inside.ask_denied())", tmp_path)
    assert outcome.printed == ["PermissionError [Errno 1] Operation not permitted", "['socket']"]
    assert outcome.status["violations"] == {"loading/socket": 1}
    (event,) = outcome.named("violation")
    assert (event["call"], event["stage"], event["model"]) == ("socket", "loading", "mine")


def test_an_attack_while_serving_ends_the_worker(tmp_path):
    outcome = run_celled(SERVE + attempt("import socket; socket.socket()"), tmp_path)
    assert (outcome.code, outcome.printed) == (1, [])
    assert outcome.status["ended"] == "it called socket"
    assert outcome.status["violations"] == {"serving/socket": 1}


def test_by_policy_it_only_fails(tmp_path):
    outcome = run_celled(SERVE + attempt("import socket; socket.socket()"), tmp_path, on_violation="fail")
    assert outcome.printed == ["PermissionError [Errno 1] Operation not permitted"]
    assert outcome.status["violations"] == {"serving/socket": 1}


def test_what_is_no_attack_fails_and_is_counted(tmp_path):
    outcome = run_celled(SERVE + attempt("import os; os.setpriority(os.PRIO_PROCESS, 0, 1)"), tmp_path)
    assert outcome.printed == ["PermissionError [Errno 1] Operation not permitted"]
    assert outcome.status["violations"] == {"serving/setpriority": 1}


def test_what_only_loading_needs_is_over_after_loading(tmp_path):
    code = "import os\n" + attempt("os.sched_setaffinity(0, os.sched_getaffinity(0))")
    outcome = run_celled(code + SERVE + code, tmp_path)
    assert outcome.printed == ["done", "PermissionError [Errno 1] Operation not permitted"]


@pytest.mark.parametrize(
    "place", ["self/net/unix", "self/task/{os.getpid()}/net/unix", "self/mounts", "{os.getppid()}/stat", "uptime"]
)
def test_of_other_processes_and_the_machine_proc_tells_nothing(place, tmp_path):
    outcome = run_celled("import os\n" + attempt(f"open(f'/proc/{place}')"), tmp_path)
    assert outcome.printed[0].startswith("PermissionError [Errno 13] Permission denied")


def test_calls_without_a_name_share_one_and_are_counted(tmp_path):
    """There are a billion numbers: a name for each would fill the log, the supervisor and its status file."""
    code = LIBC + "print(libc.syscall(999), ctypes.get_errno())\nfor n in range(1000, 3000): libc.syscall(n)"
    outcome = run_celled(code, tmp_path)
    assert outcome.printed == ["-1 1"]
    assert outcome.status["violations"] == {"loading/unknown": 2001}
    assert len(outcome.named("violation")) == 11


def test_a_loop_of_violations_does_not_fill_the_log(tmp_path):
    outcome = run_celled(LIBC + "for _ in range(1000): libc.getsid(0)", tmp_path)
    assert outcome.status["violations"] == {"loading/getsid": 1000}
    assert len(outcome.named("violation")) == 10  # 1, 2, 4 ... 512


def test_only_this_thread_moves_to_other_processors(tmp_path):
    outcome = run_celled("import os\n" + attempt("os.sched_setaffinity(os.getppid(), {0})"), tmp_path)
    assert outcome.status["violations"] == {"loading/sched_setaffinity": 1}


def test_clone3_is_answered_so_that_the_c_library_falls_back(tmp_path):
    code = LIBC + "print(libc.syscall(435, 0, 0), ctypes.get_errno())\nimport threading\n"
    code += "thread = threading.Thread(target=print, args=('thread',)); thread.start(); thread.join()"
    outcome = run_celled(code, tmp_path)
    assert outcome.printed == ["-1 38", "thread"]
    assert outcome.status["violations"] == {}


# --- limits ---------------------------------------------------------------------------------------------------------

THREADS = """
import threading
gate, count = threading.Event(), 0
try:
    while count < 200:
        threading.Thread(target=gate.wait, daemon=True).start()
        count += 1
except RuntimeError as error:
    print(error)
print(count)
"""


def test_there_are_no_more_threads_than_the_settings_say(tmp_path):
    outcome = run_celled(THREADS, tmp_path, threads=16)
    assert outcome.printed == ["can't start new thread", "15"]
    assert outcome.status["violations"] == {}


def test_there_are_no_more_files_than_the_settings_say(tmp_path):
    code = "for n in range(100):\n    try: open(f'f{n}', 'w')\n    except OSError as e: print(n, e.strerror); break"
    assert run_celled(code, tmp_path, scratch_max_files=16).printed == ["16 No space left on device"]
    code = code.replace("open(f'f{n}', 'w')", "__import__('os').mkdir(f'f{n}')")
    assert run_celled(code, tmp_path, scratch_max_files=16).printed == ["16 No space left on device"]


def test_as_many_files_as_may_be_allowed_are_really_allowed(tmp_path):
    """The supervisor holds all of them, and starts with as few descriptors as a login gives."""
    code = f"for n in range({MOST_FILES}): open(f'f{{n}}', 'w').close()\nprint('made')"
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    try:
        outcome = run_celled(code, tmp_path, scratch_max_files=MOST_FILES)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert outcome.printed == ["made"]


def test_a_file_ends_at_the_bound_of_scratch(tmp_path):
    code = "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nf = open('big', 'wb', 0)\n"
    code += attempt("[f.write(bytes(2**20)) for _ in range(64)]")
    outcome = run_celled(code, tmp_path, scratch_max_bytes=4 * MEBIBYTE)
    assert outcome.printed == ["OSError [Errno 27] File too large"]


def test_a_full_scratch_directory_takes_no_new_file(tmp_path):
    code = "for n in range(16):\n    try: open(f'f{n}', 'wb').write(bytes(2**20))\n"
    code += "    except OSError as e: print(n, e.strerror); break"
    outcome = run_celled(code, tmp_path, scratch_max_bytes=4 * MEBIBYTE)
    assert outcome.printed == ["4 No space left on device"]


def test_a_worker_whose_files_grow_beyond_the_bound_is_ended(tmp_path):
    code = "import time\nfiles = [open(f'f{n}', 'wb') for n in range(16)]\n"
    code += "for file in files:\n    file.write(bytes(2**20))\ntime.sleep(60)"
    outcome = run_celled(code, tmp_path, scratch_max_bytes=4 * MEBIBYTE)
    assert len(outcome.named("scratch_full")) == 1
    assert outcome.status["ended"].startswith("wrote ")


def test_files_without_a_name_count_while_they_are_open(tmp_path):
    code = """
import os, time
held = []
for number in range(16):
    held.append(open(f"f{number}", "wb", 0))
    os.unlink(f"f{number}")
    held[-1].write(bytes(2**20))
time.sleep(60)
"""
    outcome = run_celled(code, tmp_path, scratch_max_bytes=4 * MEBIBYTE)
    assert outcome.status["ended"].startswith(("wrote ", "exit status 1"))  # ended, or refused the next file
    assert outcome.status["scratch_bytes"] < 8 * MEBIBYTE


def test_files_without_a_name_count_while_they_are_mapped(tmp_path):
    code = """
import mmap, os
held = []
for number in range(16):
    with open(f"f{number}", "w+b", 0) as file:
        file.write(bytes(2**20))
        held.append(mmap.mmap(file.fileno(), 2**20, flags=mmap.MAP_PRIVATE))
    os.unlink(f"f{number}")
"""
    outcome = run_celled(code, tmp_path, scratch_max_bytes=4 * MEBIBYTE)
    assert "OSError: [Errno 28] No space left on device" in outcome.printed[-1] or outcome.named("scratch_full")


def test_temporary_files_that_are_closed_are_forgotten(tmp_path):
    code = """
import tempfile
for _ in range(200):
    with tempfile.TemporaryFile() as file:
        file.write(bytes(2**20))
print("done")
"""
    outcome = run_celled(code, tmp_path, scratch_max_bytes=4 * MEBIBYTE, scratch_max_files=16)
    assert outcome.printed == ["done"]


def test_memory_has_a_bound_that_the_worker_is_told(tmp_path):
    outcome = run_celled(attempt("bytearray(2**31)"), tmp_path, memory_bytes=512 * MEBIBYTE)
    assert outcome.printed == ["MemoryError "]


def test_memory_that_is_shared_is_no_way_around_it(tmp_path):
    outcome = run_celled(attempt("import mmap; mmap.mmap(-1, 4096)"), tmp_path)
    assert outcome.printed == ["PermissionError [Errno 1] Operation not permitted"]


FILL = """
import ctypes, threading, time
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
def fill():
    for n in range(64):
        address = libc.mmap(None, 2**25, 3, 0x22, -1, 0)
        ctypes.memset(address, 1, 2**25)
        libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(2**25), 1)
        time.sleep(0.05)
    print("holds 2 GiB", flush=True)
"""


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("fill()", id="the-first-thread"),
        pytest.param(
            "threading.Thread(target=fill).start()\nlibc.syscall(ctypes.c_long(60), ctypes.c_long(0))",
            id="another-when-the-first-has-ended",
        ),
    ],
)
def test_memory_that_no_limit_counts_any_more_is_seen_by_the_supervisor(code, tmp_path):
    """RLIMIT_DATA counts what can be written now; what was written and is only readable since, it forgets."""
    outcome = run_celled(FILL + code, tmp_path, memory_bytes=512 * MEBIBYTE)
    assert outcome.printed == []
    assert outcome.status["ended"].startswith("holds ")


PAGE_TABLES = """
import ctypes, time
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
address = libc.mmap(None, 2**39, 1, 0x4022, -1, 0)
for place in range(address, address + 2**39, 2**21):
    ctypes.c_char.from_address(place).value
time.sleep(1)
print("holds 1 GiB of page tables", flush=True)
"""


def test_the_tables_of_memory_that_is_only_read_count_as_memory(tmp_path):
    outcome = run_celled(PAGE_TABLES, tmp_path, memory_bytes=512 * MEBIBYTE)
    assert outcome.printed == []
    assert outcome.status["ended"].startswith("holds ")


def test_a_stack_of_any_size_is_no_way_around_it(tmp_path):
    code = LIBC + "libc.mmap(None, ctypes.c_size_t(2**31), 3, 0x122, -1, 0); print(ctypes.get_errno())"
    outcome = run_celled(code, tmp_path)
    assert (outcome.printed, outcome.status["violations"]) == (["1"], {"loading/mmap": 1})


@pytest.mark.parametrize(
    "call", [pytest.param("send(b'x', socket.MSG_OOB)", id="send"), pytest.param("recv(1, socket.MSG_OOB)", id="recv")]
)
def test_what_sockets_can_do_besides_is_forbidden(call, tmp_path):
    """Urgent data, CVE-2025-38236: a way from two allowed calls into the kernel."""
    outcome = run_celled("import socket\n" + attempt(f"inside._control.{call}"), tmp_path)
    assert outcome.printed == ["PermissionError [Errno 1] Operation not permitted"]


# --- what a worker may say --------------------------------------------------------------------------------------------


def test_it_cannot_speak_for_another_gate_or_model(tmp_path):
    forged = {"gate": "cell", "event": "violation", "model": "other", "call": "nothing"}
    outcome = run_celled(f"print({json.dumps(forged)!r})\nprint('[PID]1')", tmp_path)
    assert {event["model"] for event in outcome.events} == {"mine"}
    assert outcome.named("violation") == []


@pytest.mark.parametrize(
    "message",
    [
        pytest.param("'closed', {'trials': []}", id="a-posture"),
        pytest.param("'prepared'", id="prepared"),
        pytest.param("'closing'", id="no-message"),
        pytest.param("['x'], 5", id="no-text"),
    ],
)
def test_no_message_gives_it_anything(message, tmp_path):
    outcome = run_celled(f"inside.tell({message})\n" + attempt("import socket; socket.socket()"), tmp_path)
    assert outcome.status["violations"] == {"loading/socket": 1}
    assert all(trial["held"] for trial in outcome.status["posture"]["trials"])


def test_garbage_on_the_line_to_the_supervisor_changes_nothing(tmp_path):
    code = "c = inside._control\nfor data in (b'\\xff', b'[', b'{}', b'[[' * 9000, b''.ljust(60000)): c.send(data)\n"
    outcome = run_celled(code + attempt("import socket; socket.socket()"), tmp_path)
    assert (outcome.code, outcome.status["violations"]) == (0, {"loading/socket": 1})


@pytest.mark.parametrize("call", ["send_fds(inside._control, [b'x'], [0])", "recv_fds(inside._control, 1, 1)"])
def test_no_descriptor_comes_or_goes_once_there_is_a_model(call, tmp_path):
    """Those on their way count for all of a user's processes: a worker that floods them lets no other start."""
    outcome = run_celled("import socket\n" + attempt(f"socket.{call}"), tmp_path)
    assert outcome.printed == ["PermissionError [Errno 1] Operation not permitted"]


def test_nothing_gets_the_number_by_which_descriptors_passed(tmp_path):
    code = "import fcntl\nfor n in (0, 255, 256, 300):\n    try: print(fcntl.fcntl(1, fcntl.F_DUPFD, n) < 256)\n"
    outcome = run_celled(code + "    except OSError as error: print(error.strerror)", tmp_path)
    assert outcome.printed == ["True", "True", "Invalid argument", "Invalid argument"]


def test_of_what_the_supervisor_had_open_nothing_is_left(tmp_path):
    """Standard input is /dev/null; then the two outputs, and the line to the supervisor; the rest only has a name."""
    code = "import os\nfor n in range(3, 300):\n    try: flags = __import__('fcntl').fcntl(n, 3)\n"
    code += (
        "    except OSError: continue\n    if not flags & os.O_PATH: print(n)\nprint(os.readlink('/proc/self/fd/0'))"
    )
    printed = run_celled(code, tmp_path).printed
    assert printed[-1] == "/dev/null"
    assert len(printed) == 2


def test_a_server_that_reads_nothing_is_no_reason_to_look_away(tmp_path):
    """Whoever is slow to read the log must not switch off what watches the workers, nor what answers their calls."""
    talking = "threading.Thread(target=lambda: [print('x' * 1000, flush=True) for _ in range(10**6)], daemon=True)"
    code = f"{FILL}{talking}.start()\ntime.sleep(1)\n{SERVE}fill()"
    with start_celled(code, tmp_path, memory_bytes=512 * MEBIBYTE) as process:
        try:
            process.wait(30)
        finally:
            process.kill()
    assert read_status(tmp_path)["ended"].startswith("holds ")


def test_a_status_that_cannot_be_written_ends_nobody_and_is_told_once(tmp_path):
    """A full disk of the launcher's is no fault of this worker's."""
    code = "import time; time.sleep(1); inside.start_serving(); time.sleep(1); print('still here')"
    with start_celled(code, tmp_path) as process:
        deadline = time.monotonic() + 20
        while read_status(tmp_path).get("stage") != "loading":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        (tmp_path / "cells").rename(tmp_path / "elsewhere")
        events = [json.loads(line) for line in process.stdout]
        assert process.wait(30) == 0
    assert [event["message"] for event in events if event["event"] == "output"] == ["still here"]
    assert [event["event"] for event in events].count("status_failed") == 1


# --- together until death -------------------------------------------------------------------------------------------


def wait_for_end(pid, timeout_s=10):
    deadline = time.monotonic() + timeout_s
    while Path(f"/proc/{pid}").exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.fixture
def waiting(tmp_path):
    """A worker that waits, under a supervisor that runs; and where its status is."""
    with start_celled("import time; time.sleep(60)", tmp_path) as process:
        deadline = time.monotonic() + 20
        while (status := read_status(tmp_path)).get("stage") != "loading":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield process, status["pid"]
        process.kill()


def test_the_worker_ends_when_its_supervisor_is_killed(waiting):
    process, worker = waiting
    process.kill()
    assert wait_for_end(worker)


def test_the_worker_ends_when_its_supervisor_is_asked_to(waiting):
    process, worker = waiting
    process.send_signal(signal.SIGTERM)
    process.wait(20)
    assert wait_for_end(worker)


def test_the_worker_ends_when_the_server_s_end_of_the_pipe_closes(waiting):
    process, worker = waiting
    process.stdin.close()
    assert process.wait(20) == 1
    assert wait_for_end(worker)


def test_the_supervisor_ends_when_its_worker_is_killed(waiting, tmp_path):
    process, worker = waiting
    os.kill(worker, signal.SIGKILL)
    process.wait(20)
    assert read_status(tmp_path)["ended"] == "signal 9"


def test_a_supervisor_imports_no_torch():
    """It starts before every worker, and stays: what it imports costs each worker time, and trust."""
    code = "import garrison.torchserve.celled, sys; print(sorted({'torch', 'numpy', 'yaml', 'ts'} & {*sys.modules}))"
    told = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "[]\n"
