"""The catalogue of refusals: each reason has its statuses, and no words of anybody else leave."""

import ast
from pathlib import Path

import grpc
import pytest

import garrison.guard
from garrison.errors import Failed, Malformed, Refused
from garrison.guard.refusals import GUARD_REASONS, find_statuses, find_words, refuse_for
from garrison.reasons import REASONS

PACKAGE = Path(garrison.guard.__file__).parent


def test_every_reason_of_the_guards_is_given_somewhere_besides_the_catalogue():
    elsewhere = set()
    for module in PACKAGE.rglob("*.py"):
        if module.name != "refusals.py":
            tree = ast.parse(module.read_text())
            elsewhere |= {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert {*GUARD_REASONS} - elsewhere <= {"internal"}


@pytest.mark.parametrize("reason", [*REASONS, *GUARD_REASONS])
def test_every_reason_has_a_status_in_both_protocols(reason):
    code, http_status = find_statuses(reason)
    assert code is not grpc.StatusCode.OK
    assert 400 <= http_status <= 599


@pytest.mark.parametrize(
    ("reason", "code", "http_status"),
    [
        ("bad_tensor", grpc.StatusCode.INVALID_ARGUMENT, 400),
        ("too_many_values", grpc.StatusCode.INVALID_ARGUMENT, 400),
        ("wrong_shape", grpc.StatusCode.INVALID_ARGUMENT, 400),
        ("message_too_large", grpc.StatusCode.RESOURCE_EXHAUSTED, 413),
        ("not_found", grpc.StatusCode.NOT_FOUND, 404),
        ("no_room", grpc.StatusCode.UNAVAILABLE, 503),
        ("deadline_exceeded", grpc.StatusCode.DEADLINE_EXCEEDED, 504),
        ("unknown_method", grpc.StatusCode.UNIMPLEMENTED, 501),
        ("model_failed", grpc.StatusCode.INTERNAL, 500),
        ("unidentified", grpc.StatusCode.UNAUTHENTICATED, 401),
    ],
)
def test_statuses_are_those_of_upstream(reason, code, http_status):
    assert find_statuses(reason) == (code, http_status)


@pytest.mark.parametrize("reason", [*GUARD_REASONS])
def test_a_refusal_says_what_the_catalogue_says_and_its_detail_stays_here(reason):
    words = find_words(refuse_for(reason, "dense_1 in /srv/models"))
    assert words.message == GUARD_REASONS[reason].message
    assert "dense_1" not in words.message
    assert words.detail == "dense_1 in /srv/models"


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(ValueError("b'secret' in /srv/models"), id="any-error"),
        pytest.param(Malformed("never_heard_of", "b'secret' in /srv/models"), id="a-reason-of-no-catalogue"),
        pytest.param(Refused("bad_json", "b'secret' in /srv/models"), id="no-refusal-of-a-request"),
    ],
)
def test_what_nobody_raised_on_purpose_is_told_to_nobody(error):
    words = find_words(error)
    assert (words.reason, words.code, words.http_status) == ("internal", grpc.StatusCode.INTERNAL, Failed.http_status)
    assert "secret" not in words.message


def test_an_unknown_error_is_named_in_the_log_by_its_place_and_not_by_its_text():
    try:
        raise ValueError("b'what a client sent'")
    except ValueError as error:
        words = find_words(error)
    assert words.detail.startswith("ValueError at ")
    assert "client" not in words.detail


def test_too_little_memory_may_pass():
    words = find_words(MemoryError())
    assert (words.reason, words.code) == ("out_of_memory", grpc.StatusCode.UNAVAILABLE)
