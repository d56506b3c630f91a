"""The budget service as a child beside Envoy: there where it is needed, again when it ends, told what changes."""

import importlib.util
import io
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from garrison.errors import ConfigError
from garrison.eventlog import EventLog
from garrison.gateway.budget.allowances import ALL_MODELS, Allowance, Allowances
from garrison.gateway.budget.place import Place
from garrison.gateway.budget.plan import Plan, load_plan
from garrison.stack import budget
from garrison.stack.budget import BudgetChild
from garrison.stack.part import Lifetime

WAIT_S = 20


@pytest.fixture
def child() -> Iterator[BudgetChild]:
    started = BudgetChild(Lifetime(EventLog(io.BytesIO(), None)))
    yield started
    started.stop()


def make_plan(directory: Path, queries: int = 3, place: Place | None = None) -> Plan:
    return Plan(place or Place(), directory / "counts", Allowances({"a": {ALL_MODELS: Allowance(queries)}}, 10))


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_where_nothing_is_counted_nothing_runs(child: BudgetChild, tmp_path: Path) -> None:
    child.begin(None, tmp_path)
    assert (child.pids(), child.is_ready(), list(tmp_path.iterdir())) == ([], True, [])


def test_a_first_budget_starts_it_and_a_second_does_not(child: BudgetChild, tmp_path: Path) -> None:
    child.begin(None, tmp_path)
    child.follow(make_plan(tmp_path))
    (pid,) = child.pids()
    assert child.is_ready()
    child.follow(make_plan(tmp_path, 5))
    assert child.pids() == [pid]
    assert load_plan(tmp_path / budget.FILE) == make_plan(tmp_path, 5)


def test_another_place_to_count_in_starts_it_anew(child: BudgetChild, tmp_path: Path) -> None:
    child.begin(make_plan(tmp_path), tmp_path)
    (pid,) = child.pids()
    child.follow(make_plan(tmp_path, place=Place(f"redis+unix://{tmp_path}/redis.sock")))
    assert child.pids() != [pid]


def test_one_that_dies_is_started_again_but_not_at_once(child: BudgetChild, tmp_path: Path) -> None:
    child.begin(make_plan(tmp_path), tmp_path)
    (pid,) = child.pids()
    os.kill(pid, signal.SIGKILL)
    child.replace_dead()
    assert child.pids() == [pid]
    wait_for(lambda: child.replace_dead() or child.pids() != [pid])  # type: ignore[func-returns-value]
    wait_for(child.is_ready)


def test_redis_is_asked_for_where_it_is_not_installed(
    child: BudgetChild, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "redis" else name)
    with pytest.raises(ConfigError, match=r"pip install garrison\[redis\]"):
        child.begin(make_plan(tmp_path, place=Place(f"redis+unix://{tmp_path}/redis.sock")), tmp_path)
    assert child.pids() == []


def test_envoys_end_is_the_end_of_its_requests(child: BudgetChild, tmp_path: Path) -> None:
    child.begin(make_plan(tmp_path), tmp_path)
    (pid,) = child.pids()
    child.begin(make_plan(tmp_path), tmp_path)
    assert child.pids() != [pid]
