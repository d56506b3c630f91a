"""The service as Envoy meets it, a process behind a unix socket: what it says, and never says yes by mistake."""

import os
import resource
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path

from garrison.gateway.budget.allowances import ALL_MODELS, Allowance
from garrison.gateway.budget.ledger import DAY_S
from garrison.gateway.budget.messages import OK, OVER_LIMIT
from garrison.gateway.budget.place import Place
from unit.gateway.budget.counting import WAIT_S, Service, make_plan, run_redis, run_service

THREE = {ALL_MODELS: Allowance(queries_per_day=3)}
ONE_PLACE = {ALL_MODELS: Allowance(concurrent=1)}


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def named(service: Service, event: str) -> list[str]:
    return [line["message"] for line in service.events() if line["event"] == event]


def test_it_says_no_with_the_reason_and_the_time_until_midnight(tmp_path: Path) -> None:
    with run_service(tmp_path, make_plan(tmp_path, bank=THREE)) as service:
        codes = [service.said(str(number)).overall_code for number in range(4)]
        refused = service.said("4")
    assert codes == [OK, OK, OK, OVER_LIMIT]
    (header,) = refused.response_headers_to_add
    left = DAY_S - int(time.time()) % DAY_S
    assert header.key == "retry-after"
    assert abs(int(header.value) - left) < WAIT_S or int(header.value) < WAIT_S  # midnight came while this ran


def test_a_budget_outlasts_a_stop_and_a_kill(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, bank=THREE)
    for number, end in enumerate((signal.SIGTERM, signal.SIGKILL, signal.SIGTERM)):
        with run_service(tmp_path, plan, gateway=str(number)) as service:
            assert service.begin(str(number)) == ""
            service.stop(end)
    with run_service(tmp_path, plan) as service:
        assert service.begin("4") == "budget_used"


def test_a_place_outlasts_who_counts_but_not_envoy(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, bank=ONE_PLACE)
    for gateway, expected in (("one", ""), ("one", "too_many_concurrent"), ("two", "")):
        with run_service(tmp_path, plan, gateway=gateway) as service:
            assert service.begin(gateway + expected) == expected
            service.stop(signal.SIGKILL)


def test_an_end_frees_a_place(tmp_path: Path) -> None:
    with run_service(tmp_path, make_plan(tmp_path, bank=ONE_PLACE)) as service:
        assert [service.begin(stream) for stream in "ab"] == ["", "too_many_concurrent"]
        service.end("b")
        assert service.begin("c") == "too_many_concurrent"
        service.end("a")
        assert service.begin("d") == ""


def test_it_does_not_answer_for_who_has_no_budget_here(tmp_path: Path) -> None:
    """Envoy asks for those only who have one; if it asks for another, somebody has an old list."""
    with run_service(tmp_path, make_plan(tmp_path, bank=THREE)) as service:
        assert service.fails("a", client="stranger")
        assert not service.fails("b")
        assert "stranger: has no budget here" in named(service, "budgets_unavailable")[0]


def test_a_model_without_a_limit_of_its_own_is_free(tmp_path: Path) -> None:
    with run_service(tmp_path, make_plan(tmp_path, bank={"digits": Allowance(queries_per_day=1)})) as service:
        assert [service.begin(str(n), model=model) for n, model in enumerate(["digits", "digits", "faces"])] == [
            "", "budget_used", "",
        ]  # fmt: skip


def test_a_new_plan_holds_at_once_and_keeps_what_was_counted(tmp_path: Path) -> None:
    with run_service(tmp_path, make_plan(tmp_path, bank=THREE)) as service:
        assert [service.begin(str(number)) for number in range(4)][-1] == "budget_used"
        service.write(make_plan(tmp_path, bank={ALL_MODELS: Allowance(queries_per_day=5)}, shop=THREE))
        assert service.begin("5", client="shop") == ""  # who is unknown makes it look
        assert [service.begin(str(number)) for number in range(6, 9)] == ["", "", "budget_used"]


def test_who_lost_a_budget_is_not_locked_out_while_envoy_still_asks(tmp_path: Path) -> None:
    with run_service(tmp_path, make_plan(tmp_path, bank=THREE, shop=THREE)) as service:
        service.begin("a")
        service.write(make_plan(tmp_path, shop=THREE))
        wait_for(lambda: [service.begin(str(n)) for n in range(9)].count("") == 9)


def test_a_bad_plan_changes_nothing(tmp_path: Path) -> None:
    with run_service(tmp_path, make_plan(tmp_path, bank=THREE)) as service:
        service.begin("a")
        service.plan_path.write_text('{"clients": {"bank": {}}}')
        wait_for(lambda: bool(named(service, "budgets_refused")))
        assert [service.begin(stream) for stream in "bcd"] == ["", "", "budget_used"]


def test_without_a_plan_it_does_not_start(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, bank=THREE)
    service = Service(tmp_path, plan)
    service.stop()
    service.plan_path.unlink()
    with service.log_path.open("ab") as log:
        assert os.spawnv(os.P_WAIT, service.process.args[0], service.process.args) == 78  # type: ignore[index, arg-type]
    assert log.closed


def test_a_damaged_file_refuses_until_somebody_takes_it_away(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, bank=THREE)
    with run_service(tmp_path, plan) as service:
        service.begin("a")
    file = plan.directory / "budgets.sqlite"
    file.write_bytes(b"\x5a" * file.stat().st_size)
    with run_service(tmp_path, plan) as service:
        assert service.fails("b")
        assert "not a database" in named(service, "budgets_unavailable")[0]
        file.unlink()
        wait_for(lambda: not service.fails("c"))
        assert named(service, "budgets_available") == ["budgets can be counted again"]


def test_a_full_disk_refuses(tmp_path: Path) -> None:
    """No file of this process may grow any more: what a full disk looks like to it."""
    plan = make_plan(tmp_path, bank={ALL_MODELS: Allowance(queries_per_day=1000)})
    with run_service(tmp_path, plan) as service:
        assert service.begin("a") == ""
        resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (4096, 4096))
        refused = [service.fails(str(number)) for number in range(5)]
        assert refused[-1]
        assert any("budgets.sqlite" in message for message in named(service, "budgets_unavailable"))


def test_a_redis_that_is_gone_refuses_until_it_is_back(tmp_path: Path) -> None:
    place = Place(f"redis+unix://{tmp_path}/redis.sock")
    with run_service(tmp_path, make_plan(tmp_path, place, bank=THREE)) as service:
        assert service.fails("a")
        with run_redis(tmp_path):
            wait_for(lambda: not service.fails("b"))
            assert service.begin("c") == ""
        assert service.fails("d")


def test_its_socket_and_its_directory_are_private(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, bank=THREE)
    with run_service(tmp_path, plan) as service:
        service.begin("a")
        assert stat.S_IMODE((tmp_path / "b.sock").stat().st_mode) & 0o077 == 0
        assert stat.S_IMODE(plan.directory.stat().st_mode) == 0o700
        assert service.stop() == 0
