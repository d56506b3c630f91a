"""Take the image's bytes out of a request body: raw, or as base64 in JSON.

A body enters, the bytes of one image leave. JSON is one of

    {"data": "<base64>"}    {"body": "<base64>"}    {"data": {"b64": "<base64>"}}

Bounded before it costs: bytes first; then, at the speed of C, the number of brackets, quotes, commas and colons, so
that neither depth nor the number of keys is the parser's to bound; the encoded length before base64 is decoded.
Refused besides: keys that stand twice or are unknown, numbers (NaN among them), text that is not UTF-8, base64 with
line breaks, foreign characters or missing padding, anything after the closing brace.

It does not look at the image: the bytes that leave are as untrusted as the body was.
"""

import base64
import binascii
import json
from typing import Any, NoReturn

from garrison.checks.reasons import refuse
from garrison.contract import ImageInput
from garrison.errors import RequestRefused

MAX_BRACKETS = 4  # the deepest accepted form has two; the rest is for a helpful message about the wrong keys
MAX_MARKS = 32  # quotes, commas and colons; the longest accepted form has eight

_BLANK = b" \t\r\n"
_KEYS = ("data", "body")


def unwrap_payload(payload: bytes, item: ImageInput) -> bytes:
    """Return the image's bytes, at most `item.max_bytes` of them.

    Raises:
        RequestRefused: the body is empty, too large, in a form that the contract does not name, or malformed.
    """
    _check_length(len(payload), item.max_body_bytes)
    if not payload:
        raise refuse("empty_body", "The request has no body.")
    form = _recognise_form(payload)
    if form not in item.forms:
        raise refuse("form_not_allowed", f"This form of request is not accepted; send {' or '.join(item.forms)}.")
    data = _read_json(payload, item) if form == "json" else payload
    _check_length(len(data), item.max_bytes)
    return data


def _check_length(length: int, most: int) -> None:
    if length > most:
        raise refuse("too_many_bytes", f"{length} bytes are more than the {most} allowed.")


def _recognise_form(payload: bytes) -> str:
    return "json" if payload.lstrip(_BLANK)[:1] == b"{" else "raw"


def _read_json(payload: bytes, item: ImageInput) -> bytes:
    _check_structure(payload)
    text = _find_base64(_parse_json(payload))
    _check_length(len(text) // 4 * 3 - 2, item.max_bytes)  # the least that so many characters stand for
    return _decode_base64(text)


def _check_structure(payload: bytes) -> None:
    """Bound depth and number of keys; base64 holds none of these bytes, so counting them needs no parser."""
    if payload.count(b"{") + payload.count(b"[") > MAX_BRACKETS:
        raise refuse("json_too_deep", f"The JSON has more than {MAX_BRACKETS} opening brackets.")
    if payload.count(b'"') + payload.count(b",") + payload.count(b":") > MAX_MARKS:
        raise _bad_json("more keys or values than any accepted form has")


def _parse_json(payload: bytes) -> Any:
    try:
        return json.loads(
            payload.decode("utf-8"),
            object_pairs_hook=_collect_pairs,
            parse_constant=_refuse_number,
            parse_int=_refuse_number,
            parse_float=_refuse_number,
        )
    except UnicodeDecodeError as error:
        raise _bad_json(f"not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise _bad_json(f"{error.msg} at character {error.pos}") from error


def _collect_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise _bad_json("a key stands twice")
    return values


def _refuse_number(_: str) -> NoReturn:
    raise _bad_json("a number where text is expected")


def _find_base64(values: Any) -> str:
    if len(values) != 1 or not (values.keys() <= set(_KEYS)):
        raise _bad_json("not exactly one of the keys data and body")
    (value,) = values.values()
    if isinstance(value, dict) and value.keys() == {"b64"}:
        value = value["b64"]
    if not isinstance(value, str):
        raise _bad_json("the value is not text")
    if not value:
        raise refuse("empty_body", "The request has no image in it.")
    return value


def _decode_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:  # ValueError: characters outside ASCII, lone surrogates among them
        raise refuse("bad_base64", "The image is not valid base64 with padding.", type(error).__name__) from error


def _bad_json(detail: str) -> RequestRefused:
    return refuse("bad_json", 'The body is not JSON of the form {"data": "<base64>"}.', detail)
