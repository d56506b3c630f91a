"""What the gateway's launcher counts: lines of the access log enter; names that nobody configured are one series."""

import json
from typing import Any

import pytest

from garrison.watch.answers import Answers

REASONS = ("unauthenticated", "not_found", "rate_limited")


def make_line(**fields: Any) -> bytes:
    event = {"event": "request", "model": "digits", "client": "alice", "status": 200, "duration_ms": 7, "api": "rest"}
    return json.dumps({**event, **fields}).encode()


@pytest.fixture
def answers() -> Answers:
    answers = Answers(REASONS)
    answers.know(("digits", "scenes"), ("alice", "bob"))
    return answers


def rises(answers: Answers, *lines: bytes) -> dict[tuple[str, ...], float]:
    """Return what has risen by these lines, without the common part of names; time apart."""
    before = answers.counts()
    for line in lines:
        answers.count_line(line)
    after = answers.counts()
    assert before.keys() == after.keys()
    return {
        (name.removeprefix("garrison_gateway_"), *labels): after[name, labels] - before[name, labels]
        for name, labels in after
        if after[name, labels] != before[name, labels] and "seconds" not in name
    }


@pytest.mark.parametrize(
    ("fields", "model", "client", "ended"),
    [
        ({}, "digits", "alice", "2xx"),
        ({"status": 429}, "digits", "alice", "4xx"),
        ({"status": 503}, "digits", "alice", "5xx"),
        ({"status": 0}, "digits", "alice", "other"),
        ({"status": None}, "digits", "alice", "other"),
        ({"model": "", "client": ""}, "none", "none", "2xx"),
        ({"model": "cats"}, "other", "alice", "2xx"),
        ({"client": "mallory"}, "digits", "other", "2xx"),
        ({"client": ["alice"], "model": {"digits": 1}}, "other", "other", "2xx"),
        ({"grpc_status": 3}, "digits", "alice", "4xx"),
        ({"grpc_status": 14}, "digits", "alice", "5xx"),
        ({"grpc_status": 0}, "digits", "alice", "2xx"),
    ],
    ids=str,
)
def test_a_request_counts_once_by_model_and_once_by_client(
    answers: Answers, fields: dict[str, Any], model: str, client: str, ended: str
) -> None:
    assert rises(answers, make_line(**fields)) == {
        ("responses_total", model, ended): 1,
        ("client_responses_total", client, ended): 1,
    }


def test_refusals_count_by_reasons_of_the_catalogue(answers: Answers) -> None:
    refused = [make_line(status=401, reason=reason) for reason in ("unauthenticated", "too_dark", ["rate_limited"])]
    found = {key: count for key, count in rises(answers, *refused).items() if key[0] == "refusals_total"}
    assert found == {("refusals_total", "unauthenticated"): 1, ("refusals_total", "in_its_own_words"): 2}


def test_attempts_and_probes_are_told_apart(answers: Answers) -> None:
    nowhere = {"status": 404, "reason": "not_found", "model": "", "client": "", "api": ""}
    found = rises(answers, make_line(event="management_attempt", **nowhere), *[make_line(**nowhere)] * 2)
    assert (found["management_attempts_total",], found["probes_total",]) == (1, 2)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"not JSON",
        b'{"duration_ms"',
        b'["duration_ms"]',
        b'{"event": "log", "message": "\\"duration_ms\\"", "duration_ms": 1}',
        b"[" * 100_000 + b'"duration_ms"',
    ],
    ids=lambda line: line[:20].decode(),
)
def test_what_is_no_request_is_not_counted(answers: Answers, line: bytes) -> None:
    assert rises(answers, line) == {}


@pytest.mark.parametrize(
    ("duration_ms", "bucket"), [(0, "0.001"), (1, "0.001"), (2, "0.0025"), (10_000, "10.0"), (10_001, "+Inf")]
)
def test_the_time_of_an_answer_is_in_its_bucket(answers: Answers, duration_ms: int, bucket: str) -> None:
    answers.count_line(make_line(duration_ms=duration_ms))
    answers.count_line(make_line(duration_ms=duration_ms, status=413))  # says nothing about how fast the model is
    counts = answers.counts()
    assert counts["garrison_gateway_request_seconds_bucket", ("digits", bucket)] == 1
    assert counts["garrison_gateway_request_seconds_sum", ("digits",)] == duration_ms / 1000


@pytest.mark.parametrize("field", ["status", "grpc_status", "duration_ms"])
@pytest.mark.parametrize(
    "value", [-1, 10**400, float("inf"), 0.5, True, "200", [200], {"1": 2}], ids=lambda v: str(v)[:5]
)
def test_what_is_no_number_of_envoys_ends_nothing_and_makes_no_series(
    answers: Answers, field: str, value: object
) -> None:
    before = answers.counts()
    answers.count_line(make_line(**{field: value}))
    assert answers.counts().keys() == before.keys()
    assert 0 <= answers.counts()["garrison_gateway_request_seconds_sum", ("digits",)] < 1


def test_a_new_configuration_keeps_the_counts_of_who_stays(answers: Answers) -> None:
    answers.count_line(make_line())
    answers.know(("digits",), ("alice", "carol"))
    clients = {labels[0] for name, labels in answers.counts() if "client" in name}
    assert clients == {"alice", "carol", "none", "other"}
    assert answers.counts()["garrison_gateway_client_responses_total", ("alice", "2xx")] == 1


class Everything(frozenset[str]):
    """Knows every name: the defence that is off."""

    def __contains__(self, name: object) -> bool:
        return True


def test_without_the_lists_of_names_a_stranger_makes_series(answers: Answers) -> None:
    answers._models = Everything()
    before = len(answers.counts())
    for number in range(100):
        answers.count_line(make_line(model=f"model{number}"))
    assert len(answers.counts()) > before + 100
