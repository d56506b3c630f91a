"""The Docker engine itself is killed or stopped, and starts again: the stack comes back by itself, with its models."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers.callers import Callers
from containers.composing import docker, left_behind, load_images
from containers.engine import Engine
from containers.own_models import OwnModelsStack
from containers.recording import Measured
from stack.observing import wait_for

USED = {"torchserve", "gateway", "tools"}
RECOVERY_TIMEOUT_S = 180
CALM_S = 1.0
ONE_SHOTS = ("unsafe-development", "admit", "render")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """An engine with the images; `docker` means this one, as long as it is there."""
    with Engine() as own, pytest.MonkeyPatch.context() as patch:
        own.load([image for name, image in load_images().items() if name in USED])
        patch.setenv("DOCKER_HOST", own.address)
        yield own


@pytest.fixture(scope="module")
def stack(engine: Engine) -> Iterator[OwnModelsStack]:
    """The digits, on the engine that will be ended."""
    with OwnModelsStack(served=("digits",)) as running:
        yield running
    assert left_behind(running.project) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_the_stack_comes_back_with_the_engine(
    engine: Engine, stack: OwnModelsStack, measured: Measured, number: signal.Signals
) -> None:
    before, ran = stack.digest_store(), when_they_ran(stack)
    with Callers(stack.target) as callers:
        time.sleep(CALM_S)
        began = time.monotonic()
        engine.end(number)
        engine.start()
        wait_for(lambda: is_restarted(stack, began), f"up again:\n{engine.said()}", RECOVERY_TIMEOUT_S)
        wait_for(stack.is_ready, f"ready again:\n{stack.logs()[-4000:]}", RECOVERY_TIMEOUT_S)
        recovered_s = time.monotonic() - began
        time.sleep(CALM_S)
    measured.write(f"engine {'killed' if number == signal.SIGKILL else 'stopped'}", callers, recovered_s)
    assert callers.unclear() == callers.unanswered()
    assert stack.digest_store() == before
    assert when_they_ran(stack) == ran
    stack.audit()


def when_they_ran(stack: OwnModelsStack) -> dict[str, str]:
    """Return when each service that runs once has started last."""
    return {service: stack.inspect(service)["State"]["StartedAt"] for service in ONE_SHOTS}


def is_restarted(stack: OwnModelsStack, began: float) -> bool:
    """Say whether both servers run, in processes that were started since."""
    pids = [stack.inspect(service)["State"]["Pid"] for service in ("torchserve", "gateway")]
    return all(pids) and all(started_s(pid) > began for pid in pids)


def started_s(pid: int) -> float:
    """Return when a process was started, by the clock of `time.monotonic`."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


def test_the_gateway_may_start_before_the_server(stack: OwnModelsStack) -> None:
    """The engine knows no order: the sockets are not there yet, in a volume that is new."""
    containers = {service: stack.container(service) for service in ("gateway", "torchserve")}
    docker("stop", *containers.values(), timeout_s=90)
    docker("start", containers["gateway"])
    wait_for(lambda: stack.is_healthy("gateway"), "the gateway runs alone")
    answer = stack.target.send("GET", "/healthz", key=None)
    assert (answer.status, answer.reason) == (503, "unavailable")
    docker("start", containers["torchserve"])
    wait_for(stack.is_ready, "both found each other", RECOVERY_TIMEOUT_S)
