"""Two servers behind one gateway, each a command of its own: a new version comes in without a failed request.

And what is killed instead of stopped: who asks meanwhile gets an answer or the gateway's clear refusal.
"""

import contextlib
import http.client
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from attacks.catalogue import sample_digit
from stack.observing import wait_for
from stack.running import Answer, Target
from stack.split import SplitStack

CLIENTS = 6
STOPPED_WITHIN_S = 12  # the longest timeout, if it waited for connections that nobody uses
OLD, NEW = "decimals: 4", "decimals: 2"  # a version is told by how many decimals it gives


class Callers:
    """Clients that ask one after the other, each on a connection of its own, until they are told to stop."""

    def __init__(self, target: Target, *, reconnect: bool = False) -> None:
        self.answers: list[tuple[float, Answer]] = []
        self.errors: list[Exception] = []
        self._target = target
        self._reconnect = reconnect
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        body = sample_digit()
        with contextlib.ExitStack() as open_connections:
            connection = self._target.connect()
            open_connections.callback(connection.close)
            while not self._stop.wait(0.03):
                try:
                    self.answers.append((time.monotonic(), self._target.send(body=body, connection=connection)))
                except (OSError, http.client.HTTPException) as error:
                    self.errors.append(error)
                    connection.close()

    def finish(self) -> Counter[int]:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive(), "a client hangs"
        return Counter(answer.status for _, answer in self.answers)


def decimals(answer: Answer) -> int:
    """Return how many decimals the scores of an answer have at most."""
    return max(len(str(score).partition(".")[2]) for score in answer.json.values())


@pytest.fixture(scope="module")
def pair() -> Iterator[SplitStack]:
    """Two servers and their gateway."""
    with SplitStack.prepared() as stack:
        stack.admit("1")
        for name in ("one", "two"):
            stack.start_server(name)
        stack.render("one", "two")
        stack.start_gateway().wait_until_ready()
        for name in ("one", "two"):
            stack.commands[name].wait_until_ready()
        wait_for(stack.place.is_ready, "the gateway has seen it")
        yield stack


def test_rolling_to_a_new_version_fails_no_request(pair: SplitStack) -> None:
    callers = Callers(pair.target)
    time.sleep(1)
    pair.admit("2", {OLD: NEW})
    for name in ("one", "two"):
        old = pair.commands[name]
        began = time.monotonic()
        assert old.stop() == 0, old.said()
        assert time.monotonic() - began < STOPPED_WITHIN_S  # it does not wait for connections that nobody uses
        assert not [event for event in old.events() if event["event"] == "drain_timeout"]
        pair.start_server(name).wait_until_ready()
        time.sleep(2)  # until the gateway sends it requests
    rolled = time.monotonic()
    time.sleep(2)
    assert callers.finish() == {200: len(callers.answers)}
    assert callers.errors == []
    assert decimals(callers.answers[0][1]) == 4
    after = [decimals(answer) for moment, answer in callers.answers if moment > rolled]
    assert after and max(after) <= 2


def test_a_server_that_is_killed_costs_only_what_it_had_in_hand(pair: SplitStack) -> None:
    """Who was being answered hears the gateway's refusal; everybody else is answered by the other server."""
    victim = pair.commands["one"]
    callers = Callers(pair.target)
    time.sleep(1)
    victim.process.kill()
    victim.process.wait()
    time.sleep(4)
    statuses = callers.finish()
    assert set(statuses) <= {200, 502, 503}, statuses
    assert statuses[200] > 0.9 * sum(statuses.values())
    assert sum(statuses.values()) - statuses[200] <= CLIENTS
    assert {answer.reason for _, answer in callers.answers if answer.status != 200} <= {"bad_gateway", "unavailable"}
    assert callers.errors == []
    pair.start_server("one").wait_until_ready()  # over what the killed one left behind
    callers = Callers(pair.target)
    time.sleep(3)
    assert callers.finish() == {200: len(callers.answers)}


def test_without_any_server_the_refusal_comes_at_once_and_says_so(pair: SplitStack) -> None:
    assert pair.status("--gateway", "--run-dir", pair.gateway_run)[0] == 0
    for name in ("one", "two"):
        pair.commands[name].process.kill()
        pair.commands[name].process.wait()
    wait_for(lambda: pair.target.send(body=sample_digit()).reason == "unavailable", "the gateway says so")
    assert pair.target.send("GET", "/healthz", key=None).status == 503
    answers = [pair.target.send(body=sample_digit()) for _ in range(5)]
    assert {(answer.status, answer.reason) for answer in answers} == {(503, "unavailable")}
    assert max(answer.seconds for answer in answers) < 1
    wait_for(lambda: says_why(pair), "the log says why")
    assert pair.status("--gateway", "--run-dir", pair.gateway_run)[0] == 0  # the gateway itself is well
    for name in ("one", "two"):
        assert pair.status("--sockets", pair.sockets(name))[0] == 1
        pair.start_server(name)
    pair.commands["one"].wait_until_ready()
    wait_for(lambda: pair.target.send(body=sample_digit()).status == 200, "one server is enough")
    assert pair.status("--sockets", pair.sockets("one"))[0] == 0
    pair.commands["two"].wait_until_ready()


def says_why(stack: SplitStack) -> bool:
    """Ask once more: until the gateway has counted out both servers, it logs a failed connection instead."""
    assert stack.target.send(body=sample_digit()).status == 503
    return any("no_healthy_upstream" in one.get("detail", "") for one in requests(stack))


def requests(stack: SplitStack) -> list[dict[str, object]]:
    return [event for event in stack.commands["gateway"].events() if event["event"] == "request"]
