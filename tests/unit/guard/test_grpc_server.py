"""TensorFlow Serving's gRPC: what is answered, what is refused with which status, and that the backend is not asked."""

import itertools
from typing import Any

import grpc
import numpy as np
import pytest

from garrison.guard import backend as paths
from garrison.guard.grpc_server import METADATA_BYTES
from garrison.guard.methods import MAX_TASKS
from garrison.guard.tensors import write_tensors
from garrison.tensorflow.dtypes import BY_NAME
from garrison.tensorflow.messages import messages
from unit.guard.backends import Fails
from unit.guard.contracts import CLASSIFY, REGRESS, make_contract, make_signature
from unit.guard.guards import METADATA, play

CONTRACT = make_contract({"serving_default": make_signature(), "classes": CLASSIFY, "values": REGRESS})
PREDICTION, MODEL = "/tensorflow.serving.PredictionService/", "/tensorflow.serving.ModelService/"
PREDICT = f"{PREDICTION}Predict"
ANSWER = b"".join(write_tensors(b"\x0a", {"scores": np.array([[0.25, 1]], dtype=np.float32)}))
PIXELS = np.array([[0, 1, 2, 16]], dtype=np.float32)
OPTIONS, STREAMED = messages.PredictRequest_RequestOptions(), messages.PredictStreamedOptions()
VERBS = ("describe", "explain", "predict")
ONE_VALUE = {"dtype": 1, "float_val": [1.0]}


def predict_request(model: str = "digits", pixels: Any = None, **fields: Any) -> Any:
    request = messages.PredictRequest(**fields)
    request.model_spec.name = model
    tensor = request.inputs["pixels"]
    if isinstance(pixels, dict):
        sizes = pixels.pop("shape", [1, 4])
        for name, value in pixels.items():
            target = getattr(tensor, name, None)
            target.extend(value) if isinstance(value, list) else setattr(tensor, name, value)
    else:
        sizes, tensor.dtype, tensor.tensor_content = PIXELS.shape, 1, PIXELS.tobytes()
    for size in sizes:
        tensor.tensor_shape.dim.add(size=size)
    return request


def make_input(count: int = 1) -> Any:
    given = messages.Input()
    for number in range(count):
        features = given.example_list.examples.add().features.feature
        features["age"].int64_list.value.append(number)
        features["word"].bytes_list.value.append(b"hi")
    return given


def test_predict_answers_as_upstream_does(tmp_path):
    async def use(guarded):
        return await guarded.ask(PREDICT, predict_request().SerializeToString())

    answer = messages.PredictResponse.FromString(play(tmp_path, [CONTRACT], use, answers={paths.PREDICT: ANSWER}))
    assert answer.outputs["scores"].dtype == BY_NAME["float32"].number
    assert np.frombuffer(answer.outputs["scores"].tensor_content, "<f4").tolist() == [0.25, 1]
    assert [dim.size for dim in answer.outputs["scores"].tensor_shape.dim] == [1, 2]
    spec = answer.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("digits", 3, "serving_default")


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        pytest.param(predict_request("others"), "not_found", id="no-such-model"),
        pytest.param(predict_request("forbidden"), "not_found", id="a-model-that-the-caller-may-not-ask"),
        pytest.param(predict_request(pixels={**ONE_VALUE, "shape": [1, 300_000_000]}), "wrong_shape", id="huge-shape"),
        pytest.param(predict_request(pixels={**ONE_VALUE}), "bad_tensor", id="one-value-for-four"),
        pytest.param(predict_request(pixels={"dtype": 1, "shape": [0, 4]}), "no_rows", id="no-rows"),
        pytest.param(predict_request(pixels={"dtype": 2, "shape": [1, 4]}), "wrong_dtype", id="another-type"),
        pytest.param(predict_request(pixels={"dtype": 20, "shape": [1, 4]}), "wrong_dtype", id="a-resource"),
        pytest.param(predict_request(output_filter=["scores", "more"]), "unknown_output", id="an-unknown-output"),
        pytest.param(predict_request(client_id=b"x"), "unsupported_option", id="client-id"),
        pytest.param(
            predict_request(request_options=OPTIONS),
            "unsupported_option",
            id="options",
        ),
        pytest.param(
            predict_request(predict_streamed_options=STREAMED),
            "unsupported_option",
            id="stream",
        ),
    ],
)
def test_predict_refuses_before_the_backend_is_asked(tmp_path, request_, reason):
    contracts = [CONTRACT, make_contract(model="forbidden")]

    async def use(guarded):
        return await guarded.refusal(PREDICT, request_.SerializeToString()), guarded.backend.called

    refused, called = play(tmp_path, contracts, use, answers={paths.PREDICT: ANSWER})
    assert refused == ("NOT_FOUND" if reason == "not_found" else "INVALID_ARGUMENT", reason)
    assert called == []


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        pytest.param(b"\xff\xff", "bad_message", id="no-message"),
        pytest.param(b"\x7a\x01x", "unknown_field", id="unknown-field"),
        pytest.param(b"\x0a\x02\x5a\x00", "unknown_field", id="unknown-field-inside"),
        pytest.param(b"\x12\x00" * 2000, "too_many_fields", id="thousands-of-empty-inputs"),
    ],
)
def test_messages_that_are_not_the_methods_are_refused(tmp_path, message, reason):
    async def use(guarded):
        return await guarded.refusal(PREDICT, message)

    assert play(tmp_path, [CONTRACT], use) == ("INVALID_ARGUMENT", reason)


@pytest.mark.parametrize(
    "path",
    [
        f"{MODEL}HandleReloadConfigRequest",
        f"{PREDICTION}PredictStreamed",
        "/tensorflow.serving.SessionService/SessionRun",
        "/tensorflow.ProfilerService/Profile",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/",
    ],
)
def test_every_other_method_does_not_exist(tmp_path, path):
    async def use(guarded):
        return await guarded.refusal(path, b""), guarded.backend.called

    assert play(tmp_path, [CONTRACT], use) == (("UNIMPLEMENTED", "unknown_method"), [])


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_messages_are_not_inflated(tmp_path, compression):
    message = predict_request().SerializeToString() + b"\x1a\x80\x10" + b"x" * 2048  # an output's name that packs well

    async def use(guarded):
        plain = await guarded.refusal(PREDICT, message)
        return plain, await guarded.refusal(PREDICT, message, compression=compression)

    plain, compressed = play(tmp_path, [CONTRACT], use)
    assert plain == ("INVALID_ARGUMENT", "unknown_output")
    assert compressed[0] == "UNIMPLEMENTED"


def test_a_message_beyond_the_largest_model_is_refused(tmp_path):
    async def use(guarded):
        return await guarded.refusal(PREDICT, bytes(CONTRACT.max_body_bytes + 64 * 1024 + 1))

    assert play(tmp_path, [CONTRACT], use)[0] == "RESOURCE_EXHAUSTED"


@pytest.mark.parametrize("missing", ["x-garrison-client", "x-garrison-scopes"])
def test_a_caller_whom_the_gateway_does_not_name_is_refused(tmp_path, missing):
    async def use(guarded):
        metadata = tuple(pair for pair in METADATA if pair[0] != missing)
        return await guarded.refusal(PREDICT, predict_request().SerializeToString(), metadata)

    assert play(tmp_path, [CONTRACT], use) == ("UNAUTHENTICATED", "unidentified")


def test_a_caller_may_have_the_scopes_of_a_thousand_models(tmp_path):
    models = ["digits", *(f"m{number:063}" for number in range(1000))]
    scopes = " ".join(f"{model}:{verb}" for model, verb in itertools.product(models, VERBS))
    assert len(scopes) < METADATA_BYTES

    async def use(guarded):
        metadata = (("x-garrison-client", "alice"), ("x-garrison-scopes", scopes))
        return await guarded.ask(PREDICT, predict_request().SerializeToString(), metadata)

    assert play(tmp_path, [CONTRACT], use, answers={paths.PREDICT: ANSWER})


def test_classify_regress_and_both_at_once(tmp_path):
    classes, values = messages.ClassificationResponse(), messages.RegressionResponse()
    classes.result.classifications.add().classes.add(label="cat", score=0.987)
    values.result.regressions.add(value=1.5)
    tasks = [("classes", "classify"), ("values", "regress")]

    async def use(guarded):
        answers = []
        for signature, method in tasks:
            request = messages.ClassificationRequest(input=make_input())
            request.model_spec.name, request.model_spec.signature_name = "digits", signature
            answers.append(await guarded.ask(f"{PREDICTION}{method.capitalize()}", request.SerializeToString()))
        both = messages.MultiInferenceRequest(input=make_input())
        for signature, method in tasks:
            task = both.tasks.add(method_name=f"tensorflow/serving/{method}")
            task.model_spec.name, task.model_spec.signature_name = "digits", signature
        answers.append(await guarded.ask(f"{PREDICTION}MultiInference", both.SerializeToString()))
        return answers

    told = {paths.CLASSIFY: classes.SerializeToString(), paths.REGRESS: values.SerializeToString()}
    classified, regressed, both = play(tmp_path, [CONTRACT], use, answers=told)
    (one,) = messages.ClassificationResponse.FromString(classified).result.classifications[0].classes
    assert (one.label, one.score) == ("cat", np.float32(0.99))
    assert [one.value for one in messages.RegressionResponse.FromString(regressed).result.regressions] == [1.5]
    results = messages.MultiInferenceResponse.FromString(both).results
    assert [one.WhichOneof("result") for one in results] == ["classification_result", "regression_result"]
    assert [one.model_spec.signature_name for one in results] == ["classes", "values"]


def make_tasks(*tasks: tuple[str, str, str]) -> Any:
    request = messages.MultiInferenceRequest(input=make_input())
    for model, signature, method in tasks:
        task = request.tasks.add(method_name=method)
        task.model_spec.name, task.model_spec.signature_name = model, signature
    return request


CLASSES = ("digits", "classes", "tensorflow/serving/classify")


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        pytest.param(make_tasks(), "bad_message", id="none"),
        pytest.param(make_tasks(*[CLASSES] * (MAX_TASKS + 1)), "too_many_tasks", id="too-many"),
        pytest.param(make_tasks(CLASSES, CLASSES), "unsupported_option", id="one-twice"),
        pytest.param(make_tasks(CLASSES, ("other", *CLASSES[1:])), "unsupported_option", id="two-models"),
        pytest.param(make_tasks((*CLASSES[:2], "tensorflow/serving/predict")), "wrong_method", id="predict"),
        pytest.param(make_tasks(("digits", "values", CLASSES[2])), "wrong_method", id="another-method"),
    ],
)
def test_multi_inference_refuses(tmp_path, request_, reason):
    async def use(guarded):
        refused = await guarded.refusal(f"{PREDICTION}MultiInference", request_.SerializeToString())
        return refused, guarded.backend.called

    assert play(tmp_path, [CONTRACT], use) == (("INVALID_ARGUMENT", reason), [])


def test_the_tasks_of_one_call_share_its_time(tmp_path):
    """Each of eight would otherwise have all of it, and a call without a deadline eight times the model's."""
    classes, values = messages.ClassificationResponse(), messages.RegressionResponse()
    classes.result.classifications.add()
    values.result.regressions.add(value=1.5)
    tasks = make_tasks(CLASSES, ("digits", "values", "tensorflow/serving/regress"))

    async def use(guarded):
        guarded.backend.delay_s = 0.3
        await guarded.ask(f"{PREDICTION}MultiInference", tasks.SerializeToString())
        return [call.left_s for call in guarded.backend.called]

    told = {paths.CLASSIFY: classes.SerializeToString(), paths.REGRESS: values.SerializeToString()}
    first_s, second_s = play(tmp_path, [CONTRACT], use, answers=told)
    assert second_s <= first_s - 0.2


def with_context() -> Any:
    given = messages.Input()
    given.example_list_with_context.context.features.feature["age"].bytes_list.value.append(bytes(1000))
    for _ in range(100):
        given.example_list_with_context.examples.add()
    return given


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        pytest.param(messages.Input(), "no_rows", id="nothing"),
        pytest.param(with_context(), "unsupported_option", id="a-context"),
        pytest.param(make_input(5), "too_many_instances", id="one-too-many"),
    ],
)
def test_classify_refuses(tmp_path, given, reason):
    request = messages.ClassificationRequest(input=given)
    request.model_spec.name, request.model_spec.signature_name = "digits", "classes"

    async def use(guarded):
        refused = await guarded.refusal(f"{PREDICTION}Classify", request.SerializeToString())
        return refused, guarded.backend.called

    assert play(tmp_path, [CONTRACT], use) == (("INVALID_ARGUMENT", reason), [])


def test_metadata_tells_what_the_contract_says(tmp_path):
    request = messages.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "digits"

    async def use(guarded):
        return await guarded.ask(f"{PREDICTION}GetModelMetadata", request.SerializeToString())

    told = messages.GetModelMetadataResponse.FromString(play(tmp_path, [CONTRACT], use)).metadata["signature_def"]
    assert told.type_url == "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    described = messages.SignatureDefMap.FromString(told.value).signature_def
    assert described.keys() == {"serving_default", "classes", "values"}
    pixels = described["serving_default"].inputs["pixels"]
    assert (pixels.dtype, [dim.size for dim in pixels.tensor_shape.dim]) == (1, [-1, 4])
    assert described["classes"].method_name == "tensorflow/serving/classify"
    assert described["classes"].inputs["examples"].dtype == BY_NAME["string"].number


@pytest.mark.parametrize(("loaded", "state"), [({"digits": 3}, 30), ({"digits": 2}, 0), ({}, 0)], ids=str)
def test_status_tells_whether_the_contracts_version_takes_requests(tmp_path, loaded, state):
    request = messages.GetModelStatusRequest()
    request.model_spec.name = "digits"

    async def use(guarded):
        return await guarded.ask(f"{MODEL}GetModelStatus", request.SerializeToString())

    answer = messages.GetModelStatusResponse.FromString(play(tmp_path, [CONTRACT], use, versions=loaded))
    (status,) = answer.model_version_status
    assert (status.version, status.state, status.HasField("status")) == (3, state, True)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (grpc.StatusCode.INTERNAL, ("INTERNAL", "model_failed")),
        (grpc.StatusCode.UNAVAILABLE, ("UNAVAILABLE", "model_unavailable")),
        (grpc.StatusCode.DEADLINE_EXCEEDED, ("DEADLINE_EXCEEDED", "deadline_exceeded")),
    ],
    ids=["internal", "unavailable", "deadline"],
)
def test_the_backends_words_do_not_leave(tmp_path, code, expected):
    async def use(guarded):
        return await guarded.refusal(PREDICT, predict_request().SerializeToString())

    assert play(tmp_path, [CONTRACT], use, answers={paths.PREDICT: Fails(code)}) == expected
