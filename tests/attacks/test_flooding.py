"""One client asks for everything there is.

A script in a loop, a retry without a pause, or somebody who copies the model by asking it a million questions: each
request is good, together they leave nothing for the others. Here each client has a bucket of its own.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from attacks.catalogue import BURST, Attack, attacks_on, send_many
from attacks.weakened import gateway_without
from stack.running import Answer, RunningStack, Target


def is_limited(target: Target, key: str) -> bool:
    return 429 in [answer.status for answer in send_many(target, key)]


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


# Without the gate -----------------------------------------------------------------------------------------------------


def test_without_the_limit_the_burst_is_answered(running: RunningStack, directory: Path) -> None:
    with gateway_without(running, directory, "local_ratelimit") as weak:
        assert [answer.status for answer in send_many(weak, "hasty")] == [200] * BURST
