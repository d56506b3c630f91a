"""A model's own code at its worst: it hangs, raises, answers nonsense, dies. It costs its own requests only."""

import os
import signal
import threading

import psutil
import pytest

from stack.conftest import SERVED
from stack.observing import wait_for
from stack.running import Answer, RunningStack, Target, send_together

OTHERS = tuple(model for model in SERVED if model != "moody")
ROW = b"[[1, 2, 3]]"
TEXT = "Wybierz prawidłową wartość".encode()


def say(target: Target, text: str) -> Answer:
    return target.send(path="/predictions/moody", body=text.encode())


def find_workers(stack: RunningStack) -> dict[str, list[int]]:
    return {model: stack.worker_pids(model) for model in SERVED}


def wait_until_whole(stack: RunningStack) -> None:
    """Wait until every model has its worker again."""
    wait_for(lambda: all(find_workers(stack).values()), "every model has a worker")
    wait_for(lambda: say(stack.target, "good day").status == 200, "the moody model answers")


# A model that fails -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mood", ["raise", "nan"])
def test_a_failing_model_says_nothing_about_itself_and_stays(library: RunningStack, mood: str) -> None:
    before = library.worker_pids("moody")
    answer = say(library.target, mood)
    assert (answer.status, answer.reason) == (500, "model_failed")
    assert answer.json == {"reason": "model_failed", "message": "The model gave no usable answer."}
    assert say(library.target, "good day").json["said"] == "good day"
    assert library.worker_pids("moody") == before


def test_a_handler_can_refuse_for_a_reason_of_its_own(all_models: Target) -> None:
    answer = say(all_models, "refuse too_impolite")
    assert (answer.status, answer.json) == (422, {"reason": "too_impolite", "message": "Not today."})
    assert answer.headers["x-garrison-reason"] == "too_impolite"


@pytest.mark.parametrize(
    "how",
    [
        "line break",
        "other letters",
        "empty",
        "long",
        "not text",
        "not JSON",
        "long message",
        "status 200",
        "status 0",
        "status text",
    ],
)
def test_a_refusal_that_is_none_costs_its_request_alone(library: RunningStack, how: str) -> None:
    """What a handler raises goes into a status line, headers, a log and a body; not all of it can stand there."""
    before = library.worker_pids("moody")
    bodies = [f"rude {how}" if index % 2 else f"good day {index}" for index in range(16)]
    got = send_together(library.target, [("moody", body.encode()) for body in bodies])
    for body, answer in zip(bodies, got, strict=True):
        if body.startswith("rude"):
            assert (answer.status, answer.reason) == (500, "model_failed")
            assert "set-cookie" not in answer.headers
            assert set(answer.json) == {"reason", "message"}
        else:
            assert (answer.status, answer.json["said"]) == (200, body)
    assert library.worker_pids("moody") == before


@pytest.mark.parametrize("how", ["detail", "own answer"])
def test_what_is_odd_about_a_refusal_and_not_sent_does_no_harm(library: RunningStack, how: str) -> None:
    answer = say(library.target, f"rude {how}")
    assert (answer.status, answer.json) == (422, {"reason": "rude", "message": "Not today."})


# A model that hangs -------------------------------------------------------------------------------------------------


def test_a_hanging_model_is_replaced_and_the_others_answer_meanwhile(library: RunningStack) -> None:
    before = find_workers(library)
    hanging: list[Answer] = []
    thread = threading.Thread(target=lambda: hanging.append(say(library.target, "hang")))
    thread.start()
    statuses = []
    while thread.is_alive():
        statuses += [
            answer.status for answer in send_together(library.target, [("sums", ROW), ("languages", TEXT)] * 4)
        ]
    thread.join()
    assert hanging[0].status in (500, 504)
    assert set(hanging[0].json) == {"reason", "message"}
    assert set(statuses) == {200}
    wait_until_whole(library)
    after = find_workers(library)
    assert set(before["moody"]).isdisjoint(after["moody"])
    assert not [pid for pid in before["moody"] if psutil.pid_exists(pid)]
    assert {model: after[model] for model in OTHERS} == {model: before[model] for model in OTHERS}
    assert "a worker of moody ended" in library.said()


# A worker that dies -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["sums", "digits"])
def test_a_killed_worker_is_replaced_and_takes_no_other_with_it(library: RunningStack, model: str) -> None:
    before = find_workers(library)
    (pid,) = before[model]
    os.kill(pid, signal.SIGKILL)
    text = [("languages", TEXT)] * 20
    assert {answer.status for answer in send_together(library.target, text)} == {200}
    wait_for(lambda: bool(set(library.worker_pids(model)) - {pid}), f"{model} has a worker again")
    after = find_workers(library)
    assert {other: pids for other, pids in after.items() if other != model} == {
        other: pids for other, pids in before.items() if other != model
    }
    if model == "sums":
        assert library.target.send(path="/predictions/sums", body=ROW).json == [6]


# What is logged -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "body", "reason"),
    [
        ("digits", b"\x89PNG\r\n\x1a\n", "broken_image"),
        ("scenes", b"GIF89a", "format_not_allowed"),
        ("tumours", b'{"data": {"mean radius": 10}}', "missing_column"),
        ("languages", b"\xff", "bad_utf8"),
        ("sums", b"[[1, 2, 3], [4]]", "ragged"),
        ("moody", b"refuse a_reason_of_its_own", "a_reason_of_its_own"),
        ("moody", b"raise", "model_failed"),
    ],
)
def test_a_refusal_is_logged_with_model_client_reason_and_the_gateways_id(
    library: RunningStack, model: str, body: bytes, reason: str
) -> None:
    answer = library.target.send(path=f"/predictions/{model}", body=body)
    assert answer.reason == reason
    lines = [find_line(library, answer.headers["x-request-id"], gate) for gate in ("gateway", "contract")]
    for line in lines:
        assert (line["model"], line["client"], line["reason"]) == (model, "demo", reason)
    assert (lines[0]["event"], lines[1]["event"]) == ("request", "refused")
    assert lines[1]["detail"]


def find_line(stack: RunningStack, request_id: str, gate: str) -> dict[str, str]:
    found: list[dict[str, str]] = []

    def look() -> bool:
        found.extend(e for e in stack.events() if (e.get("request_id"), e["gate"]) == (request_id, gate))
        return bool(found)

    wait_for(look, f"the {gate}'s line about {request_id}")
    return found[0]
