"""Starting, stopping, and everything that dies in between.

`garrison serve` is the parent of all: what ends is started again and later requests succeed; when it is told to stop,
requests in flight are answered first; and when it dies itself, nothing of the stack outlives it.
"""

import http.client
import os
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from attacks.catalogue import sample_digit
from garrison.unix_http import send_request
from stack.in_flight import InFlight
from stack.observing import find_family, find_processes, wait_for
from stack.running import RunningStack, pack_digits

BATCH_DELAY_S = 3
GONE_WITHIN_S = 10
FAMILY = 5  # serve, java, a worker and its supervisor, Envoy


@pytest.fixture(scope="module")
def packed_patient(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits with a batch that waits three seconds for more: a request on its own is in flight that long."""
    models = tmp_path_factory.mktemp("patient")
    return pack_digits(models, {"max_delay_ms: 1 ": f"max_delay_ms: {BATCH_DELAY_S * 1000} "})


@pytest.fixture
def started(packed_patient: Path) -> Iterator[RunningStack]:
    """A stack of a test's own, to be stopped or killed."""
    with RunningStack(packed_patient) as stack:
        yield stack


def assert_nothing_left(stack: RunningStack) -> None:
    """No process, no run directory, nothing in the place for temporary files."""
    wait_for(lambda: not find_processes(stack.directory), f"{find_processes(stack.directory)} ends", GONE_WITHIN_S)
    assert not stack.run_directory.exists()
    assert list(stack.scratch.iterdir()) == []


# Starting -------------------------------------------------------------------------------------------------------------


def test_ready_means_that_a_worker_answers(packed_digits: Path) -> None:
    """From the first answer on, the health route says 503 until a prediction would succeed, and 200 from then on."""
    seen = []
    with RunningStack.prepared(packed_digits) as stack:
        stack.launch()
        wait_for(lambda: is_open(stack.target.port), "the gateway listens")
        while (status := stack.target.send("GET", "/healthz", key=None).status) != 200:
            seen.append((status, stack.target.send(body=sample_digit()).status))
            assert stack.process is not None and stack.process.poll() is None, stack.said()
            time.sleep(0.2)
        assert [stack.target.send(body=sample_digit()).status for _ in range(5)] == [200] * 5
        wait_for(lambda: "ready after" in stack.said(), "the person is told")
        assert f"https://127.0.0.1:{stack.target.port}" in stack.said()
    assert seen
    assert {status for status, _ in seen} == {503}
    assert {status for _, status in seen} <= {503, 200}


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# Stopping -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_stop_answers_what_is_in_flight_and_leaves_nothing(started: RunningStack, number: signal.Signals) -> None:
    family = list(find_family(started.pid))
    idle = started.target.connect()
    idle.connect()
    request = InFlight(started.target)
    status, said = started.stop(number)
    request.finish()
    idle.close()
    assert request.answer is not None and request.answer.status == 200, request.error
    assert next(iter(request.answer.json)) == "seven"
    assert status == 0
    assert said.splitlines()[-2:] == ["stopping: waiting for the requests in flight ...", "stopped"]
    assert not [pid for pid in family if psutil.pid_exists(pid)]
    assert_nothing_left(started)


def test_while_stopping_nothing_new_is_taken(started: RunningStack) -> None:
    request = InFlight(started.target)
    assert started.process is not None
    started.process.send_signal(signal.SIGTERM)
    wait_for(lambda: not is_open(started.target.port), "new connections are refused", 5)
    ready = send_request(started.run_directory / "ready.sock", "GET", "/", 5)
    assert ready.status == 503
    started.process.send_signal(signal.SIGTERM)  # impatience changes nothing
    assert started.wait()[0] == 0
    request.finish()
    assert request.answer is not None and request.answer.status == 200


def test_a_stop_during_the_start_leaves_nothing(packed_digits: Path) -> None:
    with RunningStack.prepared(packed_digits) as stack:
        stack.launch()
        wait_for(lambda: "starting" in stack.said(), "it starts")
        assert stack.stop()[0] == 0
        assert_nothing_left(stack)


def test_the_run_directory_is_made_in_tmpdir_if_none_is_given(packed_digits: Path) -> None:
    with RunningStack.prepared(packed_digits) as stack:
        stack.options = []
        stack.launch()
        wait_for(lambda: "starting" in stack.said(), "it starts")
        (made,) = stack.scratch.iterdir()
        assert made.stat().st_mode & 0o777 == 0o700
        assert stack.stop()[0] == 0
        assert list(stack.scratch.iterdir()) == []


# Dying ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mortal(packed_patient: Path) -> Iterator[RunningStack]:
    """A stack whose processes are killed one after the other; each test waits until it has recovered."""
    with RunningStack(packed_patient) as stack:
        yield stack


def find_worker(stack: RunningStack) -> int:
    return stack.worker_pids()[0]


def find_java(stack: RunningStack) -> int:
    return next(pid for pid, name in find_family(stack.pid).items() if name == "java")


def find_envoy(stack: RunningStack) -> int:
    return next(pid for pid, name in find_family(stack.pid).items() if name == "envoy")


VICTIMS = {
    "worker": (find_worker, "a worker of digits ended (pid {})"),
    "java": (find_java, "TorchServe ended (killed by SIGKILL); starting it again"),
    "envoy": (find_envoy, "Envoy ended (killed by SIGKILL); starting it again"),
}


@pytest.mark.parametrize("victim", VICTIMS)
def test_what_is_killed_comes_back_and_the_client_is_not_left_hanging(mortal: RunningStack, victim: str) -> None:
    find, words = VICTIMS[victim]
    pid, others = find(mortal), set(find_family(mortal.pid))
    said_before = len(mortal.said())
    request = InFlight(mortal.target)
    os.kill(pid, signal.SIGKILL)
    request.finish()
    if request.answer is not None:
        # 504: TorchServe forgets a batch whose worker dies before it is full; the gateway's clock ends the wait.
        assert request.answer.status in (500, 502, 503, 504)
        assert set(request.answer.json) == {"reason", "message"}
    else:
        assert isinstance(request.error, ConnectionError | http.client.HTTPException | ssl.SSLError)
    wait_for(lambda: words.format(pid) in mortal.said()[said_before:], f"serve says {words!r}: {mortal.said()}")
    wait_for(lambda: is_answered(mortal), "predictions again")
    new = set(find_family(mortal.pid)) - others
    assert len(new) == {"worker": 2, "java": 3, "envoy": 1}[victim]  # a worker and its supervisor come and go together
    assert len(find_family(mortal.pid)) == FAMILY
    wait_for(mortal.is_ready, "ready again")  # the gateway asks for health once a second, predictions come back sooner


def is_answered(stack: RunningStack) -> bool:
    try:
        return stack.target.send(body=sample_digit()).status == 200
    except (OSError, http.client.HTTPException):
        return False


def test_without_a_worker_it_is_not_ready_and_requests_are_refused_not_kept(mortal: RunningStack) -> None:
    os.kill(find_worker(mortal), signal.SIGKILL)
    wait_for(lambda: not mortal.is_ready(), "not ready")
    wait_for(mortal.is_ready, "ready again")
    assert is_answered(mortal)


def test_when_serve_itself_is_killed_nothing_outlives_it(started: RunningStack) -> None:
    family = list(find_family(started.pid))
    assert len(family) == FAMILY
    request = InFlight(started.target)
    os.kill(started.pid, signal.SIGKILL)
    assert started.wait()[0] == -signal.SIGKILL
    wait_for(lambda: not [pid for pid in family if is_alive(pid)], "all processes end", GONE_WITHIN_S)
    request.finish()
    assert request.answer is None or request.answer.status >= 500


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
