"""What an honest client gets: ten handwritten digits, in every form that the contract allows, and a log of it all."""

import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from attacks.catalogue import Attack, as_json, list_attacks, sample_digit
from garrison import cli
from stack.running import DIGITS, RunningStack, Target

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LOG_FIELDS = {"time", "client", "model", "status", "reason", "duration_ms", "request_id", "method", "path", "gate"}
FILES = [attack for attack in list_attacks() if attack.file]


@pytest.mark.parametrize("digit", range(10), ids=NAMES)
def test_a_handwritten_digit_is_recognised(target: Target, digit: int) -> None:
    answer = target.send(body=sample_digit(digit))
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    label, score = next(iter(answer.json.items()))
    assert label == NAMES[digit]
    assert 0.9 < score <= 1
    assert len(answer.json) == 3  # top_k of the contract


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "application/octet-stream"])
def test_base64_in_json_is_answered_like_the_file_itself(target: Target, kind: str) -> None:
    encoded = target.send(body=as_json(sample_digit()), headers={"content-type": kind})
    assert (encoded.status, encoded.body) == (200, target.send(body=sample_digit()).body)


@pytest.mark.parametrize("kind", ["image/jpeg", "image/png", "application/octet-stream", "text/plain"])
def test_the_bytes_count_and_not_what_they_are_called(target: Target, kind: str) -> None:
    answer = target.send(body=sample_digit(), headers={"content-type": kind})
    assert (answer.status, next(iter(answer.json))) == (200, "seven")


def test_a_form_of_one_field_is_answered_like_the_file_itself(target: Target) -> None:
    form = httpx.Request("POST", "https://localhost", files={"data": ("seven.png", sample_digit(), "image/png")})
    answer = target.send(body=form.read(), headers={"content-type": form.headers["content-type"]})
    assert (answer.status, answer.body) == (200, target.send(body=sample_digit()).body)


def test_put_predicts_like_post(target: Target) -> None:
    """TorchServe's own documentation uses `curl -T`."""
    assert target.send("PUT", body=sample_digit()).body == target.send(body=sample_digit()).body


@pytest.mark.parametrize("method", ["GET", "DELETE", "PATCH", "HEAD"])
def test_nothing_else_predicts(target: Target, method: str) -> None:
    assert target.send(method, body=sample_digit() if method == "PATCH" else b"").status == 404


def test_an_empty_body_is_refused(target: Target) -> None:
    answer = target.send()
    assert (answer.status, set(answer.json)) == (400, {"reason", "message"})


# One function decides, on the command line and in the worker ----------------------------------------------------------


def check(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    status = cli.main(["check", "--json", "--contract", str(DIGITS / "contract.yaml"), str(path)])
    return status, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("attack", FILES, ids=lambda attack: attack.name)
def test_garrison_check_says_what_the_server_says(
    target: Target, attack: Attack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_bytes(attack.file)
    status, row = check(file, capsys)
    assert (status, row["accepted"]) == (1, False)
    assert row["reason"] == attack.reason == attack.attempt(target).reason


@pytest.mark.parametrize("digit", range(10), ids=NAMES)
def test_garrison_check_accepts_what_the_server_accepts(digit: int, capsys: pytest.CaptureFixture[str]) -> None:
    status, row = check(next(DIGITS.glob(f"samples/{digit}.*")), capsys)
    assert (status, row["accepted"], row["detail"]) == (0, True, "uint8 (32, 32, 1)")


# The log --------------------------------------------------------------------------------------------------------------


def find_line(stack: RunningStack, request_id: str, gate: str = "gateway") -> dict[str, Any]:
    """Wait for a gate's line about one request: the log is written behind the answers' backs."""
    for _ in range(100):
        for event in stack.events():
            if (event.get("request_id"), event["gate"]) == (request_id, gate):
                return event
        time.sleep(0.1)
    raise AssertionError(f"no line about {request_id}")


def test_an_answered_request_is_one_line(running: RunningStack) -> None:
    answer = running.target.send(body=sample_digit())
    line = find_line(running, answer.headers["x-request-id"])
    assert set(line) >= LOG_FIELDS
    assert (line["client"], line["model"], line["status"], line["reason"]) == ("demo", "digits", 200, "")
    assert line["duration_ms"] >= 0


def test_a_refusal_by_the_contract_is_logged_by_gateway_and_worker_under_one_id(running: RunningStack) -> None:
    refused = next(attack for attack in FILES if attack.reason == "format_not_allowed")
    answer = refused.attempt(running.target)
    line = find_line(running, answer.headers["x-request-id"])
    assert (line["client"], line["status"], line["reason"]) == ("demo", 415, "format_not_allowed")
    said = find_line(running, answer.headers["x-request-id"], "contract")
    assert (said["event"], said["client"], said["model"]) == ("refused", "demo", "digits")
    assert said["reason"] == "format_not_allowed"
    assert said["detail"]


def test_no_key_and_no_query_is_ever_logged(running: RunningStack) -> None:
    for key in running.target.keys:
        answer = running.target.send(path="/predictions/digits?token=a-secret-in-the-query", key=key)
    find_line(running, answer.headers["x-request-id"])
    text = running.log.read_text() + running.said()
    assert "a-secret-in-the-query" not in text
    assert not [name for name, key in running.target.keys.items() if key in text or key.split(".")[2] in text]


def test_every_line_is_a_json_object_with_time_gate_and_event(running: RunningStack) -> None:
    running.target.send(body=sample_digit())
    assert all(set(event) >= {"time", "gate", "event"} for event in running.events())
    assert {event["gate"] for event in running.events()} <= {"launcher", "gateway", "server", "contract", "cell"}
