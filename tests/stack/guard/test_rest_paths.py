"""Which path asks what: the forms of upstream's REST API, what is known about a model, and everything else."""

import json

import pytest

from stack.guard.cases import DOCUMENTED, HANDLER_TESTS, PATHS, STATUS_CODES, Case, check, rows
from stack.guard.served import ServedRest

HALF = "/v1/models/half_plus_two"
BODY = {"instances": [1.0, 2.0]}
PREDICTED = '{"predictions": [2.5, 3.0]}'
STATUS = """{"model_version_status": [{
    "version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}]}"""
METADATA = """{
    "model_spec": {"name": "half_plus_two", "signature_name": "", "version": "1"},
    "metadata": {"signature_def": {"signature_def": {"serving_default": {
        "inputs": {"x": {
            "dtype": "DT_FLOAT", "name": "x:0",
            "tensor_shape": {"dim": [{"size": "-1", "name": ""}], "unknown_rank": false}}},
        "outputs": {"y": {
            "dtype": "DT_FLOAT", "name": "y:0",
            "tensor_shape": {"dim": [{"size": "-1", "name": ""}], "unknown_rank": false}}},
        "method_name": "tensorflow/serving/predict", "defaults": {}}}}}}"""
PERSON = {"age": 42, "weight": [0.5, 1.5], "name": "Ada"}
CENSUS = "/v1/models/census"
WHICH = {"latest": "", "a-version": "/versions/1", "a-label": "/labels/stable"}

ANSWERED = [
    *(Case(f"predict-{name}", f"{HANDLER_TESTS} Predict", f"{HALF}{at}:predict", BODY, PREDICTED) for name, at in WHICH.items()),
    *(Case(f"status-{name}", f"{HANDLER_TESTS} GetStatus", f"{HALF}{at}", None, STATUS, method="GET") for name, at in WHICH.items()),
    *(
        Case(f"metadata-{name}", f"{HANDLER_TESTS} GetModelMetadata", f"{HALF}{at}/metadata", None, METADATA, method="GET")
        for name, at in WHICH.items()
    ),
    Case("escaped-name", f"{PATHS} DecodeArg", "/v1/models/half%5Fplus%5ftwo:predict", BODY, PREDICTED),
    Case("escaped-label", f"{PATHS} DecodeArg", f"{HALF}/labels/st%61ble:predict", BODY, PREDICTED),
    Case("version-with-zeros", f"{PATHS} SimpleAtoi", f"{HALF}/versions/0001:predict", BODY, PREDICTED),
    Case("classify-a-version", f"{HANDLER_TESTS} Classify", f"{CENSUS}/versions/1:classify", {"examples": [PERSON]}),
    Case("regress-a-version", f"{HANDLER_TESTS} Regress", f"{CENSUS}/versions/1:regress", {"signature_name": "regress", "examples": [PERSON]}),
    Case(
        "documented-predict", f"{DOCUMENTED} Make REST API calls to ModelServer", f"{HALF}:predict", '{"instances": [1.0,2.0,5.0]}',
        '{"predictions": [2.5, 3.0, 4.5]}',
    ),
]  # fmt: skip


def refused(name: str, upstream: str, method: str, target: str, status: int = 400, reason: str = "bad_path") -> Case:
    return Case(name, upstream, target, BODY if method == "POST" else None, "", status, reason, method)


MALFORMED = f"{HANDLER_TESTS} UnsupportedApiCalls"
REFUSED = [
    refused("get-another-path", MALFORMED, "GET", "/v1/foo"),
    refused("post-another-path", MALFORMED, "POST", "/v1/foo"),
    refused("no-name", MALFORMED, "GET", "/v1/models"),
    refused("post-no-name", MALFORMED, "POST", "/v1/models"),
    refused("empty-name", PATHS, "POST", "/v1/models/:predict"),
    refused("further-part", MALFORMED, "GET", "/v1/models/debug/model_name"),
    refused("get-predict", MALFORMED, "GET", f"{HALF}:predict"),
    refused("get-version-of-predict", MALFORMED, "GET", f"{HALF}/version/50:predict"),
    refused("version-in-one-letter-less", MALFORMED, "POST", f"{HALF}/version/50:regress"),
    refused("version-in-letters", MALFORMED, "POST", f"{HALF}/versions/HELLO:regress"),
    refused("version-of-a-label", MALFORMED, "POST", f"{HALF}/versions/some_label:regress"),
    refused("version-beyond-64-bits", MALFORMED, "POST", f"{HALF}/versions/{2**64 - 1}:regress"),
    refused("version-of-many-digits", PATHS, "GET", f"{HALF}/versions/{'9' * 500}"),
    refused("negative-version", PATHS, "POST", f"{HALF}/versions/-1:predict"),
    refused("post-metadata", MALFORMED, "POST", f"{HALF}/metadata"),
    refused("label-in-one-letter-less", MALFORMED, "POST", f"{HALF}/label/some_label:regress"),
    refused("version-and-label", MALFORMED, "POST", f"{HALF}/versions/50/labels/some_label:regress"),
    refused("label-and-version", PATHS, "GET", f"{HALF}/labels/stable/versions/1"),
    refused("empty-label", PATHS, "POST", f"{HALF}/labels/:predict"),
    refused("other-verb", PATHS, "POST", f"{HALF}:explain"),
    refused("verb-in-capitals", f"{PATHS}; http_rest_api_handler.cc compares the verb", "POST", f"{HALF}:PREDICT"),
    refused("two-verbs", PATHS, "POST", f"{HALF}:predict:predict"),
    refused("something-behind", PATHS, "POST", f"{HALF}:predict/"),
    refused("other-resource", PATHS, "GET", f"{HALF}/config"),
    refused("put", MALFORMED, "PUT", f"{HALF}:predict"),
    refused("delete", MALFORMED, "DELETE", HALF),
    refused("head", MALFORMED, "HEAD", HALF),
    refused("options", "http_server.cc: without --rest_api_enable_cors_support", "OPTIONS", HALF),
    refused("patch", MALFORMED, "PATCH", f"{HALF}:predict"),
    refused("name-not-utf8", "takes any bytes", "POST", "/v1/models/%ff:predict"),
    refused("query", "does not look at it", "POST", f"{HALF}:predict?signature_name=x"),
    refused("query-of-a-status", "does not look at it", "GET", f"{HALF}?x"),
    refused("elsewhere", "http_server.cc Dispatch", "GET", "/", 404, "not_found"),
    refused("metrics", "http_server.cc, without --monitoring_config_file", "GET", "/monitoring/prometheus/metrics", 404, "not_found"),
    refused("capitals", "takes any letters' case in front of the name", "POST", "/V1/models/half_plus_two:predict", 404, "not_found"),
    refused("whole-address", "libevent takes it", "GET", f"http://localhost{HALF}", 404, "not_found"),
    refused("unknown-model", f"{HANDLER_TESTS} PredictModelNameVersionErrors", "POST", "/v1/models/foo:predict", 404, "not_found"),
    refused("unknown-model-with-version", f"{HANDLER_TESTS} PredictModelNameVersionErrors", "POST", "/v1/models/foo/versions/50:predict", 404, "not_found"),
    refused("unknown-version", f"{HANDLER_TESTS} PredictModelNameVersionErrors", "POST", f"{HALF}/versions/99:predict", 404, "not_found"),
    refused("version-zero", STATUS_CODES, "POST", f"{HALF}/versions/0:predict", 404, "not_found"),
    refused("unknown-label", f"{HANDLER_TESTS} PredictRequestErrors: 400 there", "POST", f"{HALF}/labels/new:predict", 404, "not_found"),
    refused("status-of-unknown-model", STATUS_CODES, "GET", "/v1/models/foo", 404, "not_found"),
    refused("status-of-unknown-version", STATUS_CODES, "GET", f"{HALF}/versions/2", 404, "not_found"),
    refused("status-of-unknown-label", "400 there", "GET", f"{HALF}/labels/new", 404, "not_found"),
    refused("metadata-of-unknown-model", STATUS_CODES, "GET", "/v1/models/foo/metadata", 404, "not_found"),
    refused("slash-in-a-name", "curl_easy_unescape takes it", "POST", "/v1/models/half%2Fplus:predict", 404, "not_found"),
    refused("colon-in-a-name", "curl_easy_unescape takes it", "POST", "/v1/models/half%3Aplus:predict", 404, "not_found"),
    refused("nul-in-a-name", "curl_easy_unescape takes it", "POST", "/v1/models/half_plus_two%00:predict", 404, "not_found"),
    refused("nul-in-a-label", "curl_easy_unescape takes it", "POST", f"{HALF}/labels/stable%00:predict", 404, "not_found"),
    refused("escaped-twice", f"{PATHS} DecodeArg, once", "POST", "/v1/models/half%255Fplus_two:predict", 404, "not_found"),
    refused("half-an-escape", f"{PATHS} DecodeArg leaves it as it is", "POST", "/v1/models/half_plus_two%5:predict", 404, "not_found"),
    refused("way-up", "no path is resolved", "POST", "/v1/models/../models/half_plus_two:predict"),
    refused("a-very-long-name", STATUS_CODES, "GET", f"/v1/models/{'x' * 5000}", 404, "not_found"),
]  # fmt: skip


@rows(ANSWERED)
def test_what_is_answered(case: Case, rest: ServedRest) -> None:
    check(case, rest)


@rows(REFUSED)
def test_what_is_refused(case: Case, rest: ServedRest) -> None:
    check(case, rest)


@pytest.mark.parametrize(
    ("headers", "what"),
    [({"x-garrison-client": ""}, "empty"), ({"x-garrison-client": "Alice!"}, "not the gateway's way of writing")],
    ids=["empty", "malformed"],
)
def test_without_the_gateways_word_nobody_is_answered(headers: dict[str, str], what: str, rest: ServedRest) -> None:
    case = Case(what, "the gateway's", f"{HALF}:predict", BODY, "", 401, "unidentified", headers=headers)
    check(case, rest)


def test_metadata_of_all_methods_types_and_shapes(rest: ServedRest) -> None:
    described = rest.ask("GET", f"{CENSUS}/metadata").read()["metadata"]["signature_def"]["signature_def"]
    assert {name: one["method_name"] for name, one in described.items()} == {
        "serving_default": "tensorflow/serving/classify",
        "regress": "tensorflow/serving/regress",
        "predict": "tensorflow/serving/predict",
    }
    assert described["regress"]["inputs"]["inputs"]["dtype"] == "DT_STRING"
    whole = rest.ask("GET", "/v1/models/whole/metadata").read()["metadata"]["signature_def"]["signature_def"]
    inputs = whole["serving_default"]["inputs"]
    assert [dim["size"] for dim in inputs["matrix"]["tensor_shape"]["dim"]] == ["-1", "-1"]
    assert inputs["scale"]["tensor_shape"] == {"dim": [], "unknown_rank": False}
    types = rest.ask("GET", "/v1/models/types/metadata").read()["metadata"]["signature_def"]["signature_def"]
    assert {one["dtype"] for one in types["serving_default"]["outputs"].values()} == {
        *("DT_HALF", "DT_FLOAT", "DT_DOUBLE", "DT_INT8", "DT_INT16", "DT_INT32", "DT_INT64"),
        *("DT_UINT8", "DT_UINT16", "DT_UINT32", "DT_UINT64", "DT_BOOL"),
    }


def test_the_names_in_metadata_are_not_the_graphs(rest: ServedRest, stand_in) -> None:
    told = json.dumps(rest.ask("GET", f"{HALF}/metadata").read())
    assert "serving_default_x" not in told
    assert "StatefulPartitionedCall" not in told
