"""The table, row by row: the attack gets its verdict and the server sees nothing; its benign twin passes."""

import json
from collections import Counter

import pytest

from attacks.gateway.door import Door, SlowAnswers
from attacks.gateway.exchange import Answer
from attacks.gateway.recorder import ANSWER
from attacks.gateway.rows import GROUPS, OTHER_WAYS, QUICK, SLOW
from attacks.gateway.rows.row import Row
from garrison.gateway.replies import REPLIES

IDS = [f"{group}: {row.name}" for group, row in QUICK]
SLOW_IDS = [row.name for row in SLOW]


@pytest.mark.parametrize(("group", "row"), QUICK, ids=IDS)
def test_the_attack_is_stopped_and_its_twin_is_not(
    shipped: Door, hurried: Door, mixed: Door, group: str, row: Row
) -> None:
    door = mixed if group in OTHER_WAYS else hurried if row.ends_connection else shipped
    door.forget()
    answers = door.attempt(row.attack, len(row.verdicts))
    assert_stopped(row, answers)
    assert_clean(door, row)
    assert_passes(door, row)


@pytest.mark.parametrize("row", SLOW, ids=SLOW_IDS)
def test_who_is_slow_is_sent_away_and_who_is_not_is_served(hurried: Door, slow: SlowAnswers, row: Row) -> None:
    assert_stopped(row, slow.answers[row.name])
    hurried.forget()
    answers = hurried.attempt(row.twin, row.twins)
    assert [(answer.verdict, answer.body) for answer in answers] == [(200, ANSWER)] * row.twins, answers


def test_the_server_sees_nothing_of_who_is_slow(slow: SlowAnswers) -> None:
    """But of who asks, and then says nothing or does not read."""
    assert len(slow.seen) == sum(row.arriving for row in SLOW)


def assert_stopped(row: Row, answers: list[Answer]) -> None:
    """Check the verdicts; a refusal says what the catalogue says, and nothing else."""
    assert tuple(answer.verdict for answer in answers) == row.verdicts, answers
    for answer in answers:
        if isinstance(answer.verdict, int) and answer.verdict >= 400 and answer.body:
            reply = REPLIES[answer.verdict]
            assert json.loads(answer.body) == {"reason": reply.reason, "message": reply.message}


def assert_clean(door: Door, row: Row) -> None:
    """Check that the server saw the good requests, if there were any, without what must not be in them."""
    assert len(door.seen()) == row.arriving, door.seen()
    for seen in door.seen():
        assert not [part for part in row.absent if part in seen.raw], seen
        assert b"\nx-garrison-client: demo\r\n" in seen.raw


def assert_passes(door: Door, row: Row) -> None:
    """Check that the twin is answered, and that nothing arrives with it that the attack had left behind."""
    answers = door.attempt(row.twin, row.twins)
    assert [(answer.verdict, answer.body) for answer in answers] == [(200, ANSWER)] * row.twins, answers
    assert len(door.seen()) == row.arriving + row.twins


def test_the_table_is_as_long_as_it_says() -> None:
    assert not [name for name, count in Counter(IDS + SLOW_IDS).items() if count > 1]
    assert len(IDS) + len(SLOW_IDS) >= 300
    assert all(GROUPS.values())
