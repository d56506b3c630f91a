"""Redis for many gateways: one count for all of them, and nothing counted where nothing can be."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from garrison.gateway.budget.ledger import DAY_S, LedgerFailure
from garrison.gateway.budget.place import Place
from garrison.gateway.budget.redis_ledger import KEPT_S, TIMEOUT_S, RedisLedger
from garrison.gateway.certificates import ensure_certificate
from unit.gateway.budget.counting import ask_for, of_client, of_model, run_redis

PATIENT_S = 10.0  # the machine may be busy; a yes does not come by waiting


def run_with(place: Place, use: Callable[[RedisLedger], Awaitable[None]], timeout_s: float = PATIENT_S) -> None:
    async def run() -> None:
        ledger = RedisLedger(place, timeout_s)
        await ledger.open()
        try:
            await use(ledger)
        finally:
            await ledger.close()

    asyncio.run(run())


def test_gateways_share_one_budget_exactly(tmp_path: Path) -> None:
    async def run(place: Place) -> int:
        ledgers = [RedisLedger(place, PATIENT_S) for _ in range(3)]
        for ledger in ledgers:
            await ledger.open()
        scope = of_client(queries_per_day=40)
        asked = (ledgers[number % 3].take(ask_for(str(number), scope)) for number in range(120))
        found = await asyncio.gather(*asked)
        for ledger in ledgers:
            await ledger.close()
        return sum(not verdict.reason for verdict in found)

    with run_redis(tmp_path) as socket:
        assert asyncio.run(run(Place(f"redis+unix://{socket}"))) == 40


def test_yesterday_is_over_and_tomorrow_has_not_begun(tmp_path: Path) -> None:
    today = int(time.time()) // DAY_S
    scope = of_client(queries_per_day=1)

    async def use(ledger: RedisLedger) -> None:
        assert ledger.redis is not None
        assert not (await ledger.take(ask_for("a", scope))).reason
        await ledger.redis.hset("garrison:{bank}:queries", ":day", str(today - 1))
        assert not (await ledger.take(ask_for("b", scope))).reason
        await ledger.redis.hset(
            "garrison:{bank}:queries", ":day", str(today + 1)
        )  # counted before the clock was put back
        assert (await ledger.take(ask_for("c", scope))).reason == "budget_used"

    with run_redis(tmp_path) as socket:
        run_with(Place(f"redis+unix://{socket}"), use)


def test_every_key_is_gone_one_day(tmp_path: Path) -> None:
    async def use(ledger: RedisLedger) -> None:
        assert ledger.redis is not None
        await ledger.take(ask_for("a", of_client(queries_per_day=9, concurrent=9), of_model(concurrent=9)))
        keys = await ledger.redis.keys("*")
        assert len(keys) == 3
        assert {0 < await ledger.redis.ttl(key) <= KEPT_S for key in keys} == {True}

    with run_redis(tmp_path) as socket:
        run_with(Place(f"redis+unix://{socket}"), use)


def test_one_that_may_drop_keys_is_refused(tmp_path: Path) -> None:
    full = pytest.raises(LedgerFailure, match="drops keys when full")
    with run_redis(tmp_path, "--maxmemory-policy", "allkeys-lru") as socket, full:
        asyncio.run(RedisLedger(Place(f"redis+unix://{socket}"), PATIENT_S).open())


def test_one_that_is_gone_or_slow_is_no_yes(tmp_path: Path) -> None:
    async def use(ledger: RedisLedger) -> None:
        assert ledger.redis is not None
        await ledger.take(ask_for("a", of_client(queries_per_day=9)))
        pausing = ledger.redis.execute_command("CLIENT", "PAUSE", "3000", "ALL")
        await pausing
        with pytest.raises(LedgerFailure, match=r"(?i)time"):
            await ledger.take(ask_for("b", of_client(queries_per_day=9)))

    with run_redis(tmp_path) as socket:
        run_with(Place(f"redis+unix://{socket}"), use, TIMEOUT_S)
    with pytest.raises(LedgerFailure):
        asyncio.run(RedisLedger(Place(f"redis+unix://{socket}"), PATIENT_S).open())


def test_over_tls_redis_shows_who_it_is(tmp_path: Path) -> None:
    certificate = ensure_certificate(tmp_path / "tls")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    pair = ("--tls-cert-file", str(certificate.chain_path), "--tls-key-file", str(certificate.key_path))
    listening = ("--bind", "127.0.0.1", "127.0.0.2", "--tls-port", str(port), "--tls-auth-clients", "no")

    async def use(ledger: RedisLedger) -> None:
        assert not (await ledger.take(ask_for("a", of_client(queries_per_day=1)))).reason

    with run_redis(tmp_path, *listening, *pair, "--tls-ca-cert-file", str(certificate.ca_path)):
        run_with(Place(f"rediss://localhost:{port}", authority=certificate.ca_path), use)
        for url, authority in (("rediss://localhost", None), ("rediss://127.0.0.2", certificate.ca_path)):
            with pytest.raises(LedgerFailure, match="certificate verify failed"):
                asyncio.run(RedisLedger(Place(f"{url}:{port}", authority=authority), PATIENT_S).open())


def test_a_password_comes_from_a_private_file(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("correct\n")
    password.chmod(0o600)

    async def use(ledger: RedisLedger) -> None:
        assert not (await ledger.take(ask_for("a", of_client(queries_per_day=1)))).reason

    with run_redis(tmp_path, "--requirepass", "correct") as socket:
        url = f"redis+unix://{socket}"
        run_with(Place(url, password_file=password), use)
        with pytest.raises(LedgerFailure, match=r"(?i)auth"):
            asyncio.run(RedisLedger(Place(url), PATIENT_S).open())
        password.chmod(0o644)
        with pytest.raises(LedgerFailure, match="other users can read"):
            asyncio.run(RedisLedger(Place(url, password_file=password), PATIENT_S).open())
