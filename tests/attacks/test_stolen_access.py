"""Somebody who may not ask, asks.

A model server that trusts its network answers everyone who reaches the port: the neighbour's service, the former
colleague whose key ought to have run out, the finder of a key in a log file who tries it on every model there is.
Here a key is a signed token that names its client and its models and ends on a day; the gateway verifies it before
anything else happens, and the file of clients has the last word.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from attacks.catalogue import Attack, attacks_on, sample_digit
from attacks.weakened import gateway_without
from stack.running import Answer, RunningStack, Target


@pytest.mark.parametrize("attack", attacks_on("stolen_access"), ids=lambda attack: attack.name)
def test_the_attack_is_stopped(
    target: Target, attack: Attack, assert_stopped: Callable[[Attack, Answer], None]
) -> None:
    assert_stopped(attack, attack.attempt(target))


def test_the_same_request_with_a_good_key_passes(target: Target) -> None:
    answer = target.send(body=sample_digit())
    assert (answer.status, next(iter(answer.json))) == (200, "seven")


def test_no_answer_tells_a_stranger_which_models_exist(target: Target) -> None:
    known, unknown = (target.send(path=f"/predictions/{name}", key=None) for name in ("digits", "no-such-model"))
    assert (known.status, known.body) == (unknown.status, unknown.body)


# Without the gate -----------------------------------------------------------------------------------------------------


def test_without_authentication_every_one_of_them_is_answered(running: RunningStack, directory: Path) -> None:
    with gateway_without(running, directory, "jwt_authn", "garrison.identity", "rbac") as weak:
        answers = [attack.attempt(weak) for attack in attacks_on("stolen_access")]
    assert [(answer.status, next(iter(answer.json))) for answer in answers] == [(200, "seven")] * len(answers)


def test_without_authorisation_other_models_and_unlisted_clients_pass(running: RunningStack, directory: Path) -> None:
    """What is left refuses a token that is not valid, and does not ask for one."""
    with gateway_without(running, directory, "garrison.identity", "rbac") as weak:
        statuses = {attack.name: attack.attempt(weak).status for attack in attacks_on("stolen_access")}
    assert statuses == {
        "no key": 200,
        "key with a forged signature": 401,
        "expired key": 401,
        "key for another model": 200,
        "good key of an unlisted client": 200,
    }
