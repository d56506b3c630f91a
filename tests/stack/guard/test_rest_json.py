"""What is no JSON, or JSON that two readers would understand differently: refused, whatever upstream's parser makes of it."""

import json

from stack.guard.cases import HANDLER_TESTS, TENSOR_TESTS, TENSORS, Case, check, rows
from stack.guard.served import ServedRest

HALF = "/v1/models/half_plus_two:predict"
GOOD = b'{"instances": [1]}'
PARSE = f"{TENSORS} ParseJson"


def refused(name: str, upstream: str, body: bytes, reason: str = "bad_json", target: str = HALF) -> Case:
    return Case(name, upstream, target, body, "", 400, reason)


REFUSED = [
    refused("empty", f"{HANDLER_TESTS} PredictRequestErrors", b"", "empty_body"),
    refused("white-space", PARSE, b" \n"),
    refused("no-json", f"{HANDLER_TESTS} PredictRequestErrors", b"instances = [1, 2]"),
    refused("cut-off", PARSE, GOOD[:-1]),
    refused("cut-off-in-a-string", PARSE, b'{"inst'),
    refused("cut-off-in-an-escape", PARSE, b'{"instances": ["\\u00'),
    refused("a-bracket-too-many", "stops at the end of the object", GOOD + b"]"),
    refused("letter-behind", "stops at the end of the object", GOOD + b"X"),
    refused("nul-behind", "stops at the end of the object", GOOD + b"\x00"),
    refused("second-document", "stops at the end of the object", GOOD + GOOD),
    refused("second-document-on-a-line", "stops at the end of the object", GOOD + b"\n" + GOOD),
    refused("list", f"{PARSE}: is not object", b"[1]"),
    refused("number", f"{PARSE}: is not object", b"1"),
    refused("text", f"{PARSE}: is not object", b'"instances"'),
    refused("null", f"{PARSE}: is not object", b"null"),
    refused("true", f"{PARSE}: is not object", b"true"),
    refused("key-twice", "takes the first", b'{"instances": [1], "instances": [2]}'),
    refused("form-twice-with-an-escape", "takes the first", b'{"instances": [1], "inst\\u0061nces": [2]}'),
    refused("signature-twice", "takes the first", b'{"signature_name": "a", "signature_name": "b", "instances": [1]}'),
    refused("input-twice-in-a-row", "takes both, then fails on the size", b'{"instances": [{"x": 1, "x": 2}]}'),
    refused("input-twice-in-columns", "takes the first", b'{"inputs": {"x": [1], "x": [2]}}'),
    refused("base64-twice", "takes it for an object", b'{"instances": [{"b64": "AA==", "b64": "AQ=="}]}', target="/v1/models/digests:predict"),
    refused("nul-in-a-key-of-the-form", "cuts the key there", b'{"instances\\u0000": [1]}'),
    refused("nul-in-an-input", "cuts the key there", b'{"instances": [{"x\\u0000": 1}]}', "missing_input"),
    refused("nul-in-an-input-of-columns", "cuts the key there", b'{"inputs": {"x\\u0000more": [1]}}', "missing_input"),
    refused("raw-nul-in-a-key", "RapidJSON refuses it, too", b'{"instances\x00": [1]}'),
    refused("nan", f"{TENSOR_TESTS} MultipleNamedTensor takes it", b'{"instances": [NaN]}'),
    refused("infinity", f"{TENSOR_TESTS} MultipleNamedTensor takes it", b'{"instances": [Infinity]}'),
    refused("negative-infinity", "kParseNanAndInfFlag takes it", b'{"instances": [-Infinity]}'),
    refused("inf", "kParseNanAndInfFlag takes it", b'{"instances": [Inf]}'),
    refused("nan-in-small-letters", PARSE, b'{"instances": [nan]}'),
    refused("nan-in-a-key-nobody-reads", "ignores it", b'{"instances": [1], "x": NaN}'),
    refused("number-of-thousands-of-digits", "takes it for a double", b'{"instances": [1%s]}' % (b"0" * 5000)),
    refused("leading-nought", PARSE, b'{"instances": [01]}'),
    refused("leading-plus", PARSE, b'{"instances": [+1]}'),
    refused("leading-point", PARSE, b'{"instances": [.5]}'),
    refused("trailing-point", PARSE, b'{"instances": [5.]}'),
    refused("hexadecimal", PARSE, b'{"instances": [0x1]}'),
    refused("underscore", PARSE, b'{"instances": [1_0]}'),
    refused("digits-of-another-script", PARSE, '{"instances": [\u0661]}'.encode()),
    refused("comma-at-the-end", PARSE, b'{"instances": [1,]}'),
    refused("comma-alone", PARSE, b'{"instances": [,1]}'),
    refused("no-comma", PARSE, b'{"instances": [1 2]}'),
    refused("single-quotes", PARSE, b"{'instances': [1]}"),
    refused("key-without-quotes", PARSE, b"{instances: [1]}"),
    refused("comment", PARSE, b'{"instances": [1] /* none */}'),
    refused("line-comment", PARSE, b'{"instances": [1]} // none'),
    refused("true-in-capitals", PARSE, b'{"instances": [True]}'),
    refused("space-of-unicode", PARSE, '{"instances":\u00a0[1]}'.encode()),
    refused("form-feed", PARSE, b'{"instances":\x0c[1]}'),
    refused("byte-order-mark", "EncodedInputStream skips it", b"\xef\xbb\xbf" + GOOD),
    refused("utf-16", PARSE, GOOD.decode().encode("utf-16")),
    refused("utf-32", PARSE, GOOD.decode().encode("utf-32-le")),
    refused("not-utf8-in-a-text", "gives the model what was sent", b'{"instances": ["\xff"]}', target="/v1/models/digests:predict"),
    refused("overlong-utf8", "gives the model what was sent", b'{"instances": ["\xc0\xaf"]}', target="/v1/models/digests:predict"),
    refused("surrogate-in-utf8", "gives the model what was sent", b'{"instances": ["\xed\xa0\x80"]}', target="/v1/models/digests:predict"),
    refused("not-utf8-in-a-key", "ignores it", b'{"instances": [1], "\xff": 1}'),
    refused("line-break-in-a-text", PARSE, b'{"instances": ["a\nb"]}', target="/v1/models/digests:predict"),
    refused("unknown-escape", PARSE, b'{"instances": ["\\x41"]}', target="/v1/models/digests:predict"),
    refused("escape-in-capitals", PARSE, b'{"instances": ["\\U0041"]}', target="/v1/models/digests:predict"),
    refused("half-a-pair-in-a-key", PARSE, b'{"instances": [1], "\\ud800": 1}'),
    refused("one-level-too-deep", "takes any depth, CVE-2025-0649", b'{"instances": %s1%s}' % (b"[" * 16, b"]" * 16), "json_too_deep"),
    refused("fifty-thousand-levels", "runs out of stack, CVE-2025-0649", b'{"instances": %s' % (b"[" * 50_000), "json_too_deep"),
    refused("twenty-thousand-objects", "runs out of stack, CVE-2025-0649", b'{"instances": [%s' % (b'{"x":' * 20_000), "too_many_values", "/v1/models/pictures:predict"),
    refused("as-deep-as-may-be", "takes any depth", b'{"instances": %s1%s}' % (b"[" * 15, b"]" * 15), "wrong_dtype"),
    refused("deep-where-nobody-reads", "runs out of stack, CVE-2025-0649", b'{"instances": [1], "x": %s%s}' % (b"[" * 20, b"]" * 20), "json_too_deep"),
    refused("too-many-values", "takes any number", b'{"instances": [%s1]}' % (b"1," * 1000), "too_many_values"),
    refused("too-many-empty-objects", "takes any number", b'{"instances": [%s{}]}' % (b"{}," * 1000), "too_many_values"),
    refused("too-many-keys", "takes any number", json.dumps({str(n): 0 for n in range(1000)}).encode(), "too_many_values"),
]  # fmt: skip


@rows(REFUSED)
def test_what_is_refused(case: Case, rest: ServedRest) -> None:
    check(case, rest)


def test_after_all_that_it_answers(rest: ServedRest) -> None:
    check(Case("good", PARSE, HALF, GOOD, '{"predictions": [2.5]}'), rest)
