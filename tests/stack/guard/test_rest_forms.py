"""Rows and columns, names and bare values, signatures: the shapes of a request to predict and of its answer."""

from stack.guard.cases import DOCUMENTED, HANDLER_TESTS, TENSOR_TESTS, TENSORS, Case, check, rows
from stack.guard.served import ServedRest

HALF, CALCULATOR, SEVERAL, WHOLE = (
    f"/v1/models/{name}:predict" for name in ("half_plus_two", "calculator", "several", "whole")
)
DENSE, LSTM, CONSTANTS = (f"/v1/models/{name}:predict" for name in ("keras_dense", "keras_lstm", "constants"))
ONE = {"numbers": [[1, 2], [3, 4]], "factor": 2, "title": "one"}
TWO = {"numbers": [[0.5, 0], [0, 0]], "factor": -1, "title": "two"}
BOTH = {key: [ONE[key], TWO[key]] for key in ONE}

ANSWERED = [
    Case("rows-of-numbers", f"{HANDLER_TESTS} Predict", HALF, {"instances": [1.0, 2.0]}, '{"predictions": [2.5, 3.0]}'),
    Case("one-row", f"{TENSOR_TESTS} SingleUnnamedTensor", HALF, {"instances": [1.0]}, '{"predictions": [2.5]}'),
    Case("rows-of-lists", f"{TENSOR_TESTS} SingleUnnamedTensor", CONSTANTS, {"instances": [[1, 2, 3], [4, 5, 6]]}, '{"predictions": [[3, 6, 9], [9, 12, 15]]}'),
    Case("rows-by-name", f"{TENSORS} FillTensorMapFromInstancesList", HALF, {"instances": [{"x": 1}, {"x": 2}]}, '{"predictions": [2.5, 3.0]}'),
    Case(
        "rows-of-several-inputs", f"{TENSOR_TESTS} MultipleNamedTensor", SEVERAL, {"instances": [ONE, TWO]},
        """{"predictions": [
            {"headline": "one x 2", "scaled": [[2.0, 4.0], [6.0, 8.0]], "total": 20.0},
            {"headline": "two x -1", "scaled": [[-0.5, -0.0], [-0.0, -0.0]], "total": -0.5}]}""",
    ),
    Case("columns-of-numbers", f"{HANDLER_TESTS} Predict, columnar", HALF, {"inputs": [3.0, 4.0]}, '{"outputs": [3.5, 4.0]}'),
    Case("columns-by-name", f"{TENSOR_TESTS} SingleUnnamedTensorColumnarFormat", HALF, {"inputs": {"x": [3.0, 4.0]}}, '{"outputs": [3.5, 4.0]}'),
    Case(
        "columns-of-several-inputs", f"{TENSOR_TESTS} MultipleNamedTensorColumnarFormat", SEVERAL, {"inputs": BOTH},
        """{"outputs": {"headline": ["one x 2", "two x -1"], "total": [20.0, -0.5],
            "scaled": [[[2.0, 4.0], [6.0, 8.0]], [[-0.5, -0.0], [-0.0, -0.0]]]}}""",
    ),
    Case("nothing-has-rows", f"{DOCUMENTED} column format", WHOLE, {"inputs": {"matrix": [[3, 4]], "scale": 2}}, '{"outputs": {"norm": 5.0, "scaled": [[6.0, 8.0]]}}'),
    Case("default-signature-by-name", f"{HANDLER_TESTS} Predict", HALF, {"signature_name": "serving_default", "instances": [3.0]}, '{"predictions": [3.5]}'),
    Case("empty-signature-name", f"{TENSORS} FillSignature; http_rest_api_handler.cc GetInfoMap", HALF, {"signature_name": "", "instances": [3.0]}, '{"predictions": [3.5]}'),
    Case("another-signature", f"{TENSOR_TESTS} SingleUnnamedTensorWithSignature", CALCULATOR, {"signature_name": "subtract", "instances": [{"a": 1.5, "b": 1}]}, '{"predictions": [0.5]}'),
    Case("a-third-signature", f"{TENSOR_TESTS} SingleUnnamedTensorWithSignature", CALCULATOR, {"signature_name": "multiply", "inputs": {"a": [1.5], "b": [-2]}}, '{"outputs": [-3.0]}'),
    Case("keys-in-any-order", f"{TENSORS} FindMember", HALF, '{"instances": [3], "signature_name": "serving_default"}', '{"predictions": [3.5]}'),
    Case("as-many-rows-as-there-may-be", DOCUMENTED, HALF, {"instances": [0] * 16}, f'{{"predictions": [{", ".join(["2.0"] * 16)}]}}'),
    Case("whole-numbers-for-floats", f"{TENSOR_TESTS} MixedInputForFloatTensor", HALF, {"instances": [1, 2.0, 3, 5.003, 0.0]}, '{"predictions": [2.5, 3.0, 3.5, 4.5015, 2.0]}'),
    Case("white-space", "RFC 8259", HALF, b' \r\n\t{ "instances" : [ 1 ,\n2 ] }\n\n', '{"predictions": [2.5, 3.0]}'),
    Case("escaped-keys", "RFC 8259", HALF, b'{"\\u0069nstances": [1]}', '{"predictions": [2.5]}'),
    Case("exponents", f"{DOCUMENTED} JSON mapping", HALF, b'{"instances": [1e1, 2.5E-1, 1E+2, -0]}', '{"predictions": [7.0, 2.125, 52.0, 2.0]}'),
    Case("one-output-has-no-name", f"{DOCUMENTED} Response format", DENSE, {"instances": [[0, 0, 0, 0]]}),
]  # fmt: skip


def refused(name: str, upstream: str, target: str, body: object, reason: str, status: int = 400) -> Case:
    return Case(name, upstream, target, body, "", status, reason)


REFUSED = [
    refused("both-forms", f"{TENSOR_TESTS} SingleUnnamedTensorErrors", HALF, {"instances": [1], "inputs": [1]}, "bad_json"),
    refused("no-form", f"{TENSORS} FillPredictRequestFromJson", HALF, {}, "bad_json"),
    refused("no-form-but-a-signature", f"{TENSORS} FillPredictRequestFromJson", HALF, {"signature_name": "serving_default"}, "bad_json"),
    refused("examples-to-predict", f"{TENSORS} FillPredictRequestFromJson", HALF, {"examples": [{"x": 1}]}, "bad_json"),
    refused("instances-are-no-list", f"{TENSORS} FillPredictRequestFromJson", HALF, {"instances": 1}, "bad_json"),
    refused("instances-are-an-object", f"{TENSORS} FillPredictRequestFromJson", HALF, {"instances": {"x": [1]}}, "bad_json"),
    refused("instances-are-null", f"{TENSORS} FillPredictRequestFromJson", HALF, {"instances": None}, "bad_json"),
    refused("no-rows", f"{TENSORS} FillPredictRequestFromJson", HALF, {"instances": []}, "no_rows"),
    refused("no-rows-in-columns", "hangs with batching on", HALF, {"inputs": []}, "no_rows"),
    refused("no-rows-in-named-columns", "hangs with batching on", HALF, {"inputs": {"x": []}}, "no_rows"),
    refused("one-row-too-many", "takes any number", HALF, {"instances": [0] * 17}, "too_many_instances"),
    refused("a-further-key", "ignores it", HALF, {"instances": [1], "priority": 1}, "bad_json"),
    refused("signature-name-a-number", f"{TENSOR_TESTS} SingleUnnamedTensorErrors", HALF, {"signature_name": 5, "instances": [1]}, "bad_json"),
    refused("signature-name-null", f"{TENSORS} FillSignature", HALF, {"signature_name": None, "instances": [1]}, "bad_json"),
    refused("signature-name-a-list", f"{TENSOR_TESTS} JsonErrors", HALF, {"signature_name": ["hello"], "instances": [1]}, "bad_json"),
    refused("unknown-signature", "400 there", HALF, {"signature_name": "nosuch", "instances": [1]}, "not_found", 404),
    refused("signature-name-with-nul", "400 there", HALF, '{"signature_name": "serving_default\\u0000", "instances": [1]}', "not_found", 404),
    refused("a-signature-to-classify", f"{TENSORS}, then the model's own error", "/v1/models/census:predict", {"instances": [{"b64": ""}]}, "wrong_method"),
    refused("bare-values-for-several-inputs", f"{TENSORS} FillTensorMapFromInstancesList", SEVERAL, {"instances": [1, 2]}, "bad_json"),
    refused("bare-column-for-several-inputs", f"{TENSORS} FillTensorMapFromInputsMap", SEVERAL, {"inputs": [1, 2]}, "bad_json"),
    refused("objects-then-a-list", f"{TENSOR_TESTS} MultipleNamedTensorErrors", SEVERAL, {"instances": [ONE, [1, 20, 30]]}, "bad_json"),
    refused("a-list-then-an-object", f"{TENSOR_TESTS} MultipleNamedTensorErrors", HALF, {"instances": [1, {"x": 2}]}, "bad_json"),
    refused("a-row-lacks-an-input", f"{TENSORS} FillTensorMapFromInstancesList", SEVERAL, {"instances": [ONE, {"numbers": [[1, 2], [3, 4]], "factor": 2}]}, "missing_input"),
    refused("a-row-has-another-input", f"{TENSORS} AddInstanceItem", SEVERAL, {"instances": [ONE, {**TWO, "more": 1}]}, "unknown_input"),
    refused("a-row-is-empty", f"{TENSORS} FillTensorMapFromInstancesList", HALF, {"instances": [{}]}, "missing_input"),
    refused("columns-lack-an-input", f"{TENSORS} FillTensorMapFromInputsMap", SEVERAL, {"inputs": {"numbers": [[[1, 2], [3, 4]]], "factor": [2]}}, "missing_input"),
    refused("columns-have-another-input", "ignores it", SEVERAL, {"inputs": {**BOTH, "more": [1, 2]}}, "unknown_input"),
    refused("another-name", f"{TENSORS} AddInstanceItem", HALF, {"instances": [{"X": 1}]}, "missing_input"),
    refused("columns-differ-in-rows", "the model's own error", CALCULATOR, {"inputs": {"a": [1, 2], "b": [1]}}, "rows_differ"),
    refused("rows-differ-in-length", f"{TENSOR_TESTS} SingleUnnamedTensorErrors", CONSTANTS, {"instances": [[1, 2, 3], [4, 5]]}, "ragged"),
    refused("rows-differ-in-depth", f"{TENSOR_TESTS} SingleUnnamedTensorErrors", CONSTANTS, {"instances": [[1, 2, 3], [[4, 5, 6]]]}, "ragged"),
    refused("a-number-among-lists", f"{TENSOR_TESTS} SingleUnnamedTensorErrors", CONSTANTS, {"instances": [1, [1, 2, 3]]}, "wrong_shape"),
    refused("a-list-among-numbers", f"{TENSORS} FillTensorProto", HALF, {"instances": [1, [1]]}, "wrong_dtype"),
    refused("too-long", "the model's own error", CONSTANTS, {"instances": [[1, 2, 3, 4]]}, "wrong_shape"),
    refused("too-short", "the model's own error", CONSTANTS, {"instances": [[1, 2]]}, "wrong_shape"),
    refused("too-deep", "the model's own error", CONSTANTS, {"instances": [[[1, 2, 3]]]}, "wrong_shape"),
    refused("too-flat", "the model's own error", CONSTANTS, {"instances": [1, 2, 3]}, "wrong_shape"),
    refused("an-empty-list", "the model's own error", CONSTANTS, {"instances": [[]]}, "wrong_shape"),
    refused("a-scalar-for-rows", "the model's own error", HALF, {"inputs": 1.0}, "wrong_shape"),
    refused("rows-where-there-are-none", "as it would be a shape of the model's", WHOLE, {"instances": [{"matrix": [1, 2], "scale": 2}]}, "wrong_dtype"),
    refused("null", f"{TENSORS} AddValueToTensor", HALF, {"instances": [None]}, "wrong_dtype"),
    refused("inputs-null", f"{TENSORS} AddValueToTensor", HALF, {"inputs": None}, "wrong_shape"),
    refused("tokens-below-range", "takes any number; TensorFlow gathers what is there", LSTM, {"instances": [[-1, 0, 0, 0, 0, 0]]}, "value_out_of_range"),
    refused("tokens-above-range", "takes any number", LSTM, {"instances": [[20, 0, 0, 0, 0, 0]]}, "value_out_of_range"),
]  # fmt: skip


@rows(ANSWERED)
def test_what_is_answered(case: Case, rest: ServedRest) -> None:
    check(case, rest)


@rows(REFUSED)
def test_what_is_refused(case: Case, rest: ServedRest) -> None:
    check(case, rest)
