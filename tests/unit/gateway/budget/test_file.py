"""The file of counts: private, one gateway's, bounded, and never taken for what it is not."""

import asyncio
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from garrison.gateway.budget.ledger import DAY_S, LedgerFailure
from garrison.gateway.budget.sqlite_ledger import KEPT_DAYS, SqliteLedger
from unit.gateway.budget.counting import ask_for, of_client

NOON = 20_000 * DAY_S + DAY_S // 2


class Clock:
    """A clock that tests put where they want it."""

    def __init__(self) -> None:
        self.now_s = float(NOON)

    def __call__(self) -> float:
        return self.now_s


def take(path: Path, stream: str, clock: Clock, gateway: str = "one", **limits: int) -> str:
    return asyncio.run(take_once(path, stream, clock, gateway, **limits))


async def take_once(path: Path, stream: str, clock: Clock, gateway: str, **limits: int) -> str:
    ledger = SqliteLedger(path, gateway, clock)
    await ledger.open()
    try:
        return (await ledger.take(ask_for(stream, of_client(**limits)))).reason
    finally:
        await ledger.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "counts"


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_it_is_for_its_owner_alone(path: Path, clock: Clock) -> None:
    take(path, "a", clock, queries_per_day=1)
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}


def test_a_day_begins_at_midnight_utc(path: Path, clock: Clock) -> None:
    assert take(path, "a", clock, queries_per_day=1) == ""
    clock.now_s = NOON + DAY_S // 2 - 1
    assert take(path, "b", clock, queries_per_day=1) == "budget_used"
    clock.now_s = NOON + DAY_S // 2
    assert take(path, "c", clock, queries_per_day=1) == ""


def test_a_clock_that_is_put_back_finds_its_day_used(path: Path, clock: Clock) -> None:
    take(path, "a", clock, queries_per_day=1)
    clock.now_s = NOON + (KEPT_DAYS - 1) * DAY_S
    take(path, "b", clock, queries_per_day=1)
    clock.now_s = NOON
    assert take(path, "c", clock, queries_per_day=1) == "budget_used"


def test_old_days_are_removed(path: Path, clock: Clock) -> None:
    for day in range(KEPT_DAYS + 5):
        clock.now_s = NOON + day * DAY_S
        take(path, str(day), clock, queries_per_day=1)
    with sqlite3.connect(path) as database:
        days = [day for (day,) in database.execute("SELECT DISTINCT day FROM counts")]
    database.close()
    assert (len(days), max(days)) == (KEPT_DAYS, 20_000 + KEPT_DAYS + 4)


def test_places_are_those_of_one_envoy(path: Path, clock: Clock) -> None:
    assert take(path, "a", clock, concurrent=1) == ""
    assert take(path, "b", clock, concurrent=1) == "too_many_concurrent"  # only who counts was started again
    assert take(path, "c", clock, "two", concurrent=1) == ""  # Envoy was, and its requests are gone with it


@pytest.fixture
def used(path: Path, clock: Clock) -> Iterator[Path]:
    """A file with a used budget in it, enough of it for several pages."""
    asyncio.run(use_many(path, clock))
    return path


async def use_many(path: Path, clock: Clock) -> None:
    ledger = SqliteLedger(path, "one", clock)
    await ledger.open()
    for number in range(400):
        await ledger.take(ask_for(str(number), of_client(queries_per_day=1), client=f"client{number}"))
    await ledger.close()


@pytest.mark.parametrize("at", [0, 16, 4096, 3 * 4096])
def test_a_damaged_file_is_not_counted_in(used: Path, clock: Clock, at: int) -> None:
    data = bytearray(used.read_bytes())
    data[at : at + 2048] = bytes(byte ^ 0x5A for byte in data[at : at + 2048])
    used.write_bytes(bytes(data))
    with pytest.raises(LedgerFailure, match=str(used)):
        take(used, "a", clock, queries_per_day=1)


def test_something_else_is_not_counted_in(path: Path, clock: Clock) -> None:
    path.write_text("this is no database" * 1000)
    with pytest.raises(LedgerFailure, match="not a database"):
        take(path, "a", clock, queries_per_day=1)


def test_a_link_is_not_followed(path: Path, clock: Clock, tmp_path: Path) -> None:
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LedgerFailure):
        take(path, "a", clock, queries_per_day=1)
    assert not (tmp_path / "elsewhere").exists()


def test_two_gateways_do_not_count_in_one_file(path: Path, clock: Clock) -> None:
    async def run() -> str:
        first, second = SqliteLedger(path, "one", clock), SqliteLedger(path, "two", clock)
        await first.open()
        try:
            with pytest.raises(LedgerFailure, match="locked"):
                await second.open()
            return (await first.take(ask_for("a", of_client(queries_per_day=1)))).reason
        finally:
            await first.close()

    assert asyncio.run(run()) == ""
