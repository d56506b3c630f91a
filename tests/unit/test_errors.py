"""Every way of saying no has a stable exit code and status, and tells a client no more than it should."""

import pytest

from garrison import errors


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        pytest.param(errors.ConfigError("a", "b"), 78, id="config"),
        pytest.param(errors.Malformed("bad", "No."), 1, id="request-refused"),
        pytest.param(errors.ArtifactRefused("bad", "No."), 1, id="artifact-refused"),
        pytest.param(errors.Undecided("disk"), 2, id="undecided"),
    ],
)
def test_every_error_has_its_exit_code(error, exit_code):
    assert error.exit_code == exit_code


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        pytest.param(errors.Malformed, 400, id="malformed"),
        pytest.param(errors.Unidentified, 401, id="unidentified"),
        pytest.param(errors.NotFound, 404, id="not-found"),
        pytest.param(errors.TooLarge, 413, id="too-large"),
        pytest.param(errors.Unsupported, 415, id="unsupported"),
        pytest.param(errors.OutOfContract, 422, id="out-of-contract"),
        pytest.param(errors.Failed, 500, id="failed"),
        pytest.param(errors.Overloaded, 503, id="overloaded"),
        pytest.param(errors.OutOfTime, 504, id="out-of-time"),
    ],
)
def test_every_request_refusal_has_its_status(kind, status):
    assert kind("reason", "Message.").http_status == status


def test_a_client_sees_reason_and_message_but_not_the_detail():
    refusal = errors.Malformed("bad_json", "Not JSON.", "/srv/models/secret: line 3")
    assert refusal.public() == {"reason": "bad_json", "message": "Not JSON."}
    assert "secret" in str(refusal)


def test_a_config_error_keeps_its_problems_apart():
    assert errors.ConfigError("first", "second").problems == ("first", "second")


def test_problems_are_listed_one_a_line():
    assert errors.list_problems("refused:", ["a", "b"]) == "refused:\n  - a\n  - b"
