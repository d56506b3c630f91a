"""What a custom handler may use of Python's standard library, numpy and torch once its worker is sealed, and what not.

Each piece of code runs sealed, in a cell of its own. A piece that works has no system call forbidden; one that does
not fails with an exception, and is counted by the call's name.
"""

import json
import os
import signal
import time

import pytest

from celled import MEBIBYTE, read_status, run_celled, start_celled

WORKS = {
    "tempfile": """
import tempfile
with tempfile.TemporaryDirectory() as directory, tempfile.TemporaryFile() as unnamed:
    with tempfile.NamedTemporaryFile(dir=directory) as named:
        named.write(b"x"); unnamed.write(b"x")
    with tempfile.SpooledTemporaryFile(max_size=2) as spooled:
        spooled.write(b"xxxx")
""",
    "files": """
import os, pathlib, shutil
pathlib.Path("one").write_bytes(b"x" * 100_000)
shutil.copyfile("one", "two")
os.replace("two", "three")
with open("three", "r+b") as file:
    file.truncate(10); file.seek(5); file.write(b"y"); file.flush(); os.fsync(file.fileno())
os.makedirs("a/b"); open("a/b/c", "w").close(); list(pathlib.Path().rglob("*")); shutil.rmtree("a")
os.path.realpath("one"); os.access("one", os.W_OK); shutil.disk_usage("."); os.unlink("one")
""",
    "memory map": """
import numpy
mapped = numpy.memmap("mapped", dtype="f4", mode="w+", shape=(1000,))
mapped[:] = 1; mapped.flush()
numpy.save("saved.npy", numpy.zeros(10)); numpy.load("saved.npy", mmap_mode="r"); numpy.fromfile("mapped", "f4")
""",
    "database": """
import sqlite3
with sqlite3.connect("database") as database:
    database.execute("create table t (a)"); database.execute("insert into t values (1)")
""",
    "logging": """
import logging, logging.handlers
logging.basicConfig(handlers=[logging.handlers.RotatingFileHandler("log", maxBytes=50, backupCount=1)])
for _ in range(5): logging.warning("x" * 30)
""",
    "threads": """
import concurrent.futures, queue, threading, time
with concurrent.futures.ThreadPoolExecutor(4) as pool: list(pool.map(time.sleep, [0.01] * 8))
threading.Event().wait(0.01); threading.Timer(0.01, print).start()
try: queue.Queue().get(timeout=0.01)
except queue.Empty: pass
""",
    "clocks": """
import datetime, time, zoneinfo
time.sleep(0.001); time.time(); time.monotonic(); time.process_time(); time.thread_time(); time.get_clock_info("time")
time.strftime("%c"); datetime.datetime.now(zoneinfo.ZoneInfo("Europe/Berlin")); datetime.datetime.now().astimezone()
""",
    "chance": """
import os, random, secrets, uuid
import numpy
random.seed(); secrets.token_hex(); uuid.uuid4(); os.urandom(4); numpy.random.default_rng().random()
""",
    "facts": """
import os, resource, socket, sys
os.getpid(), os.getppid(), os.getuid(), os.getgid(), os.uname(), os.cpu_count(), os.sched_getaffinity(0), os.times()
os.getcwd(), os.path.expanduser("~"), os.getloadavg() if os.access("/proc/loadavg", os.R_OK) else None
resource.getrusage(resource.RUSAGE_SELF), resource.getrlimit(resource.RLIMIT_NOFILE), socket.gethostname()
sys.stdout.isatty()
""",
    "signals": """
import faulthandler, gc, select, signal, warnings
faulthandler.enable(); signal.signal(signal.SIGUSR1, lambda *_: None); signal.raise_signal(signal.SIGUSR1)
select.select([], [], [], 0.001); select.poll().poll(1); gc.collect()
""",
    "scikit-learn": """
import sklearn.linear_model
sklearn.linear_model.LogisticRegression().fit([[0], [1]], [0, 1]).predict([[0]])
""",
    "torch": """
import io, torch
torch.save({"a": torch.zeros(9)}, "saved.pt"); torch.load("saved.pt", weights_only=True, mmap=True)
torch.set_num_threads(4); torch.randn(700, 700) @ torch.randn(700, 700); torch.seed()
torch.linalg.svd(torch.randn(99, 99))
torch.nn.functional.conv2d(torch.randn(4, 3, 99, 99), torch.randn(8, 3, 3, 3)); torch.fft.fft(torch.randn(999))
torch.jit.wait(torch.jit.fork(torch.add, torch.zeros(3), torch.ones(3)))
torch.nn.LSTM(8, 8)(torch.zeros(2, 1, 8)); torch.nn.Linear(8, 8).bfloat16()(torch.zeros(1, 8).bfloat16())
(torch.ones(3, requires_grad=True) ** 2).sum().backward()
""",
}
FAILS = {
    "copying of modes": ("import shutil; open('a', 'w').close(); shutil.copy('a', 'b')", {"serving/chmod": 1}),
    "event loop": ("import asyncio; asyncio.run(asyncio.sleep(0))", {"serving/epoll_create1": 1}),
    "shared memory": ("import mmap; mmap.mmap(-1, 4096)", {"serving/mmap": 1}),
    "working directory": ("import os; os.chdir('/')", {"serving/chdir": 1}),
    "link": ("import os; os.symlink('a', 'b')", {"serving/symlink": 1}),
}
TRIED_BY_ROOT = {"database": {"serving/fchown": 2}}  # sqlite gives its journal to the owner of its database
ROOM = {"memory_bytes": 4096 * MEBIBYTE, "threads": 64, "scratch_max_files": 100}


@pytest.mark.parametrize("what", WORKS)
def test_it_works_in_a_sealed_cell(what, tmp_path):
    loaded = "import torch" if what == "torch" else "import numpy"
    outcome = run_celled(f"{loaded}\ninside.start_serving()\n{WORKS[what]}\nprint('done')", tmp_path, **ROOM)
    assert outcome.printed[-1:] == ["done"]
    assert outcome.status["violations"] == (TRIED_BY_ROOT.get(what, {}) if os.geteuid() == 0 else {})


@pytest.mark.parametrize("what", FAILS)
def test_it_fails_in_a_sealed_cell_and_is_counted(what, tmp_path):
    code, counted = FAILS[what]
    tried = f"inside.start_serving()\ntry:\n    {code}\nexcept OSError as error:\n    print(error.strerror)"
    outcome = run_celled(tried, tmp_path, **ROOM)
    assert "Operation not permitted" in outcome.printed
    assert outcome.status["violations"] == counted


def test_a_worker_that_was_stopped_goes_on(tmp_path):
    """The kernel takes up its waiting again by a system call of its own, which has to be allowed."""
    code = "import select\ninside.start_serving()\nprint('waits', flush=True)\nselect.poll().poll(3000)\nprint('done')"
    with start_celled(code, tmp_path) as process:
        try:
            lines = (json.loads(line).get("message") for line in process.stdout)
            assert "waits" in lines
            time.sleep(0.5)  # until it does
            for number in (signal.SIGSTOP, signal.SIGCONT):
                os.kill(read_status(tmp_path)["pid"], number)
                time.sleep(0.5)
            assert "done" in lines
            process.wait(60)
        finally:
            process.kill()
    assert read_status(tmp_path)["violations"] == {}
