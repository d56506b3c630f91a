"""TorchServe's gRPC, translated to its REST socket: what the server gets, what the client hears, what never passes."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from garrison.contract import parse_contract
from garrison.guard.torchserve import messages
from garrison.sockets import INFERENCE
from unit.guard.torchserves import CALLER, RecordingTorchServe, play, refusal, say, say_chunks, say_verdict

CONTRACT = parse_contract(
    json.dumps(
        {
            "garrison": 1,
            "model": "words",
            "version": "1.2",
            "task": "text-classification",
            "inputs": {"text": {"kind": "text", "max_bytes": 100, "max_characters": 50, "max_tokens": 20}},
            "batch": {"max_items": 1, "max_delay_ms": 1, "max_bytes": "64KiB"},
            "workers": {"count": 1, "queue": 1, "timeout_s": 1},
            "outputs": {"labels": "labels.json", "top_k": 1, "decimals": 3, "max_bytes": 1000},
        }
    ).encode(),
    "contract.yaml",
)
MOST = CONTRACT.max_body_bytes
OTHER = (("x-garrison-client", "bob"), ("x-garrison-scopes", "digits:predict words:describe"))
SECRET = b"/srv/models/words: dense_1 is broken"


def predict(directory: Path, server: RecordingTorchServe, **request: Any) -> Any:
    return play(directory, [CONTRACT], server, lambda client: client.predict(**request))


def refuse(directory: Path, server: RecordingTorchServe, **request: Any) -> tuple[str, str, str]:
    return play(directory, [CONTRACT], server, lambda client: refusal(client.predict(**request)))


@pytest.mark.parametrize("name", ["data", "body"])
@pytest.mark.parametrize("version", ["", "1.2"], ids=["served", "by-version"])
def test_a_request_becomes_a_post_of_the_input_itself(tmp_path: Path, name: str, version: str) -> None:
    server = RecordingTorchServe()
    assert predict(tmp_path, server, version=version, **{name: b"some words"}) == b'{"label": "yes"}'
    head, body = server.heads[0].decode().split("\r\n"), server.bodies[0]
    assert (head[0], body) == ("POST /predictions/words HTTP/1.1", b"some words")
    assert {"x-garrison-client: alice", "x-request-id: id-1", "content-type: application/octet-stream"} <= {*head}


@pytest.mark.parametrize(
    ("status", "reason", "code"),
    [
        (400, "bad_json", "INVALID_ARGUMENT"),
        (413, "too_many_tokens", "RESOURCE_EXHAUSTED"),
        (415, "unknown_format", "INVALID_ARGUMENT"),
        (422, "control_character", "INVALID_ARGUMENT"),
        (451, "not_here", "FAILED_PRECONDITION"),
        (500, "model_failed", "INTERNAL"),
        (503, "out_of_memory", "UNAVAILABLE"),
        (599, "own_words", "INTERNAL"),
    ],
)
def test_a_verdict_keeps_reason_and_words_and_becomes_the_status_of_torchserve(
    tmp_path: Path, status: int, reason: str, code: str
) -> None:
    server = RecordingTorchServe(say_verdict(status, reason, "In so many words."))
    assert refuse(tmp_path, server) == (code, reason, "In so many words.")


@pytest.mark.parametrize(
    ("answer", "code", "reason"),
    [
        pytest.param(say(404, SECRET), "UNAVAILABLE", "model_unavailable", id="not-loaded"),
        pytest.param(say(503, SECRET), "UNAVAILABLE", "model_unavailable", id="queue-full"),
        pytest.param(say(408, SECRET), "DEADLINE_EXCEEDED", "deadline_exceeded", id="worker-too-slow"),
        pytest.param(say(500, SECRET), "INTERNAL", "model_failed", id="worker-died"),
        pytest.param(say(302, SECRET, "location: /"), "INTERNAL", "model_failed", id="redirect"),
        pytest.param(say(422, SECRET, "x-garrison-reason: odd"), "INTERNAL", "model_failed", id="no-words"),
        pytest.param(say_verdict(422, "Odd-Reason", "x"), "INTERNAL", "model_failed", id="no-reason"),
        pytest.param(say_verdict(422, "odd", "x" * 501), "INTERNAL", "model_failed", id="many-words"),
        pytest.param(say_verdict(302, "odd", "x"), "INTERNAL", "model_failed", id="verdict-of-no-refusal"),
        pytest.param(b"SSH-2.0\r\n\r\n" + SECRET, "INTERNAL", "model_failed", id="no-http"),
        pytest.param(b"", "INTERNAL", "model_failed", id="closed"),
        pytest.param(say(200, SECRET)[:-1], "INTERNAL", "model_failed", id="broken-off"),
        pytest.param(say_chunks(SECRET)[:-5], "INTERNAL", "model_failed", id="chunks-broken-off"),
        pytest.param(b"HTTP/1.1 200 OK\r\nx: " + b"a" * 17_000, "INTERNAL", "model_failed", id="endless-head"),
        pytest.param(say(200, bytes(1001)), "INTERNAL", "answer_too_large", id="a-byte-too-long"),
        pytest.param(say_chunks(bytes(500), bytes(501)), "INTERNAL", "answer_too_large", id="chunks-too-long"),
    ],
)
def test_what_the_server_says_itself_never_leaves(tmp_path: Path, answer: bytes, code: str, reason: str) -> None:
    told = refuse(tmp_path, RecordingTorchServe(answer))
    assert told[:2] == (code, reason)
    assert not {"srv", "dense_1", "location"} & {*told[2].replace("/", " ").split()}


@pytest.mark.parametrize("answer", [say(200, bytes(1000)), say_chunks(bytes(500), bytes(500))], ids=["whole", "chunks"])
@pytest.mark.parametrize("cut", [1, 2**20], ids=["byte-by-byte", "at-once"])
def test_an_answer_as_long_as_allowed_passes_however_it_comes(tmp_path: Path, answer: bytes, cut: int) -> None:
    assert predict(tmp_path, RecordingTorchServe(answer, cut=cut)) == bytes(1000)


@pytest.mark.parametrize(
    ("request_", "code", "reason"),
    [
        pytest.param({"model": "other"}, "NOT_FOUND", "not_found", id="unknown-model"),
        pytest.param({"model": "words/../digits"}, "NOT_FOUND", "not_found", id="path-in-the-name"),
        pytest.param({"model": "words HTTP/1.1\r\nx: y"}, "NOT_FOUND", "not_found", id="lines-in-the-name"),
        pytest.param({"model": ""}, "NOT_FOUND", "not_found", id="no-model"),
        pytest.param({"version": "1"}, "NOT_FOUND", "not_found", id="unknown-version"),
        pytest.param({"version": "../1.2"}, "NOT_FOUND", "not_found", id="path-in-the-version"),
        pytest.param({"metadata": OTHER}, "NOT_FOUND", "not_found", id="scope-of-another-model"),
        pytest.param({"metadata": ()}, "UNAUTHENTICATED", "unidentified", id="no-caller"),
        pytest.param({"metadata": CALLER[:1]}, "UNAUTHENTICATED", "unidentified", id="no-scopes"),
        pytest.param({"image": b"x"}, "INVALID_ARGUMENT", "bad_form", id="another-name"),
        pytest.param({"data": b"x", "body": b"y"}, "INVALID_ARGUMENT", "bad_form", id="two-inputs"),
        pytest.param({"data": b""}, "INVALID_ARGUMENT", "empty_body", id="empty"),
        pytest.param({"data": bytes(MOST + 1)}, "RESOURCE_EXHAUSTED", "too_many_bytes", id="a-byte-too-long"),
    ],
)
def test_what_is_refused_never_reaches_the_server(tmp_path: Path, request_: Any, code: str, reason: str) -> None:
    server = RecordingTorchServe()
    assert refuse(tmp_path, server, **request_)[:2] == (code, reason)
    assert server.heads == []


def test_a_body_as_long_as_the_contract_allows_passes(tmp_path: Path) -> None:
    server = RecordingTorchServe()
    predict(tmp_path, server, data=b"x" * MOST)
    assert len(server.bodies[0]) == MOST


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        pytest.param(b"\xff", "bad_message", id="garbage"),
        pytest.param(b"\x0a\x02\xff\xff", "bad_message", id="name-that-is-no-text"),
        pytest.param(b"\x2a\x01x", "unknown_field", id="unknown-field"),
        pytest.param(b"\x08\x01", "unknown_field", id="another-kind-of-field"),
        pytest.param(b"\x1a\x00" * 65, "too_many_fields", id="entries-without-end"),
    ],
)
def test_a_message_that_is_none_is_refused(tmp_path: Path, message: bytes, reason: str) -> None:
    server = RecordingTorchServe()
    told = play(tmp_path, [CONTRACT], server, lambda client: refusal(client.ask("Predictions", message)))
    assert told[:2] == ("INVALID_ARGUMENT", reason)
    assert server.heads == []


@pytest.mark.parametrize("method", ["StreamPredictions2", "Ping2", "predictions"])
def test_no_other_method_exists(tmp_path: Path, method: str) -> None:
    told = play(tmp_path, [CONTRACT], RecordingTorchServe(), lambda client: refusal(client.ask(method, b"")))
    assert told[:2] == ("UNIMPLEMENTED", "unknown_method")


@pytest.mark.parametrize(
    ("answer", "pieces"),
    [
        pytest.param(say(200, b"whole"), [b"whole"], id="one-answer-is-a-stream-of-one"),
        pytest.param(say_chunks(b"a", b"bc", b"d" * 900), [b"a", b"bc", b"d" * 900], id="one-message-for-each-chunk"),
        pytest.param(say_chunks(), [b""], id="nothing"),
    ],
)
@pytest.mark.parametrize("cut", [3, 2**20], ids=["in-small-pieces", "at-once"])
def test_a_stream_has_the_servers_pieces(tmp_path: Path, answer: bytes, pieces: list[bytes], cut: int) -> None:
    server = RecordingTorchServe(answer, cut=cut)
    assert play(tmp_path, [CONTRACT], server, lambda client: client.stream()) == pieces


def test_a_stream_ends_with_the_verdict(tmp_path: Path) -> None:
    server = RecordingTorchServe(say_verdict(422, "too_many_marks", "No."))
    told = play(tmp_path, [CONTRACT], server, lambda client: refusal(client.stream()))
    assert told == ("INVALID_ARGUMENT", "too_many_marks", "No.")


def test_the_time_is_the_contracts_at_most(tmp_path: Path) -> None:
    server = RecordingTorchServe(say(200, b"late")[:-1], stays_s=5)
    assert refuse(tmp_path, server)[:2] == ("DEADLINE_EXCEEDED", "deadline_exceeded")


def test_what_finds_no_room_is_refused_at_once(tmp_path: Path) -> None:
    server = RecordingTorchServe(say(200, b"late")[:-1], stays_s=5)

    async def use(client: Any) -> list[str]:
        told = await asyncio.gather(*(refusal(client.predict()) for _ in range(3)))
        return [reason for _, reason, _ in told]

    assert sorted(play(tmp_path, [CONTRACT], server, use)) == ["deadline_exceeded", "deadline_exceeded", "no_room"]


def test_without_a_server_the_model_is_unavailable(tmp_path: Path) -> None:
    async def use(client: Any) -> Any:
        (tmp_path / INFERENCE).unlink()
        return await refusal(client.predict())

    told = play(tmp_path, [CONTRACT], RecordingTorchServe(), use)
    assert told[:2] == ("UNAVAILABLE", "model_unavailable")


@pytest.mark.parametrize(
    ("ready", "said"), [(say(200, b""), "Healthy"), (say(503, b""), "Unhealthy"), (b"", "Unhealthy")]
)
def test_ping_says_whether_every_model_has_a_worker(tmp_path: Path, ready: bytes, said: str) -> None:
    server = RecordingTorchServe(ready=ready)
    answer = play(tmp_path, [CONTRACT], server, lambda client: client.ask("Ping", b""))
    health = messages.TorchServeHealthResponse.FromString(answer).health
    assert health == f'{{\n  "status": "{said}"\n}}'  # as TorchServe prints it


def test_ping_wants_a_caller_who_may_describe_something(tmp_path: Path) -> None:
    nobody = (("x-garrison-client", "bob"), ("x-garrison-scopes", "words:predict"))
    told = play(tmp_path, [CONTRACT], RecordingTorchServe(), lambda client: refusal(client.ask("Ping", b"", nobody)))
    assert told[:2] == ("NOT_FOUND", "not_found")
