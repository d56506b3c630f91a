"""Counts, the same in a file and in Redis: exact at the limit and just over, all scopes of a request or none."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from garrison.gateway.budget.ledger import DAY_S, Asked, Ledger, Verdict
from garrison.gateway.budget.place import Place
from garrison.gateway.budget.redis_ledger import RedisLedger
from garrison.gateway.budget.sqlite_ledger import SqliteLedger
from unit.gateway.budget.counting import ask_for, of_client, of_model, run_redis

Make = Callable[[], Ledger]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with run_redis(tmp_path_factory.mktemp("redis")) as socket:
        yield socket


@pytest.fixture(params=["file", "redis"])
def make(request: pytest.FixtureRequest, tmp_path: Path, redis: Path) -> Make:
    """Return what makes ledgers of the same counts, nothing counted yet."""
    if request.param == "file":
        return lambda: SqliteLedger(tmp_path / "counts", "one")
    database = abs(hash(request.node.name)) % 16
    place = Place(f"redis+unix://{redis}", database=database)
    asyncio.run(flush(place))
    return lambda: RedisLedger(place, timeout_s=10.0)


async def flush(place: Place) -> None:
    ledger = RedisLedger(place, timeout_s=10.0)
    await ledger.open()
    assert ledger.redis is not None
    await ledger.redis.flushdb()
    await ledger.close()


def take_all(make: Make, *asked: Asked) -> list[Verdict]:
    async def run() -> list[Verdict]:
        ledger = make()
        await ledger.open()
        try:
            return [await ledger.take(one) for one in asked]
        finally:
            await ledger.close()

    return asyncio.run(run())


def reasons(verdicts: list[Verdict]) -> list[str]:
    return [verdict.reason for verdict in verdicts]


def test_a_budget_ends_exactly_where_it_says(make: Make) -> None:
    asked = [ask_for(str(number), of_client(queries_per_day=3)) for number in range(5)]
    assert reasons(take_all(make, *asked)) == ["", "", "", "budget_used", "budget_used"]


def test_a_used_budget_is_whole_again_at_midnight(make: Make) -> None:
    *_, last = take_all(make, *[ask_for(str(number), of_client(queries_per_day=1)) for number in range(2)])
    assert 0 < last.retry_after_s <= DAY_S


def test_counts_outlast_who_counts(make: Make) -> None:
    asked = [ask_for(str(number), of_client(queries_per_day=2)) for number in range(2)]
    assert reasons(take_all(make, *asked)) == ["", ""]
    assert reasons(take_all(make, ask_for("3", of_client(queries_per_day=2)))) == ["budget_used"]


def test_clients_have_budgets_of_their_own(make: Make) -> None:
    asked = [ask_for(client, of_client(queries_per_day=1), client=client) for client in ("a", "b", "a", "b")]
    assert reasons(take_all(make, *asked)) == ["", "", "budget_used", "budget_used"]


def test_a_model_has_a_budget_within_that_of_its_client(make: Make) -> None:
    def ask(stream: str, model: str) -> Asked:
        return ask_for(stream, of_client(queries_per_day=4), of_model(model, queries_per_day=2), model=model)

    asked = [ask(str(number), model) for number, model in enumerate(["digits"] * 3 + ["faces"] * 3)]
    assert reasons(take_all(make, *asked)) == ["", "", "budget_used", "", "", "budget_used"]


def test_what_one_scope_refuses_counts_in_none(make: Make) -> None:
    both = of_client(queries_per_day=2), of_model(queries_per_day=1)
    asked = [ask_for(str(number), *both) for number in range(3)]
    assert reasons(take_all(make, *asked)) == ["", "budget_used", "budget_used"]
    assert reasons(take_all(make, ask_for("3", of_client(queries_per_day=2), model="faces"))) == [""]


def test_a_place_that_is_refused_uses_no_budget(make: Make) -> None:
    scope = of_client(queries_per_day=2, concurrent=1)
    assert reasons(take_all(make, *(ask_for(str(number), scope) for number in range(3)))) == [
        "", "too_many_concurrent", "too_many_concurrent",
    ]  # fmt: skip
    assert reasons(take_all(make, *(ask_for(str(n), of_client(queries_per_day=2)) for n in (3, 4)))) == [
        "", "budget_used",
    ]  # fmt: skip


def test_places_are_as_many_as_it_says_and_can_be_given_back(make: Make) -> None:
    scopes = of_client(concurrent=2), of_model(concurrent=2)

    async def run() -> list[str]:
        ledger = make()
        await ledger.open()
        found = [(await ledger.take(ask_for(stream, *scopes))).reason for stream in "abc"]
        await ledger.give_back("bank", "digits", "a")
        await ledger.give_back("bank", "digits", "a")  # twice is once
        await ledger.give_back("bank", "digits", "c")  # which has none
        found += [(await ledger.take(ask_for(stream, *scopes))).reason for stream in "de"]
        await ledger.close()
        return found

    assert asyncio.run(run()) == ["", "", "too_many_concurrent", "", "too_many_concurrent"]


def test_places_are_counted_for_each_model(make: Make) -> None:
    def ask(stream: str, model: str) -> Asked:
        return ask_for(stream, of_client(concurrent=3), of_model(model, concurrent=2), model=model)

    asked = [ask(str(number), model) for number, model in enumerate(["digits"] * 3 + ["faces"] * 2)]
    assert reasons(take_all(make, *asked)) == ["", "", "too_many_concurrent", "", "too_many_concurrent"]


def test_a_place_that_nobody_gives_back_is_free_after_its_lease(make: Make) -> None:
    async def run() -> list[str]:
        ledger = make()
        await ledger.open()
        found = [(await ledger.take(ask_for(s, of_client(concurrent=1), lease_s=1))).reason for s in "ab"]
        await asyncio.sleep(1.1)
        found.append((await ledger.take(ask_for("c", of_client(concurrent=1), lease_s=1))).reason)
        await ledger.close()
        return found

    assert asyncio.run(run()) == ["", "too_many_concurrent", ""]


def test_many_at_once_get_exactly_what_is_there(make: Make) -> None:
    async def run() -> list[str]:
        ledger = make()
        await ledger.open()
        scope = of_client(queries_per_day=20, concurrent=30)
        found = await asyncio.gather(*(ledger.take(ask_for(str(number), scope)) for number in range(100)))
        await ledger.close()
        return reasons(found)

    found = asyncio.run(run())
    assert (found.count(""), found.count("budget_used")) == (20, 80)
