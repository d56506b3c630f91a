"""The posture that is reported agrees with what a model's own code finds when it tries everything from inside.

The handler here does what the cell's own trials do, once while it loads and again for every request, and answers with
what came of it. It is compared with what its supervisor wrote, with the metrics and with `garrison posture`.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from garrison.cell.trials import ATTEMPTS, PARTS
from garrison.errors import EXIT_CONFIG, EXIT_OK
from lacking import LANDLOCK, SECCOMP, lack
from stack.conftest import save_sums
from stack.observing import wait_for
from stack.running import RunningStack, pack_contract
from stack.test_metrics import read_metrics

CONTRACT = """\
garrison: 1
model: prying
version: "1"
task: custom
inputs:
  text: {kind: text, max_bytes: 1KiB, max_characters: 200, max_tokens: 8}
batch: {max_items: 8, max_delay_ms: 5, max_bytes: 1MiB, max_instances: 4}
workers: {count: 1, queue: 64, timeout_s: 10}
outputs: {decimals: 2, max_bytes: 100kB}
"""
HANDLER = """\
import os

import numpy as np

from garrison.cell.posture import render_posture, try_everything
from garrison.cell.trials import Path, Surroundings
from garrison.torchserve.base import SafeHandler


def look():
    scratch = Path(os.environ["HOME"])
    run = scratch.parents[2]
    places = (run / "cells" / "settings.json", run / "models", run / "models" / "prying", scratch)
    return render_posture(try_everything(Surroundings(os.getppid(), *places, 0)))


class Prying(SafeHandler):
    def load(self, model):
        self.found = {"loading": look()}

    def prepare(self, item):
        return np.zeros(1, np.float32)

    def infer(self, batch):
        self.found["serving"] = look()
        return batch

    def present(self, output, item):
        return self.found
"""
IMPORTS = ["garrison.cell", "os"]  # what this operator lets handlers use
OWN_EYES = {"landlock_abi"}  # asking for it is forbidden inside


def change(path: Path, **values: Any) -> None:
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **values}))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prying model, packed."""
    sources = tmp_path_factory.mktemp("prying")
    weights, handler = sources / "model.pt", sources / "handler.py"
    save_sums(weights)
    handler.write_text(HANDLER)
    with RunningStack.prepared(sources) as place:
        change(place.config / "admission.yaml", handlers={"imports": IMPORTS})
        return pack_contract(CONTRACT, weights, sources / "models", "--handler", handler, "--config", place.config)


def prepare(models: Path, **cell: Any) -> RunningStack:
    stack = RunningStack(models, served=["prying"])
    change(stack.config / "admission.yaml", handlers={"imports": IMPORTS})
    change(stack.config / "cell.yaml", **cell)
    return stack


@pytest.fixture(scope="module")
def stack(models: Path) -> Iterator[RunningStack]:
    """A server of the prying model, which is not ended for what it tries."""
    with prepare(models, on_violation="fail") as running:
        yield running


@pytest.fixture(scope="module")
def found(stack: RunningStack) -> dict[str, Any]:
    """What the model found, while it loaded and while it answered."""
    answer = stack.target.send(path="/predictions/prying", body=b"good day")
    assert answer.status == 200
    return dict(answer.json)


def read_reported(stack: RunningStack) -> dict[str, Any]:
    (status,) = (json.loads(path.read_text()) for path in (stack.run_directory / "cells").glob("prying.*.json"))
    return dict(status)


def run_posture(stack: RunningStack) -> tuple[int, list[dict[str, Any]]]:
    command = [sys.executable, "-m", "garrison.cli", "posture", "--json", "--run-dir", str(stack.run_directory)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("stage", ["loading", "serving"])
def test_what_a_model_finds_is_what_is_reported(stack: RunningStack, found: dict[str, Any], stage: str) -> None:
    reported = read_reported(stack)["posture"]
    assert found[stage]["trials"] == reported["trials"]
    for fact in reported.keys() - OWN_EYES:
        assert found[stage][fact] == reported[fact], fact


@pytest.mark.parametrize("stage", ["loading", "serving"])
def test_all_that_was_tried_failed_as_it_must(found: dict[str, Any], stage: str) -> None:
    trials = found[stage]["trials"]
    assert [trial["what"] for trial in trials] == [attempt.what for attempt in ATTEMPTS]
    assert [trial for trial in trials if not trial["held"]] == []


def test_the_metrics_say_the_same(stack: RunningStack, found: dict[str, Any]) -> None:
    assert found
    metrics = read_metrics(stack)
    for part in PARTS:
        assert metrics["garrison_cell_held", frozenset({("model", "prying"), ("part", part)})] == 1
    for word in ("landlock", "seccomp"):
        assert metrics["garrison_cell_unsafe", frozenset({("setting", word)})] == 0


def test_what_the_model_tried_is_counted_by_call_and_stage(stack: RunningStack, found: dict[str, Any]) -> None:
    assert found

    def counted(call: str, stage: str) -> float:
        labels = frozenset({("model", "prying"), ("syscall", call), ("stage", stage)})
        return read_metrics(stack).get(("garrison_cell_violations_total", labels), 0)

    tried = {"socket": 4, "execve": 1, "mount": 1, "memfd_create": 1}
    wait_for(lambda: counted("add_key", "serving") >= 1, "the supervisor has written what it saw")
    rounds = counted("mount", "loading")
    assert rounds >= 1  # the handler looks once by itself, and at each batch of blank items that it is warmed up with
    assert {call: counted(call, "loading") for call in tried} == {call: count * rounds for call, count in tried.items()}
    assert all(counted(call, "serving") >= count for call, count in tried.items())
    assert counted("read", "serving") == 0


def test_the_command_shows_the_running_worker(stack: RunningStack) -> None:
    status, (row,) = run_posture(stack)
    reported = read_reported(stack)
    assert status == EXIT_OK
    assert (row["model"], row["pid"], row["posture"]) == ("prying", reported["pid"], reported["posture"])
    assert row["held"] == dict.fromkeys(PARTS, True)
    assert stack.worker_pids("prying") == [row["pid"]]


def test_the_log_tells_of_the_closed_cell_and_of_violations(stack: RunningStack, found: dict[str, Any]) -> None:
    assert found
    events = [event for event in stack.events() if event["gate"] == "cell"]
    assert {event["model"] for event in events} == {"prying"}
    assert "cell_closed" in {event["event"] for event in events}
    calls = {(event["call"], event["stage"]) for event in events if event["event"] == "violation"}
    assert {("socket", "loading"), ("socket", "serving"), ("execve", "serving")} <= calls


# What the kernel cannot give ------------------------------------------------------------------------------------------


def start_without(stack: RunningStack, *calls: str) -> None:
    """Let `garrison serve` run as on a kernel that lacks system calls."""
    command = stack.command()
    stack.command = lambda: [*lack(*calls), *command]  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("call", "unsafe", "told"),
    [
        (LANDLOCK, [], ["cell: landlock does not hold", "Linux 5.13", "unsafe_without: [landlock]"]),
        (LANDLOCK, ["seccomp"], ["cell: landlock does not hold", "unsafe_without: [landlock]"]),
        (SECCOMP, [], ["cell: seccomp, network, process do not hold", "unsafe_without: [seccomp]"]),
    ],
    ids=["no Landlock", "no Landlock but the other may be missing", "no seccomp"],
)
def test_what_is_required_and_missing_is_a_refusal_to_start(
    models: Path, call: str, unsafe: list[str], told: list[str]
) -> None:
    stack = prepare(models, unsafe_without=unsafe)
    try:
        start_without(stack, call)
        stack.launch()
        status, said = stack.wait()
        assert status == EXIT_CONFIG
        assert [text for text in told if text not in said] == []
        assert "starting TorchServe" not in said
    finally:
        stack.__exit__()


@pytest.mark.parametrize(
    ("call", "word", "lost"),
    [(LANDLOCK, "landlock", {"landlock"}), (SECCOMP, "seccomp", {"seccomp", "network", "process"})],
)
def test_what_may_be_missing_is_warned_of_and_measured(models: Path, call: str, word: str, lost: set[str]) -> None:
    stack = prepare(models, unsafe_without=[word], on_violation="fail")
    start_without(stack, call)
    with stack:
        (event,) = (event for event in stack.events() if event["event"] == "unsafe_cell")
        assert event["gate"] == "launcher"
        assert f"unsafe_without: [{word}]" in event["message"]
        assert event["message"] in stack.said()
        metrics = read_metrics(stack)
        assert metrics["garrison_cell_unsafe", frozenset({("setting", word)})] == 1
        held = {part: metrics["garrison_cell_held", frozenset({("model", "prying"), ("part", part)})] for part in PARTS}
        assert held == {part: part not in lost for part in PARTS}
        status, (row,) = run_posture(stack)
        assert (status, row["held"]) == (EXIT_OK, {part: part not in lost for part in PARTS})
        trials = stack.target.send(path="/predictions/prying", body=b"good day").json["serving"]["trials"]
        assert trials == read_reported(stack)["posture"]["trials"]
