"""Examples to classify and to give a value: features, a context for all of them, and what is no example."""

import json
from typing import Any

from stack.guard.cases import DOCUMENTED, HANDLER_TESTS, TENSOR_TESTS, TENSORS, Case, check, rows
from stack.guard.served import ServedRest

CLASSIFY, REGRESS = "/v1/models/census:classify", "/v1/models/census:regress"
ADA = {"age": 42, "weight": [0.5, 1.5], "name": "Ada"}
BOB = {"age": [7], "weight": [-1.0, 2.0], "name": ["Bob"]}
ERRORS = f"{TENSOR_TESTS} JsonErrors"
FEATURE = f"{TENSORS} AddValueToFeature"


def value_of(*examples: Any, **more: Any) -> dict[str, Any]:
    return {"signature_name": "regress", "examples": [*examples], **more}


def answered(name: str, upstream: str, body: Any, answer: str = '{"results": [2.42]}') -> Case:
    return Case(name, upstream, REGRESS, body, answer)


def refused(name: str, upstream: str, body: Any, reason: str, status: int = 400, target: str = REGRESS) -> Case:
    return Case(name, upstream, target, body, "", status, reason)


ANSWERED = [
    answered("one", f"{HANDLER_TESTS} Regress", value_of(ADA)),
    answered("two", f"{TENSOR_TESTS} RequestNoContext", value_of(ADA, BOB), '{"results": [2.42, 1.07]}'),
    answered("scalars-as-lists", f"{TENSOR_TESTS} RequestNoContext", value_of({"age": [42], "weight": [0.5, 1.5], "name": ["Ada"]})),
    answered("features-in-another-order", f"{TENSORS} MakeExampleFromJsonObject", value_of(dict(reversed(ADA.items())))),
    answered("text-in-base64", f"{TENSOR_TESTS} RequestWithContextAndSignature", value_of({**ADA, "name": {"b64": "QWRh"}})),
    answered("whole-numbers-for-a-float", "takes them for int64; the model then fails", value_of({**ADA, "weight": [0.5, 1]}), ""),
    answered("truth-for-a-whole-number", f"{TENSOR_TESTS} RequestWithContextAndSignature, intboolmix", value_of({**ADA, "age": True}), ""),
    answered("context", f"{TENSOR_TESTS} RequestWithContextAndSignature", value_of({"age": 42}, {"age": 7}, context={"weight": [0.5, 1.5], "name": "Ada"}), '{"results": [2.42, 2.07]}'),
    answered("context-of-everything", f"{TENSORS} FillClassifyRegressRequestFromJson", value_of({}, {}, context=ADA), '{"results": [2.42, 2.42]}'),
    answered("empty-context", f"{TENSORS} FillClassifyRegressRequestFromJson", value_of(ADA, context={})),
    answered("as-many-as-there-may-be", DOCUMENTED, value_of(*[ADA] * 16), f'{{"results": [{", ".join(["2.42"] * 16)}]}}'),
    Case("classes", f"{HANDLER_TESTS} Classify", CLASSIFY, {"examples": [ADA]}),
    Case("classes-with-context", f"{TENSOR_TESTS} RequestWithContextAndSignature", CLASSIFY, {"examples": [{"age": 42}], "context": {"weight": [0.5, 1.5], "name": "Ada"}}),
    Case("classes-by-signature", f"{HANDLER_TESTS} Classify", CLASSIFY, {"signature_name": "serving_default", "examples": [ADA, BOB]}),
]  # fmt: skip

REFUSED = [
    refused("no-examples-key", f"{TENSORS} FillClassifyRegressRequestFromJson", {"signature_name": "regress"}, "bad_json"),
    refused("instances", f"{TENSORS} FillClassifyRegressRequestFromJson", {"signature_name": "regress", "instances": [ADA]}, "bad_json"),
    refused("examples-and-instances", "ignores it", value_of(ADA, instances=[ADA]), "bad_json"),
    refused("another-key", "ignores it", value_of(ADA, priority=1), "bad_json"),
    refused("examples-an-object", ERRORS, {"signature_name": "regress", "examples": ADA}, "bad_json"),
    refused("examples-null", ERRORS, {"signature_name": "regress", "examples": None}, "bad_json"),
    refused("no-examples", f"{TENSORS} FillClassifyRegressRequestFromJson", value_of(), "no_rows"),
    refused("one-example-too-many", "takes any number", value_of(*[ADA] * 17), "too_many_instances"),
    refused("example-a-list", ERRORS, value_of([ADA]), "bad_json"),
    refused("example-a-number", ERRORS, value_of(42), "bad_json"),
    refused("example-null", ERRORS, value_of(None), "bad_json"),
    refused("context-a-list", ERRORS, value_of({}, context=[ADA]), "bad_json"),
    refused("context-null", ERRORS, value_of(ADA, context=None), "bad_json"),
    refused("context-a-text", ERRORS, value_of(ADA, context="Ada"), "bad_json"),
    refused("feature-in-both", f"{DOCUMENTED}: must not appear in examples", value_of(ADA, context={"age": 42}), "bad_json"),
    refused("signature-name-a-list", ERRORS, {"signature_name": ["regress"], "examples": [ADA]}, "bad_json"),
    refused("unknown-signature", "400 there", {"signature_name": "nosuch", "examples": [ADA]}, "not_found", 404),
    refused("signature-to-classify", "the model's own error", {"examples": [ADA]}, "wrong_method"),
    refused("signature-to-regress", "the model's own error", value_of(ADA), "wrong_method", target=CLASSIFY),
    refused("signature-to-predict", "the model's own error", {"signature_name": "predict", "examples": [ADA]}, "wrong_method"),
    refused("model-without-examples", "the model's own error", {"examples": [{"x": 1.0}]}, "wrong_method", target="/v1/models/half_plus_two:regress"),
    refused("missing-feature", "the model's own error", value_of({"age": 42, "name": "Ada"}), "missing_input"),
    refused("empty-example", "the model's own error", value_of({}), "missing_input"),
    refused("unknown-feature", "gives it to the model", value_of({**ADA, "more": 1}), "unknown_input"),
    refused("unknown-feature-in-the-context", "gives it to the model", value_of(ADA, context={"more": 1}), "unknown_input"),
    refused("feature-null", ERRORS, value_of({**ADA, "name": None}), "wrong_dtype"),
    refused("feature-with-null", ERRORS, value_of({**ADA, "weight": [0.5, None]}), "wrong_dtype"),
    refused("feature-of-lists", ERRORS, value_of({**ADA, "weight": [[0.5], 1.5]}), "wrong_dtype"),
    refused("feature-of-objects", ERRORS, value_of({**ADA, "name": {"test": 10}}), "wrong_dtype"),
    refused("feature-of-an-empty-list", FEATURE, value_of({**ADA, "name": []}), "wrong_shape"),
    refused("too-many-values", "the model's own error", value_of({**ADA, "weight": [0.5, 1.5, 2.5]}), "wrong_shape"),
    refused("too-few-values", "the model's own error", value_of({**ADA, "weight": [0.5]}), "wrong_shape"),
    refused("text-for-a-number", "the model's own error", value_of({**ADA, "age": "42"}), "wrong_dtype"),
    refused("number-for-a-text", "the model's own error", value_of({**ADA, "name": 42}), "wrong_dtype"),
    refused("fraction-for-a-whole-number", "the model's own error", value_of({**ADA, "age": 42.5}), "wrong_dtype"),
    refused("whole-and-fraction", ERRORS, value_of({**ADA, "age": [42.0]}), "wrong_dtype"),
    refused("beyond-64-bits", f"{ERRORS}: only int64 is supported", value_of({**ADA, "age": 18446744073709551603}), "value_out_of_range"),
    refused("beyond-32-bits", f"{ERRORS}: loss of precision", value_of({**ADA, "weight": [1.7976931348623157e308, 0]}), "value_out_of_range"),
    refused("not-finite", "takes NaN", json.dumps(value_of({**ADA, "weight": [float("nan"), 0]})), "bad_json"),
    refused("below-the-contract", "takes any number", value_of({**ADA, "age": -1}), "value_out_of_range"),
    refused("above-the-contract", "takes any number", value_of({**ADA, "age": 151}), "value_out_of_range"),
    refused("text-too-long", "takes any length", value_of({**ADA, "name": "x" * 33}), "too_many_characters"),
    refused("text-with-a-control-character", "gives the model what was sent", value_of({**ADA, "name": "a\u0001"}), "control_character"),
    refused("example-too-large", "takes any size", value_of({**ADA, "name": "x" * 5000}), "too_many_bytes"),
    refused("context-too-large", "copies it into each example", value_of(*[{"age": 42, "weight": [0.5, 1.5]}] * 16, context={"name": "x" * 5000}), "too_many_bytes"),
    refused("feature-twice", "takes the last", b'{"signature_name": "regress", "examples": [{"age": 42, "weight": [0.5, 1.5], "name": "Ada", "age": 41}]}', "bad_json"),
    refused("feature-with-nul", "cuts the name there", b'{"signature_name": "regress", "examples": [{"age\\u0000": 42, "weight": [0.5, 1.5], "name": "Ada"}]}', "missing_input"),
]  # fmt: skip


@rows(ANSWERED)
def test_what_is_answered(case: Case, rest: ServedRest) -> None:
    check(case, rest)


@rows(REFUSED)
def test_what_is_refused(case: Case, rest: ServedRest) -> None:
    check(case, rest)


def test_classes_are_pairs_of_a_label_and_a_score(rest: ServedRest) -> None:
    """Upstream: JsonFromClassificationResult."""
    (row,) = json.loads(rest.ask("POST", CLASSIFY, json.dumps({"examples": [ADA]}).encode()).body)["results"]
    assert [label for label, _ in row] == ["low", "high"]
    assert all(isinstance(score, float) for _, score in row)
    assert abs(sum(score for _, score in row) - 1) < 1e-3


def test_a_context_is_in_every_example(rest: ServedRest) -> None:
    whole = rest.ask("POST", CLASSIFY, json.dumps({"examples": [ADA, ADA]}).encode()).body
    apart = {"context": {"name": "Ada", "weight": [0.5, 1.5]}, "examples": [{"age": 42}, {"age": 42}]}
    assert rest.ask("POST", CLASSIFY, json.dumps(apart).encode()).body == whole
