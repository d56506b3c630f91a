"""Queries per day and requests in progress, with a real Envoy and the real service: exact, lasting, fail-closed."""

import contextlib
import os
import signal
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from garrison.gateway.budget.ledger import DAY_S
from stack.counted import Counted, find_file, open_counted
from stack.gateways import WAIT_S, Place, http_manager, open_place, read_reply, wait_until, with_script_broken, without

CLIENTS = """
clients:
  free: {models: [digits, faces], requests_per_second: 1000, burst: 1000}
  daily: {models: [digits, faces], requests_per_second: 1000, burst: 1000, queries_per_day: 3}
  again: {models: [digits, faces], requests_per_second: 1000, burst: 1000, queries_per_day: 3}
  split: {models: {digits: {queries_per_day: 2}, faces: {}}, requests_per_second: 1000, burst: 1000, queries_per_day: 4}
  narrow: {models: {digits: {concurrent: 1}, faces: {}}, requests_per_second: 1000, burst: 1000, concurrent: 2}
  gone: {models: [digits], requests_per_second: 1000, burst: 1000, concurrent: 1}
  steady: {models: [digits], requests_per_second: 1000, burst: 1000, concurrent: 1000, queries_per_day: 100000}
"""
OK = (200, "")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with open_place(tmp_path_factory.mktemp("b"), clients=CLIENTS) as place:
        yield place


@pytest.fixture(scope="module")
def running(place: Place) -> Iterator[Counted]:
    with open_counted(place) as gateway:
        yield gateway


@pytest.fixture
def counted(running: Counted, place: Place) -> Counted:
    """The shared gateway, with nothing recorded yet."""
    place.reset()
    return running


@contextlib.contextmanager
def held_open(counted: Counted, client: str, model: str = "digits") -> Iterator[ssl.SSLSocket]:
    """Let the server keep one request until the block ends."""
    place = counted.place
    place.inference.arrived.clear()
    place.inference.answer.gate.clear()
    head = f"POST /predictions/{model} HTTP/1.1\r\nhost: localhost\r\nx-api-key: {counted.key(client)}\r\n"
    with counted.connect() as connection:
        connection.sendall(f"{head}content-length: 1\r\n\r\nx".encode())
        assert place.inference.arrived.wait(WAIT_S)
        try:
            yield connection
        finally:
            place.inference.answer.gate.set()


def until(condition: Callable[[], bool]) -> bool:
    return any(condition() for _ in wait_until(WAIT_S))


# Queries per day ------------------------------------------------------------------------------------------------------


def test_a_budget_ends_exactly_where_it_says_and_the_model_sees_no_more(counted: Counted) -> None:
    found = [counted.ask("daily") for _ in range(5)]
    assert found == [OK, OK, OK, (429, "budget_used"), (429, "budget_used")]
    assert len(counted.place.inference.seen) == 3


def test_the_refusal_says_when_to_come_back(counted: Counted) -> None:
    for _ in range(4):
        reply = counted.send("POST", "/predictions/faces", {"x-api-key": counted.key("again")}, b"x")
    assert (reply.status, reply.reason, reply.headers["x-garrison-reason"]) == (429, "budget_used", "budget_used")
    assert reply.headers.get_all("retry-after") == [str(int(reply.headers["retry-after"]))]
    left = DAY_S - int(time.time()) % DAY_S
    assert abs(int(reply.headers["retry-after"]) - left) < WAIT_S or int(reply.headers["retry-after"]) < WAIT_S
    assert "midnight UTC" in reply.body.decode()


def test_a_model_has_a_budget_within_that_of_its_client(counted: Counted) -> None:
    found = [counted.ask("split", model) for model in ["digits"] * 3 + ["faces"] * 3]
    assert found == [OK, OK, (429, "budget_used"), OK, OK, (429, "budget_used")]


def test_who_has_no_budget_is_not_asked_about(counted: Counted) -> None:
    before = counted.count_asked()
    assert [counted.ask("free") for _ in range(3)] == [OK] * 3
    assert counted.count_asked() == before
    counted.ask("steady")
    assert counted.count_asked() == before + 1


def test_what_is_refused_for_another_reason_uses_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    with open_place(tmp_path_factory.mktemp("b"), clients=CLIENTS) as place, open_counted(place) as gateway:
        key = {"x-api-key": gateway.key("daily")}
        for target, headers, body, status in (
            ("/predictions/digits", {**key, "content-type": "text"}, b"x", 415),
            ("/predictions/digits", key, bytes(65 * 1024), 413),
            ("/predictions/nothing", key, b"x", 404),
            ("/predictions/digits", {}, b"x", 401),
        ):
            assert gateway.send("POST", target, headers, body).status == status
        assert [gateway.ask("daily")[0] for _ in range(4)] == [200, 200, 200, 429]


def test_a_budget_outlasts_gateway_and_service(tmp_path_factory: pytest.TempPathFactory) -> None:
    with open_place(tmp_path_factory.mktemp("b"), clients=CLIENTS) as place:
        with open_counted(place) as gateway:
            assert [gateway.ask("daily") for _ in range(2)] == [OK, OK]
        with open_counted(place) as gateway:
            assert gateway.ask("daily") == OK
            os.kill(gateway.budget.pids()[0], signal.SIGKILL)
        with open_counted(place) as gateway:
            assert gateway.ask("daily") == (429, "budget_used")


# Requests in progress -------------------------------------------------------------------------------------------------


def test_places_are_as_many_as_it_says(counted: Counted) -> None:
    with held_open(counted, "narrow"):
        assert counted.ask("narrow") == (429, "too_many_concurrent")  # the model's one
        with ThreadPoolExecutor(1) as pool:
            counted.place.inference.arrived.clear()
            other = pool.submit(counted.ask, "narrow", "faces")
            assert counted.place.inference.arrived.wait(WAIT_S)
            assert counted.ask("narrow", "faces") == (429, "too_many_concurrent")  # the client's two
            assert len(counted.place.inference.seen) == 2
            counted.place.inference.answer.gate.set()
            assert other.result() == OK
    assert until(lambda: counted.ask("narrow") == OK)


def test_an_answer_frees_its_place_at_once(counted: Counted) -> None:
    assert [counted.ask("gone") for _ in range(20)].count(OK) >= 19  # the last stream's end may be on its way


@pytest.mark.parametrize("how", ["closes", "resets"])
def test_a_client_that_goes_away_frees_its_place(counted: Counted, how: str) -> None:
    with held_open(counted, "gone") as connection:
        assert counted.ask("gone") == (429, "too_many_concurrent")
        if how == "resets":
            connection.setsockopt(1, 13, b"\x01\0\0\0\0\0\0\0")  # SO_LINGER: on, for 0 s
        connection.close()
        counted.place.inference.answer.gate.set()
        assert until(lambda: counted.ask("gone") == OK)


def test_a_server_that_hangs_frees_it_with_the_answer_that_it_took_too_long(counted: Counted) -> None:
    with held_open(counted, "gone") as connection:
        reply = read_reply(connection)
        assert (reply.status, reply.reason) == (504, "timeout")
        counted.place.inference.answer.gate.set()
        assert until(lambda: counted.ask("gone") == OK)


# Whatever goes wrong --------------------------------------------------------------------------------------------------


def kill_service(gateway: Counted) -> None:
    gateway.budget.stop()


def freeze_service(gateway: Counted) -> None:
    os.kill(gateway.budget.pids()[0], signal.SIGSTOP)


def damage_file(gateway: Counted) -> None:
    gateway.budget.stop()
    file = find_file(gateway.place)
    file.write_bytes(b"\x5a" * file.stat().st_size)
    gateway.begin_again()


def take_directory_away(gateway: Counted) -> None:
    gateway.budget.stop()
    find_file(gateway.place).parent.chmod(0o755)  # others may look in: not what it was made as
    gateway.begin_again()


@pytest.mark.parametrize("fault", [kill_service, freeze_service, damage_file, take_directory_away])
def test_what_cannot_be_counted_is_refused(
    tmp_path_factory: pytest.TempPathFactory, fault: Callable[[Counted], None]
) -> None:
    with open_place(tmp_path_factory.mktemp("b"), clients=CLIENTS) as place, open_counted(place) as gateway:
        assert gateway.ask("steady") == OK
        fault(gateway)
        place.reset()
        for _ in range(5):
            assert gateway.ask("steady") == (503, "unavailable")
        assert place.inference.seen == []
        assert gateway.ask("free") == OK  # whoever has no budget does not notice
        assert "rate_limiter_error" in gateway.access_log(2)[1]["detail"]
        for pid in gateway.budget.pids():
            os.kill(pid, signal.SIGCONT)


def test_a_service_that_died_is_there_again(tmp_path_factory: pytest.TempPathFactory) -> None:
    with open_place(tmp_path_factory.mktemp("b"), clients=CLIENTS) as place, open_counted(place) as gateway:
        assert gateway.ask("daily") == OK
        os.kill(gateway.budget.pids()[0], signal.SIGKILL)
        assert until(lambda: gateway.budget.replace_dead() or gateway.ask("daily") == OK)  # type: ignore[func-returns-value]
        assert until(lambda: gateway.ask("daily") == (429, "budget_used"))
        assert [event["event"] for event in gateway.events()] == ["restarting"]


def test_a_budget_that_cannot_be_looked_up_is_no_yes(place: Place) -> None:
    """Envoy's Lua filter lets a request pass when its script raises; ours must not."""
    broken = with_script_broken("garrison.identity", "counted = budgeted[client]", "counted = no_such_function(client)")
    with open_counted(place, broken) as gateway:
        assert gateway.ask("steady") == (500, "server_error")
        assert place.inference.seen == []


def allow_on_failure(config: dict[str, Any]) -> None:
    (limiter,) = [f for f in http_manager(config)["http_filters"] if f["name"] == "envoy.filters.http.ratelimit"]
    limiter["typed_config"]["failure_mode_deny"] = False


@pytest.mark.parametrize("change", [allow_on_failure, without("ratelimit")], ids=["told to allow", "not asked"])
def test_it_is_the_filter_that_refuses(place: Place, change: Callable[[dict[str, Any]], None]) -> None:
    with open_counted(place, change) as gateway:
        kill_service(gateway)
        assert gateway.ask("steady") == OK
