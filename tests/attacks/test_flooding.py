"""One client asks for everything there is.

A script in a loop, a retry without a pause, or somebody who copies the model by asking it a million questions: each
request is good, together they leave nothing for the others. Here each client has a bucket of its own.

Or each request is bad: a bomb costs the server a thousandth of what it is worth, but a few hundred a second, over many
connections, take most of a small machine. Here connections that send little else wait for each other, and so does a
client that is over its limit.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from attacks.catalogue import BURST, Attack, attacks_on, png_bomb, sample_digit, send_many
from attacks.weakened import gateway_without
from stack.observing import wait_for
from stack.running import Answer, RunningStack, Target, send_together

BOMBS = 320
DELAYED = "DI"  # Envoy's flag for a request that was made to wait


def is_limited(target: Target, key: str) -> bool:
    return 429 in [answer.status for answer in send_many(target, key)]


@pytest.fixture(scope="module")
def flooded(packed_digits: Path) -> Iterator[RunningStack]:
    """A stack whose log holds nothing but what is sent here."""
    with RunningStack(packed_digits) as stack:
        yield stack


@pytest.mark.parametrize("attack", attacks_on("flooding"), ids=lambda attack: attack.name)
def test_the_attack_is_stopped(
    target: Target, attack: Attack, assert_stopped: Callable[[Attack, Answer], None]
) -> None:
    answer = attack.attempt(target)
    assert_stopped(attack, answer)
    assert answer.headers["retry-after"] == "1"


def test_others_are_answered_meanwhile(target: Target) -> None:
    assert is_limited(target, "hasty")
    assert [answer.status for answer in send_many(target, "demo")] == [200] * BURST


def test_a_new_key_is_no_new_bucket(target: Target) -> None:
    """`hasty` asks for a second key; the bucket is the client's, not the key's."""
    assert is_limited(target, "hasty")
    first = send_many(target, "hasty again")[:10]  # as many as a full bucket would let through
    assert 429 in [answer.status for answer in first]


def list_waits(stack: RunningStack, status: int) -> list[bool]:
    """Say of each request with this answer whether it had to wait."""
    requests = [event for event in stack.events() if event["event"] == "request" and event["status"] == status]
    return [DELAYED in event["detail"].split()[-1].split(",") for event in requests]


def test_bombs_over_many_connections_wait_for_each_other(flooded: RunningStack) -> None:
    answers = send_together(flooded.target, [("digits", png_bomb())] * BOMBS)
    assert {(answer.status, answer.reason) for answer in answers} == {(413, "too_many_pixels")}
    wait_for(lambda: len(list_waits(flooded, 413)) >= BOMBS, "every bomb in the log")
    assert any(list_waits(flooded, 413))


def test_who_sends_good_requests_does_not_wait(flooded: RunningStack) -> None:
    """A connection of which every third picture is bad is no flood, and neither is one beside a flood."""
    mixed = [png_bomb() if index % 3 == 2 else sample_digit() for index in range(60)]
    before = len(list_waits(flooded, 200))
    send_together(flooded.target, [("digits", png_bomb())] * BOMBS)
    answers = send_together(flooded.target, [("digits", body) for body in mixed], connections=1)
    assert [answer.status for answer in answers] == [200, 200, 413] * 20
    wait_for(lambda: len(list_waits(flooded, 200)) >= before + 40, "every answer in the log")
    assert not any(list_waits(flooded, 200))


def test_who_tries_one_bad_file_after_the_other_is_not_held_up(flooded: RunningStack) -> None:
    answers = send_together(flooded.target, [("digits", b"not a picture")] * 40, connections=1)
    assert {answer.status for answer in answers} == {415}
    assert sum(answer.seconds >= 1 for answer in answers) < 4


def test_asking_for_health_between_the_bombs_is_no_excuse(flooded: RunningStack) -> None:
    """A request that needs no key and costs nothing must not make up for one that was refused."""

    def send_some(_: int) -> None:
        with contextlib.closing(flooded.target.connect()) as connection:
            for _ in range(BOMBS // 8):
                flooded.target.send(body=png_bomb(), connection=connection)
                flooded.target.send("GET", "/healthz", key=None, connection=connection)

    before = len(list_waits(flooded, 413))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(send_some, range(8)))
    wait_for(lambda: len(list_waits(flooded, 413)) >= before + BOMBS, "every bomb in the log")
    assert any(list_waits(flooded, 413)[before:])


def test_bad_requests_that_come_together_do_not_go_on_together(flooded: RunningStack) -> None:
    """If all of them waited for as long, waiting would change nothing for who sends many at a time."""
    answers = send_together(flooded.target, [("digits", b"not a picture")] * 3 * BOMBS, connections=60)
    assert {answer.status for answer in answers} == {415, 503}  # those whose turn is too far away
    refused = len([answer for answer in answers if answer.status == 415])
    wait_for(lambda: len(list_waits(flooded, 415)) >= refused, "all in the log")
    waited = [event for event in flooded.events() if event["event"] == "request" and event["status"] == 415]
    turns = {round(event["duration_ms"] / 40) for event in waited if DELAYED in event["detail"]}
    assert len(turns) > 5  # each its own


def test_a_client_cannot_claim_to_have_waited_or_make_itself_wait(flooded: RunningStack) -> None:
    before = len(list_waits(flooded, 200))
    assert flooded.target.send(body=sample_digit(), headers={"x-envoy-fault-delay-request": "900"}).status == 200
    wait_for(lambda: len(list_waits(flooded, 200)) > before, "the answer in the log")
    assert not list_waits(flooded, 200)[-1]


# Without the gate -----------------------------------------------------------------------------------------------------


def test_without_the_limit_the_burst_is_answered(running: RunningStack, directory: Path) -> None:
    with gateway_without(running, directory, "local_ratelimit") as weak:
        assert [answer.status for answer in send_many(weak, "hasty")] == [200] * BURST


def test_without_the_wait_bombs_come_as_fast_as_they_are_refused(flooded: RunningStack, directory: Path) -> None:
    with gateway_without(flooded, directory, "garrison.headers", "fault") as weak:
        assert measure_flood(weak) < measure_flood(flooded.target)


def measure_flood(target: Target) -> float:
    began = time.monotonic()
    assert {answer.status for answer in send_together(target, [("digits", png_bomb())] * BOMBS)} == {413}
    return time.monotonic() - began
