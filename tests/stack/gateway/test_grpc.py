"""gRPC on its way to the guard: who may call, what goes through, and how a refusal looks to a gRPC client."""

import threading

import grpc
import httpx
import pytest

from garrison.gateway.replies import REPLIES
from stack.gateways import WAIT_S, Gateway, Place, make_contract, make_saved_model_contract, wait_until
from stack.guards import Outcome, RecordingGuard, call, open_channel

PREDICT = "/tensorflow.serving.PredictionService/Predict"
METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
STREAM = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/StreamPredictions"
METHODS = [
    *(f"/tensorflow.serving.PredictionService/{name}" for name in ("Predict", "Classify", "Regress", "MultiInference")),
    METADATA,
    "/tensorflow.serving.ModelService/GetModelStatus",
    *(f"/org.pytorch.serve.grpc.inference.InferenceAPIsService/{n}" for n in ("Ping", "Predictions")),
    STREAM,
]
NOWHERE = [
    "/tensorflow.serving.ModelService/HandleReloadConfigRequest",
    "/tensorflow.serving.SessionService/SessionRun",
    "/tensorflow.ProfilerService/Profile",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "/grpc.health.v1.Health/Check",
    "/org.pytorch.serve.grpc.management.ManagementAPIsService/RegisterModel",
    "/inference.GRPCInferenceService/ModelInfer",
    "/tensorflow.serving.PredictionService/predict",
]
Code = grpc.StatusCode


def assert_refused(outcome: Outcome, code: Code, status: int, guard: RecordingGuard) -> None:
    """Check code, words and reason, and that the guard saw nothing."""
    reply = REPLIES[status]
    assert (outcome.code, outcome.reason, outcome.messages) == (code, reply.reason, [])
    assert outcome.details == reply.message or status == 415
    assert guard.called == []


@pytest.mark.parametrize("method", METHODS)
def test_a_method_reaches_the_guard_with_the_client_and_its_scopes(
    wide: Gateway, wide_place: Place, guard: RecordingGuard, method: str
) -> None:
    outcome = call(wide, method, wide_place.key("both", ("digits", "faces")), b"\x0a\x06digits")
    assert (outcome.code, outcome.messages) == (Code.OK, [b"\x0a\x03yes"])
    (called,) = guard.called
    verb = "describe" if method in (METADATA, METHODS[5], METHODS[6]) else "predict"
    assert (called.method, called.message) == (method, b"\x0a\x06digits")
    assert called.headers["x-garrison-client"] == "both"
    assert called.headers["x-garrison-scopes"] == f"digits:{verb} faces:{verb}"


def test_scopes_are_those_of_key_and_list_and_verb(wide: Gateway, wide_place: Place, guard: RecordingGuard) -> None:
    key = wide_place.issue("both", ["digits:predict", "faces:describe"]).token
    call(wide, PREDICT, key)
    call(wide, METADATA, key)
    assert [called.headers["x-garrison-scopes"] for called in guard.called] == ["digits:predict", "faces:describe"]


def test_what_a_client_says_about_itself_is_dropped(wide: Gateway, wide_place: Place, guard: RecordingGuard) -> None:
    said = (("x-garrison-client", "both"), ("x-garrison-scopes", "faces:predict"), ("cookie", "a=b"), ("x-other", "1"))
    call(wide, PREDICT, wide_place.key(), metadata=said)
    (called,) = guard.called
    assert (called.headers["x-garrison-client"], called.headers["x-garrison-scopes"]) == ("demo", "digits:predict")
    assert not {"cookie", "x-other", "x-api-key", "authorization"} & set(called.headers)


def test_without_a_key(wide: Gateway, guard: RecordingGuard) -> None:
    assert_refused(call(wide, PREDICT, None), Code.UNAUTHENTICATED, 401, guard)


def test_without_a_scope_of_the_verb(wide: Gateway, wide_place: Place, guard: RecordingGuard) -> None:
    key = wide_place.issue("demo", ["digits:describe"]).token
    assert_refused(call(wide, PREDICT, key), Code.PERMISSION_DENIED, 403, guard)
    assert call(wide, METADATA, key).code == Code.OK


@pytest.mark.parametrize("method", NOWHERE)
def test_other_methods_are_not_there(wide: Gateway, wide_place: Place, guard: RecordingGuard, method: str) -> None:
    assert_refused(call(wide, method, wide_place.key()), Code.UNIMPLEMENTED, 404, guard)


@pytest.mark.parametrize("method", METHODS)
def test_a_protocol_that_is_not_listed_is_not_there(
    gateway: Gateway, place: Place, guard: RecordingGuard, method: str
) -> None:
    guard.reset()
    for key in (None, place.key()):
        outcome = call(gateway, method, key)
        assert (outcome.code, outcome.messages, guard.called) == (Code.UNIMPLEMENTED, [], [])


def test_a_message_is_bounded(wide: Gateway, wide_place: Place, guard: RecordingGuard) -> None:
    largest = max(make_contract("digits").max_body_bytes, make_saved_model_contract("sums").max_body_bytes)
    most = largest + 64 * 1024 - 5  # less the frame of the message
    refused = call(wide, PREDICT, wide_place.key(), b"x" * (most + 1))
    assert_refused(refused, Code.RESOURCE_EXHAUSTED, 413, guard)
    assert call(wide, PREDICT, wide_place.key(), b"x" * most).code == Code.OK
    assert [len(called.message) for called in guard.called] == [most]


def test_over_the_rate(wide: Gateway, wide_place: Place, guard: RecordingGuard) -> None:
    key = wide_place.key("brief")
    outcomes = [call(wide, METADATA, key) for _ in range(6)]
    assert outcomes[0].code == Code.OK
    assert (outcomes[-1].code, outcomes[-1].reason) == (Code.RESOURCE_EXHAUSTED, "rate_limited")


@pytest.mark.parametrize("algorithm", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_messages_are_refused(
    wide: Gateway, wide_place: Place, guard: RecordingGuard, algorithm: grpc.Compression
) -> None:
    refused = call(wide, PREDICT, wide_place.key(), b"x" * 10_000, compression=algorithm)
    assert_refused(refused, Code.UNIMPLEMENTED, 415, guard)
    assert call(wide, PREDICT, wide_place.key(), b"x" * 10_000).code == Code.OK


def post(wide: Gateway, key: str, kind: str) -> httpx.Response:
    """Send an empty message over HTTP/2."""
    with httpx.Client(http2=True, http1=False, verify=wide.tls) as client:
        headers = {"x-api-key": key, "te": "trailers", **({"content-type": kind} if kind else {})}
        return client.post(f"https://localhost:{wide.port}{PREDICT}", content=b"\0\0\0\0\0", headers=headers)


@pytest.mark.parametrize(
    "kind",
    [
        *("application/grpc-web", "application/grpc-web+proto", "application/grpc-web-text", "application/grpc+json"),
        *("application/grpc+proto; charset=utf-8", "APPLICATION/GRPC", "application/json", ""),
    ],
)
def test_what_is_not_plain_grpc_is_refused(wide: Gateway, wide_place: Place, guard: RecordingGuard, kind: str) -> None:
    reply = post(wide, wide_place.key(), kind)
    assert reply.headers["x-garrison-reason"] == "unsupported_media_type"
    assert guard.called == []


@pytest.mark.parametrize("kind", ["application/grpc", "application/grpc+proto"])
def test_plain_grpc_is_not(wide: Gateway, wide_place: Place, guard: RecordingGuard, kind: str) -> None:
    reply = post(wide, wide_place.key(), kind)
    assert (reply.status_code, reply.headers["content-type"], len(guard.called)) == (200, "application/grpc", 1)


def test_grpc_over_http_1_is_refused(wide: Gateway, wide_place: Place, guard: RecordingGuard) -> None:
    headers = {"x-api-key": wide_place.key(), "content-type": "application/grpc", "te": "trailers"}
    reply = wide.send("POST", PREDICT, headers, b"\0\0\0\0\0")
    assert (reply.headers["grpc-status"], reply.headers["x-garrison-reason"]) == ("12", "unsupported_media_type")
    assert guard.called == []


def test_grpc_is_no_kind_of_content_for_rest(wide: Gateway, wide_place: Place) -> None:
    headers = {"x-api-key": wide_place.key(), "content-type": "application/grpc"}
    reply = wide.send("POST", "/predictions/digits", headers, b"x")
    assert reply.headers["x-garrison-reason"] == "unsupported_media_type"
    assert wide_place.inference.seen == []


def test_a_client_may_ask_for_less_time_than_the_model_has(
    wide: Gateway, wide_place: Place, guard: RecordingGuard
) -> None:
    call(wide, PREDICT, wide_place.key(), timeout_s=1)
    assert 0 < guard.called[0].time_left_s <= 1


def test_but_not_for_more(wide: Gateway, wide_place: Place, guard: RecordingGuard) -> None:
    """The contracts say 2 s, and the gateway waits one more."""
    guard.say.gate, guard.say.gated = threading.Event(), 0
    outcome = call(wide, PREDICT, wide_place.key(), timeout_s=600)
    guard.say.gate.set()
    assert (outcome.code, outcome.reason) == (Code.DEADLINE_EXCEEDED, "timeout")


def test_a_stream_of_answers_arrives_one_by_one(wide: Gateway, wide_place: Place, guard: RecordingGuard) -> None:
    guard.say.messages, guard.say.gate = [b"1", b"2", b"3"], threading.Event()
    with open_channel(wide) as channel:
        answers = channel.unary_stream(STREAM)(b"x", 20, metadata=(("x-api-key", wide_place.key()),))
        assert next(answers) == b"1"  # before the guard has said anything else
        guard.say.gate.set()
        assert list(answers) == [b"2", b"3"]
        assert answers.code() == Code.OK


def test_what_the_guard_says_goes_through_where_it_has_a_reason(
    wide: Gateway, wide_place: Place, guard: RecordingGuard
) -> None:
    guard.say.messages, guard.say.code = [], Code.INVALID_ARGUMENT
    guard.say.details, guard.say.trailers = (
        "The shape is wrong.",
        (("x-garrison-reason", "wrong_shape"), ("x-more", "1")),
    )
    outcome = call(wide, PREDICT, wide_place.key())
    assert (outcome.code, outcome.details, outcome.reason) == (
        Code.INVALID_ARGUMENT,
        "The shape is wrong.",
        "wrong_shape",
    )
    assert "x-more" not in outcome.trailers


@pytest.mark.parametrize("messages", [[], [b"half"]], ids=["at once", "after a message"])
@pytest.mark.parametrize(
    ("code", "seen_as", "status"),
    [
        (Code.INTERNAL, Code.INTERNAL, 500),
        (Code.UNKNOWN, Code.INTERNAL, 500),
        (Code.DATA_LOSS, Code.INTERNAL, 500),
        (Code.INVALID_ARGUMENT, Code.INVALID_ARGUMENT, 400),
        (Code.NOT_FOUND, Code.NOT_FOUND, 404),
        (Code.DEADLINE_EXCEEDED, Code.DEADLINE_EXCEEDED, 504),
    ],
)
def test_what_it_says_without_one_is_replaced(
    wide: Gateway, wide_place: Place, guard: RecordingGuard, messages: list[bytes], code: Code, seen_as: Code,
    status: int,
) -> None:  # fmt: skip
    guard.say.messages, guard.say.code, guard.say.details = messages, code, "Tensor conv1/kernel of /models/secret"
    guard.say.trailers = (("grpc-status-details-bin-", "secret"), ("x-garrison-reason", "Not A Code"))
    outcome = call(wide, PREDICT, wide_place.key())
    assert (outcome.code, outcome.reason) == (seen_as, REPLIES[status].reason)
    assert outcome.details == REPLIES[status].message
    assert "secret" not in str(outcome)


def test_a_good_answer_carries_no_words(wide: Gateway, wide_place: Place, guard: RecordingGuard) -> None:
    guard.say.details, guard.say.trailers = "/models/secret", (("x-garrison-reason", "fine"), ("x-debug", "secret"))
    outcome = call(wide, PREDICT, wide_place.key())
    assert (outcome.code, outcome.details, outcome.reason) == (Code.OK, "", "")
    assert "secret" not in str(outcome)


def test_a_guard_that_takes_nothing_gets_nothing(wide: Gateway, wide_place: Place, guard: RecordingGuard) -> None:
    def ask_until(code: Code) -> Outcome:
        for _ in wait_until(WAIT_S):
            if (outcome := call(wide, PREDICT, wide_place.key())).code == code:
                return outcome
        raise AssertionError(f"never {code}")

    guard.readiness.serving = 503
    try:
        assert ask_until(Code.UNAVAILABLE).reason == "unavailable"
    finally:
        guard.readiness.serving = 200
    assert ask_until(Code.OK).messages
