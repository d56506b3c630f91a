"""Strings: text, bytes in base64, images, in and out."""

import base64
import io
from typing import Any

from PIL import Image

from stack.guard.cases import DOCUMENTED, TENSOR_TESTS, TENSORS, Case, check, rows
from stack.guard.served import ServedRest
from standins.saved_models.catalogue import picture

SHOUTING, DIGESTS, PICTURES, THUMBNAILS, WORDS = (
    f"/v1/models/{name}:predict" for name in ("shouting", "digests", "pictures", "thumbnails", "words")
)
BASE64 = f"{TENSORS} JsonDecodeBase64Object"
STRING = f"{TENSORS} AddValueToTensor"


def b64(value: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(value).decode()}


def draw(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, "png")
    return file.getvalue()


def loud(text: str, length: int) -> str:
    return f'{{"predictions": [{{"length": {length}, "loud": "{text}"}}]}}'


ANSWERED = [
    Case("text", STRING, SHOUTING, {"instances": ["hello"]}, loud("HELLO!", 5)),
    Case("text-by-name", STRING, SHOUTING, {"instances": [{"text": "hello"}]}, loud("HELLO!", 5)),
    Case("text-in-a-column", STRING, SHOUTING, {"inputs": ["a", "b"]}, '{"outputs": {"length": [1, 1], "loud": ["A!", "B!"]}}'),
    Case("text-in-utf8", DOCUMENTED, SHOUTING, '{"instances": ["straße"]}', loud("STRASSE!", 6)),
    Case("text-escaped", "RFC 8259", SHOUTING, b'{"instances": ["stra\\u00dfe\\t\\"\\\\"]}', loud('STRASSE\\t\\"\\\\!', 9)),
    Case("text-beyond-16-bits", "RFC 8259", SHOUTING, b'{"instances": ["\\ud83d\\ude00"]}', loud("\\ud83d\\ude00!", 1)),
    Case("text-in-base64", f"{TENSOR_TESTS} SingleUnnamedTensorBase64Scalars", SHOUTING, {"instances": [b64(b"hello")]}, loud("HELLO!", 5)),
    Case("text-and-base64", f"{TENSORS} FillTensorMapFromInstancesList", DIGESTS, {"instances": ["ab", b64(b"\xff")]}, '{"predictions": [{"digest_bytes": {"b64": "YmE="}, "first": 97}, {"digest_bytes": {"b64": "/w=="}, "first": 255}]}'),
    Case("text-in-its-normal-form", "gives the model what was sent", SHOUTING, {"instances": ["e\u0301"]}, loud("\\u00c9!", 1)),
    Case("words", STRING, WORDS, {"instances": [["good", "film"], ["bad", "film"]]}),
    Case("bytes", f"{TENSOR_TESTS} FromJsonSingleBytesTensor", DIGESTS, {"instances": [b64(b"\x00\xff")]}, '{"predictions": [{"digest_bytes": {"b64": "/wA="}, "first": 0}]}'),
    Case("bytes-by-name", f"{TENSOR_TESTS} SingleNamedTensorBase64", DIGESTS, {"instances": [{"blob": b64(b"\x00\xff")}]}, '{"predictions": [{"digest_bytes": {"b64": "/wA="}, "first": 0}]}'),
    Case("bytes-in-a-column", f"{DOCUMENTED} Encoding binary values", DIGESTS, {"inputs": {"blob": [b64(b"\x00\xff")]}}, '{"outputs": {"digest_bytes": [{"b64": "/wA="}], "first": [0]}}'),
    Case("bytes-of-a-text", STRING, DIGESTS, {"instances": ["abc"]}, '{"predictions": [{"digest_bytes": {"b64": "Y2Jh"}, "first": 97}]}'),
    Case("nul-in-a-text-for-bytes", STRING, DIGESTS, b'{"instances": ["a\\u0000"]}', '{"predictions": [{"digest_bytes": {"b64": "AGE="}, "first": 97}]}'),
    Case("base64-without-padding", "absl Base64Unescape: padding is optional", DIGESTS, {"instances": [{"b64": "AP8"}]}, '{"predictions": [{"digest_bytes": {"b64": "/wA="}, "first": 0}]}'),
    Case("as-many-bytes-as-may-come-back", DOCUMENTED, DIGESTS, {"instances": [b64(b"x" * 64)]}),
    Case("as-many-characters-as-may-be", DOCUMENTED, SHOUTING, {"instances": ["x" * 64]}),
    Case("png", f"{DOCUMENTED} Encoding binary values", PICTURES, {"instances": [b64(picture("png"))]}, '{"predictions": [{"colour": [200.0, 100.0, 50.0], "size": [12, 12]}]}'),
    Case("png-by-name", f"{DOCUMENTED} Encoding binary values", PICTURES, {"instances": [{"image_bytes": b64(picture("png"))}]}, '{"predictions": [{"colour": [200.0, 100.0, 50.0], "size": [12, 12]}]}'),
    Case("jpeg", f"{DOCUMENTED} Encoding binary values", PICTURES, {"instances": [b64(picture("jpeg"))]}),
    Case("largest-picture", DOCUMENTED, PICTURES, {"instances": [b64(picture("png", side=64))]}, '{"predictions": [{"colour": [200.0, 100.0, 50.0], "size": [64, 64]}]}'),
]  # fmt: skip


def refused(name: str, upstream: str, target: str, one: Any, reason: str, status: int = 400) -> Case:
    return Case(name, upstream, target, one if isinstance(one, bytes) else {"instances": [one]}, "", status, reason)


REFUSED = [
    refused("number", STRING, SHOUTING, 5, "wrong_dtype"),
    refused("truth", STRING, SHOUTING, True, "wrong_dtype"),
    refused("null", STRING, SHOUTING, None, "wrong_dtype"),
    refused("list", "the model's own error", SHOUTING, ["hello"], "wrong_dtype"),
    refused("base64-of-a-number", f"{TENSORS} IsValBase64Object", DIGESTS, {"b64": 5}, "missing_input"),
    refused("base64-and-another-key", f"{TENSORS} IsValBase64Object", DIGESTS, {"b64": "AP8=", "x": 1}, "missing_input"),
    refused("base64-named-otherwise", f"{TENSORS} IsValBase64Object", DIGESTS, {"B64": "AP8="}, "missing_input"),
    refused("object-for-a-named-input", BASE64, DIGESTS, {"blob": {"bytes": "AP8="}}, "wrong_dtype"),
    refused("base64-in-base64", BASE64, DIGESTS, {"blob": {"b64": {"b64": "AP8="}}}, "wrong_dtype"),
    refused("base64-with-other-letters", "absl Base64Unescape", DIGESTS, {"b64": "AP8*"}, "bad_base64"),
    refused("base64-for-addresses", "absl Base64Unescape, not WebSafeBase64Unescape", DIGESTS, {"b64": "_-8="}, "bad_base64"),
    refused("base64-with-a-space", "skips white space", DIGESTS, {"b64": "AP 8="}, "bad_base64"),
    refused("base64-with-a-line-break", "skips white space", DIGESTS, {"b64": "AP8=\n"}, "bad_base64"),
    refused("base64-of-one-letter", "absl Base64Unescape", DIGESTS, {"b64": "A"}, "bad_base64"),
    refused("base64-with-too-much-padding", "absl Base64Unescape", DIGESTS, {"b64": "AP8=="}, "bad_base64"),
    refused("base64-with-padding-inside", "absl Base64Unescape", DIGESTS, {"b64": "AP8=AP8="}, "bad_base64"),
    refused("base64-with-half-its-padding", "absl Base64Unescape", DIGESTS, {"b64": "AA="}, "bad_base64"),
    refused("base64-in-other-scripts", "absl Base64Unescape", DIGESTS, {"b64": "ÄÖÜß"}, "bad_base64"),
    refused("base64-that-is-not-utf8", "gives the model what was sent", SHOUTING, b64(b"\xff\xfe"), "bad_utf8"),
    refused("control-character", "gives the model what was sent", SHOUTING, "a\u0007", "control_character"),
    refused("nul", "gives the model what was sent", SHOUTING, "a\u0000b", "control_character"),
    refused("direction-override", "gives the model what was sent", SHOUTING, "a\u202eb", "direction_override"),
    refused("noncharacter", "gives the model what was sent", SHOUTING, "a\uffff", "noncharacter"),
    refused("empty", "gives the model what was sent", SHOUTING, "", "too_few_characters"),
    refused("one-character-too-many", "takes any length", SHOUTING, "x" * 65, "too_many_characters"),
    refused("too-many-bytes-of-text", "takes any length", SHOUTING, "x" * 257, "too_many_bytes"),
    refused("one-byte-too-many", "takes any length", DIGESTS, b64(b"x" * 1025), "too_many_bytes"),
    refused("more-than-may-come-back", "sends any length", DIGESTS, b64(b"x" * 65), "answer_too_large", 500),
    refused("half-a-surrogate-pair", "RapidJSON, too", SHOUTING, b'{"instances": ["\\ud83d"]}', "bad_json"),
    refused("surrogates-the-wrong-way-round", "RapidJSON, too", SHOUTING, b'{"instances": ["\\ude00\\ud83d"]}', "bad_json"),
    refused("too-many-words", "takes any number", WORDS, ["good"] * 9, "wrong_shape"),
    refused("no-words", "takes none", WORDS, [], "wrong_shape"),
    refused("words-and-a-number", STRING, WORDS, ["good", 1], "wrong_dtype"),
    refused("no-picture", "the model's own error", PICTURES, b64(b"not a picture at all"), "unknown_format"),
    refused("picture-not-in-base64", "the model's own error", PICTURES, base64.b64encode(picture("png")).decode(), "unknown_format"),
    refused("broken-picture", "the model's own error", PICTURES, b64(picture("png")[:-20]), "broken_image"),
    refused("something-behind-a-picture", "does not look", PICTURES, b64(picture("png") + b"PK\x03\x04"), "trailing_bytes"),
    refused("another-format", "TensorFlow decodes it", PICTURES, b64(picture("gif")), "format_not_allowed"),
    refused("picture-of-too-many-pixels", "takes any size", PICTURES, b64(picture("png", side=65)), "too_many_pixels"),
    refused("picture-too-wide", "takes any size", PICTURES, b64(draw(65, 8)), "side_too_long"),
    refused("picture-too-small", "takes any size", PICTURES, b64(picture("png", side=3)), "side_too_short"),
    refused("empty-picture", "the model's own error", PICTURES, b64(b""), "empty_body"),
]  # fmt: skip


@rows(ANSWERED)
def test_what_is_answered(case: Case, rest: ServedRest) -> None:
    check(case, rest)


@rows(REFUSED)
def test_what_is_refused(case: Case, rest: ServedRest) -> None:
    check(case, rest)


def test_a_picture_comes_back_in_base64(rest: ServedRest) -> None:
    body = Case("", "", "", {"instances": [b64(picture("jpeg"))]}).bytes
    (only,) = rest.ask("POST", THUMBNAILS, body).read()["predictions"]
    with Image.open(io.BytesIO(base64.b64decode(only["b64"]))) as found:
        assert (found.format, found.size) == ("PNG", (4, 4))
