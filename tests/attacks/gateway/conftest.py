"""The doors to the recorders: the gateway, one that is in a hurry, and what is no gateway."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from attacks.gateway.door import (
    Door,
    Grounds,
    SlowAnswers,
    open_door,
    open_grounds,
    open_naive_door,
    wait_for_nobody,
)
from attacks.gateway.rows import SLOW


@pytest.fixture(scope="package")
def grounds() -> Iterator[Grounds]:
    """Keys, a certificate, and the recorders that every door leads to."""
    with open_grounds() as grounds:
        yield grounds


@pytest.fixture(scope="package")
def shipped(grounds: Grounds) -> Iterator[Door]:
    """The gateway with the configuration as it ships."""
    with open_door(grounds, in_parts=True) as door:
        yield door


@pytest.fixture(scope="package")
def hurried(grounds: Grounds) -> Iterator[Door]:
    """The same gateway with shorter timeouts: for those who are slow, and for refusals that end the connection.

    Envoy waits a second for the client to do that.
    """
    with open_door(grounds.hurry(handshake_s=1, headers_s=1, request_s=2, idle_s=2), wait_for_nobody) as door:
        yield door


@pytest.fixture(scope="package")
def mixed(grounds: Grounds) -> Iterator[Door]:
    """A gateway that accepts tokens of an issuer, client certificates, or for one model a certificate and a key."""
    with open_door(grounds.in_other_ways(), wait_for_nobody) as door:
        yield door


@pytest.fixture(scope="package")
def naive(grounds: Grounds) -> Iterator[Door]:
    """What is no gateway, in front of the same recorders."""
    with open_naive_door(grounds) as door:
        yield door


@pytest.fixture(scope="package")
def slow(hurried: Door) -> SlowAnswers:
    """What those who are slow are told; they come all at once."""
    hurried.forget()
    with ThreadPoolExecutor(len(SLOW)) as pool:
        waiting = {row.name: pool.submit(hurried.attempt, row.attack, len(row.verdicts)) for row in SLOW}
    return SlowAnswers({name: answers.result() for name, answers in waiting.items()}, list(hurried.seen()))
