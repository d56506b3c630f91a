"""What breaks while clients ask: everybody gets an answer or a clear refusal, the stack recovers, no model is lost.

One stack for all faults that it survives, four clients asking all the time. Only while the gateway itself is gone may
a connection be refused or broken. How long each recovery took is written to build/faults.json; docs/explanation.md
shows such a run.
"""

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest

from containers.callers import Callers, Outcome, ask
from containers.composing import left_behind
from containers.own_models import OwnModelsStack, make_order
from containers.recording import Measured
from stack.observing import wait_for

RECOVERY_TIMEOUT_S = 150
SEEN_TIMEOUT_S = 60
CALM_S = 1.0  # of asking, before a fault and after it
CONTAINER_MEMORY, CELL_MEMORY = "2500m", "1280MiB"
ONE_TOO_MANY_MIB = 4000  # more than a worker's cell allows
TOGETHER_TOO_MANY_MIB = 1000  # one worker may take it; two at once are more than the container has
SERVERS = ("torchserve", "gateway")


@pytest.fixture(scope="module")
def stack() -> Iterator[OwnModelsStack]:
    """The digits, and two workers of a hungry model; the store is looked through at the end."""
    with OwnModelsStack(memory=CONTAINER_MEMORY, cell_memory=CELL_MEMORY) as running:
        yield running
        running.audit()
    assert left_behind(running.project) == []


# What breaks ----------------------------------------------------------------------------------------------------------


def kill_launcher(stack: OwnModelsStack) -> None:
    os.kill(stack.find_pids("torchserve")["launcher"], signal.SIGKILL)


def kill_java(stack: OwnModelsStack) -> None:
    os.kill(stack.find_pids("torchserve")["java"], signal.SIGKILL)


def kill_supervisor(stack: OwnModelsStack) -> None:
    kill_inside(stack, "supervisor")


def kill_worker(stack: OwnModelsStack) -> None:
    kill_inside(stack, "pid")


def kill_inside(stack: OwnModelsStack, which: str) -> None:
    """Kill what the status of the digits' cell names, as the user whom it belongs to."""
    stack.python(
        "torchserve",
        """if True:
        import json, os, pathlib, sys
        for path in pathlib.Path("/run/garrison/cells").glob("digits.*.json"):
            status = json.loads(path.read_text())
            if status["stage"] == "serving":
                os.kill(status[sys.argv[1]], 9)
        """,
        which,
    )


def kill_gateway_parent(stack: OwnModelsStack) -> None:
    os.kill(stack.find_pids("gateway")["launcher"], signal.SIGKILL)


def kill_envoy(stack: OwnModelsStack) -> None:
    os.kill(stack.find_pids("gateway")["envoy"], signal.SIGKILL)


def restart_gateway(stack: OwnModelsStack) -> None:
    """As an operator does; a request that takes three seconds is in flight."""
    slow = InFlight(stack, megabytes=1, seconds=3)
    stack.compose("restart", "gateway")
    assert str(slow.finish()) == "200"


def restart_server(stack: OwnModelsStack) -> None:
    slow = InFlight(stack, megabytes=1, seconds=3)
    stack.compose("restart", "torchserve")
    assert str(slow.finish()) == "200"


def remove_sockets(stack: OwnModelsStack) -> None:
    code = "import pathlib; [path.unlink() for path in pathlib.Path('/sockets/torchserve').iterdir()]"
    stack.python("torchserve", code)


def eat_cell(stack: OwnModelsStack) -> None:
    """Let one worker take more than its cell allows; its request is refused, and nothing else happens."""
    outcome = order(stack, ONE_TOO_MANY_MIB, 0)
    assert outcome.answer is not None and not outcome.succeeded and outcome.is_clear, outcome


def eat_container(stack: OwnModelsStack) -> None:
    """Let two workers take more than the container has; the kernel kills one of them or both."""
    orders = [InFlight(stack, TOGETHER_TOO_MANY_MIB, 10) for _ in range(2)]
    outcomes = [one.finish() for one in orders]
    assert "500 server_error" in map(str, outcomes)
    assert all(outcome.is_clear for outcome in outcomes), [*map(str, outcomes)]


def fill_run(service: str) -> Callable[[OwnModelsStack], None]:
    """Fill /run, ask for a while, and empty it."""

    def fill(stack: OwnModelsStack) -> None:
        code = """if True:
            import errno, os, time
            with open("/run/fill", "wb", 0) as file:
                try:
                    while True:
                        file.write(bytes(2**20))
                except OSError as error:
                    assert error.errno == errno.ENOSPC, error
            time.sleep(5)
            os.unlink("/run/fill")
            """
        stack.python(service, code)

    return fill


@dataclass(frozen=True)
class Fault:
    """What happens, what is then in the log, and who may notice how.

    `harmless`: every request succeeds. `gateway_gone`: connections may break.
    """

    happen: Callable[[OwnModelsStack], None]
    service: str
    words: str  # of the log, after it happened; a regular expression
    harmless: bool = False
    gateway_gone: bool = False


STARTS = r'"event": "starting"'
FAULTS = {
    "worker": Fault(kill_worker, "torchserve", "a worker of digits ended"),
    "supervisor": Fault(kill_supervisor, "torchserve", "a worker of digits ended"),
    "java": Fault(kill_java, "torchserve", r"TorchServe ended \(killed by SIGKILL\); starting it again"),
    "launcher": Fault(kill_launcher, "torchserve", STARTS),
    "envoy": Fault(kill_envoy, "gateway", r"Envoy ended \(killed by SIGKILL\); starting it again", gateway_gone=True),
    "gateway's launcher": Fault(kill_gateway_parent, "gateway", STARTS, gateway_gone=True),
    "a worker takes too much memory": Fault(eat_cell, "torchserve", "", harmless=True),
    "the container's memory is full": Fault(eat_container, "torchserve", "the kernel killed"),
    "the server's /run is full": Fault(fill_run("torchserve"), "torchserve", "", harmless=True),
    "the gateway's /run is full": Fault(fill_run("gateway"), "gateway", "", harmless=True),
    "sockets removed": Fault(remove_sockets, "torchserve", "inference.sock was removed"),
    "gateway restarted": Fault(restart_gateway, "gateway", STARTS, gateway_gone=True),
    "server restarted": Fault(restart_server, "torchserve", STARTS),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_breaks_comes_back(stack: OwnModelsStack, measured: Measured, name: str) -> None:
    fault = FAULTS[name]
    before, lines = stack.digest_store(), len(stack.logs(fault.service))
    with Callers(stack.target) as callers:
        time.sleep(CALM_S)
        began = time.monotonic()
        fault.happen(stack)
        wait_for(lambda: is_told(stack, fault, lines), f"{fault.service} says {fault.words!r}", SEEN_TIMEOUT_S)
        wait_for(lambda: is_whole(stack), f"recovered:\n{stack.logs()[-4000:]}", RECOVERY_TIMEOUT_S)
        recovered_s = time.monotonic() - began
        time.sleep(CALM_S)
    wait_for(lambda: is_healthy(stack), "the engine sees it, too", SEEN_TIMEOUT_S)
    measured.write(name, callers, recovered_s)
    assert callers.unclear() == callers.unanswered()
    assert not callers.unanswered() or fault.gateway_gone
    assert not fault.harmless or {*callers.count()} == {"200"}
    assert stack.digest_store() == before


def is_told(stack: OwnModelsStack, fault: Fault, lines: int) -> bool:
    return re.search(fault.words, stack.logs(fault.service)[lines:]) is not None


def is_whole(stack: OwnModelsStack) -> bool:
    """Every model has a worker, and digits and the hungry model answer."""
    if not stack.is_ready():
        return False
    with closing(stack.target.connect()) as connection:
        outcomes = [ask(stack.target, connection) for _ in range(3)]
    return all(outcome.succeeded for outcome in [*outcomes, order(stack, 1, 0)])


def is_healthy(stack: OwnModelsStack) -> bool:
    return all(map(stack.is_healthy, SERVERS))


def order(stack: OwnModelsStack, megabytes: int, seconds: int) -> Outcome:
    """Ask the hungry model to take memory and keep it."""
    with closing(stack.target.connect()) as connection:
        return ask(stack.target, connection, make_order(megabytes, seconds), "hungry")


class InFlight:
    """A request to the hungry model in a thread of its own."""

    def __init__(self, stack: OwnModelsStack, megabytes: int, seconds: int) -> None:
        self._outcomes: list[Outcome] = []
        self._thread = threading.Thread(target=lambda: self._outcomes.append(order(stack, megabytes, seconds)))
        self._thread.start()
        time.sleep(0.5)  # until it is in a worker

    def finish(self) -> Outcome:
        """Wait for its end, and return what became of it."""
        self._thread.join(60)
        assert not self._thread.is_alive(), "the client hangs"
        return self._outcomes[0]


# Stopping -------------------------------------------------------------------------------------------------------------


def test_a_stop_finishes_what_is_in_flight(stack: OwnModelsStack) -> None:
    """The gateway goes first, and drains; it comes last, as the stack is down then."""
    slow = InFlight(stack, megabytes=1, seconds=3)
    stack.compose("stop")
    assert str(slow.finish()) == "200"
