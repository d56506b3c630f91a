"""The way to a model: what the backend gets is built anew, and what comes back passes the output policy."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from garrison.errors import RequestRefused
from garrison.guard import backend as paths
from garrison.guard import service
from garrison.guard.backend import Backend
from garrison.guard.refusals import find_words
from garrison.guard.rooms import Rooms
from garrison.guard.service import GuardServing
from garrison.guard.serving import Caller, Target
from garrison.guard.tensors import write_tensors
from garrison.tensorflow.messages import messages
from unit.guard.backends import Fails, RecordingBackend
from unit.guard.contracts import CLASSIFY, REGRESS, make_contract, make_signature

CONTRACT = make_contract({"serving_default": make_signature(), "classes": CLASSIFY, "values": REGRESS})
ALICE = Caller("alice", frozenset({"digits:predict", "digits:describe"}), "id", "test")
ROW = np.array([[0, 1, 2, 16]], dtype=np.float32)


def answer_with(scores: Any) -> bytes:
    return b"".join(write_tensors(b"\x0a", {"scores": np.array(scores, dtype=np.float32)}))


def run(path: Path, use: Callable[[GuardServing, RecordingBackend], Awaitable[Any]], **changes: Any) -> Any:
    """Run a test against a guard of one contract, with a recording backend behind it."""

    async def play() -> Any:
        async with RecordingBackend(path / "grpc.sock", {"digits": 3}, **changes) as recording:
            asked = Backend(recording.path, [CONTRACT])
            await asked.look()
            try:
                return await use(GuardServing([CONTRACT], asked, Rooms([CONTRACT])), recording)
            finally:
                await asked.close()

    return asyncio.run(asyncio.wait_for(play(), 10))


def example(age: int = 5, word: bytes = b"hi") -> bytes:
    message = messages.Example()
    message.features.feature["age"].int64_list.value.append(age)
    message.features.feature["word"].bytes_list.value.append(word)
    return message.SerializeToString()


def test_the_backend_gets_a_request_that_is_built_anew(tmp_path):
    async def use(serving, recording):
        found = serving.find(ALICE, Target("digits", label="stable"), "predict")
        return await serving.predict(ALICE, found, {"pixels": ROW}), recording.called

    given, called = run(tmp_path, use, answers={paths.PREDICT: answer_with([[0.12345, 1]])})
    assert {name: values.tolist() for name, values in given.items()} == {"scores": [[np.float32(0.123), 1.0]]}
    (call,) = called
    sent = messages.PredictRequest.FromString(call.message)
    assert (sent.model_spec.name, sent.model_spec.version.value) == ("digits", 3)
    assert sent.model_spec.signature_name == "serving_default"
    assert list(sent.output_filter) == ["scores"]
    assert sent.inputs["pixels"].tensor_content == ROW.tobytes()
    assert 0 < call.left_s < 6  # a deadline is set: the contract says 5 s


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        pytest.param(Fails(grpc.StatusCode.UNAVAILABLE), "model_unavailable", id="unavailable"),
        pytest.param(Fails(grpc.StatusCode.NOT_FOUND), "model_unavailable", id="not-loaded"),
        pytest.param(Fails(grpc.StatusCode.INVALID_ARGUMENT), "model_refused", id="refused-by-the-model"),
        pytest.param(Fails(grpc.StatusCode.INTERNAL), "model_failed", id="internal"),
        pytest.param(answer_with([[float("nan"), 1]]), "model_failed", id="not-finite"),
        pytest.param(answer_with([[1, 1], [1, 1]]), "model_failed", id="another-number-of-rows"),
        pytest.param(b"\xff", "model_failed", id="no-message"),
    ],
)
def test_what_the_backend_says_wrong_becomes_a_reason_of_the_catalogue(tmp_path, said, reason):
    async def use(serving, _):
        with pytest.raises(RequestRefused) as refusal:
            await serving.predict(ALICE, serving.find(ALICE, Target("digits"), "predict"), {"pixels": ROW})
        return find_words(refusal.value)

    words = run(tmp_path, use, answers={paths.PREDICT: said})
    assert words.reason == reason
    assert "secret" not in words.message + words.detail


def test_examples_are_classified(tmp_path):
    answer = messages.ClassificationResponse()
    answer.result.classifications.add().classes.add(label="cat", score=0.987)

    async def use(serving, recording):
        found = serving.find(ALICE, Target("digits", signature="classes"), "classify")
        return await serving.classify(ALICE, found, [example()]), recording.called

    given, called = run(tmp_path, use, answers={paths.CLASSIFY: answer.SerializeToString()})
    assert [[(one.label, one.score) for one in row] for row in given] == [[("cat", 0.99)]]
    sent = messages.ClassificationRequest.FromString(called[0].message)
    assert sent.input.example_list.examples[0].features.feature["age"].int64_list.value == [5]


def test_examples_are_given_a_value(tmp_path):
    answer = messages.RegressionResponse()
    answer.result.regressions.add(value=1.5)

    async def use(serving, _):
        found = serving.find(ALICE, Target("digits", signature="values"), "regress")
        return await serving.regress(ALICE, found, [example()])

    assert run(tmp_path, use, answers={paths.REGRESS: answer.SerializeToString()}) == [1.5]


@pytest.mark.parametrize(
    ("target", "method", "reason"),
    [
        pytest.param(Target("others"), "predict", "not_found", id="no-such-model"),
        pytest.param(Target("digits", version=4), "predict", "not_found", id="another-version"),
        pytest.param(Target("digits", label="canary"), "predict", "not_found", id="another-label"),
        pytest.param(Target("digits", signature="none"), "predict", "not_found", id="no-such-signature"),
        pytest.param(Target("digits"), "classify", "wrong_method", id="a-signature-for-something-else"),
    ],
)
def test_what_is_not_there_is_not_found(tmp_path, target, method, reason):
    async def use(serving, _):
        with pytest.raises(RequestRefused) as refusal:
            serving.find(ALICE, target, method)
        return refusal.value.reason

    assert run(tmp_path, use) == reason


def test_a_model_that_the_caller_may_not_ask_is_not_found_in_the_same_words(tmp_path):
    mallory = Caller("mallory", frozenset({"digits:describe"}), "id", "test")

    async def use(serving, _):
        found = []
        for name in ("digits", "nothing"):
            with pytest.raises(RequestRefused) as refusal:
                serving.find(mallory, Target(name), "predict")
            found.append(find_words(refusal.value))
        return found

    forbidden, absent = run(tmp_path, use)
    assert forbidden == absent


def test_no_more_requests_are_in_progress_than_there_is_room_for(tmp_path):
    async def use(serving, recording):
        recording.gate = asyncio.Event()
        found = serving.find(ALICE, Target("digits"), "predict")
        waiting = [asyncio.create_task(serving.predict(ALICE, found, {"pixels": ROW})) for _ in range(12)]
        await asyncio.sleep(0.05)
        with pytest.raises(RequestRefused) as refusal:
            await serving.predict(ALICE, found, {"pixels": ROW})
        recording.gate.set()
        return refusal.value.reason, await asyncio.gather(*waiting)

    reason, answers = run(tmp_path, use, answers={paths.PREDICT: answer_with([[0, 1]])})
    assert reason == "no_room"
    assert len(answers) == 12


def test_the_clients_deadline_counts_where_it_is_shorter(tmp_path):
    async def use(serving, recording):
        found = serving.find(ALICE, Target("digits"), "predict")
        with pytest.raises(RequestRefused) as refusal:
            await serving.predict(ALICE, found, {"pixels": ROW}, timeout_s=0.05)
        return refusal.value.reason

    assert run(tmp_path, use, delay_s=1.0) == "deadline_exceeded"


def test_a_backend_that_is_started_again_is_found_again(tmp_path):
    async def use(serving, recording):
        found = serving.find(ALICE, Target("digits"), "predict")
        await recording.__aexit__()
        with pytest.raises(RequestRefused):
            await serving.predict(ALICE, found, {"pixels": ROW})
        await recording.__aenter__()
        for _ in range(40):
            try:
                return await serving.predict(ALICE, found, {"pixels": ROW})
            except RequestRefused:
                await asyncio.sleep(0.05)
        return None

    assert run(tmp_path, use, answers={paths.PREDICT: answer_with([[0, 1]])}) is not None


def test_a_client_that_goes_while_its_images_are_decoded_keeps_its_room_until_that_is_done(tmp_path, monkeypatch):
    began, goes_on = threading.Event(), threading.Event()

    def check(*_: Any) -> Any:
        began.set()
        assert goes_on.wait(10)
        return {"pixels": ROW}

    monkeypatch.setattr(service, "needs_time", lambda _: True)
    monkeypatch.setattr(service, "check_inputs", check)

    async def use(serving, _):
        found = serving.find(ALICE, Target("digits"), "predict")
        asked = asyncio.create_task(serving.predict(ALICE, found, {"pixels": ROW}))
        await asyncio.to_thread(began.wait, 10)
        asked.cancel()
        await asyncio.sleep(0.05)
        during = serving._rooms.count("digits")
        goes_on.set()
        await asyncio.wait({asked})
        return during, serving._rooms.count("digits"), asked.cancelled()

    assert run(tmp_path, use) == (1, 0, True)
