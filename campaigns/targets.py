"""Every check as a function of bytes: True if a value came out, False if a refusal, and anything else is a finding."""

import json
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

import numpy as np

from campaigns import seeds
from campaigns.seeds import CONTRACTS
from garrison.checks import Item, Request, read_request
from garrison.checks.json_text import read_json
from garrison.checks.reasons import MAX_DETAIL_CHARACTERS
from garrison.checks.request import present_answers
from garrison.contract import Contract, ImageInput, Input, TableInput, TensorInput, TextInput, load_contract
from garrison.contract import parse_contract as parse
from garrison.errors import ConfigError, Failed, Refused
from garrison.reasons import REASONS

LABELS = ("red", "green", "blue")
JSON_DEPTH, JSON_VALUES = 10, 200
REQUEST_TOKENS = (b'"data"', b'"body"', b'"instances"', b'"inputs"', b'"b64"', b'"shape"', b'"datatype"', b'"BYTES"')


class Unexpected(Exception):
    """Say what came out that is no value of the contract and no refusal."""


@dataclass(frozen=True)
class Target:
    """One check: what to run, what to begin with, and the words of its format."""

    make_execute: Callable[[], Callable[[bytes], bool]]
    make_seeds: Callable[[], list[bytes]]
    tokens: tuple[bytes, ...] = ()


def _ask(name: str) -> Callable[[bytes], bool]:
    contract = load_contract(CONTRACTS / f"{name}.yaml")

    def execute(payload: bytes) -> bool:
        try:
            request = read_request(payload, contract)
        except Refused as refused:
            check_refusal(refused)
            return False
        check_request(request, contract)
        return True

    return execute


def check_refusal(refused: Refused) -> None:
    """Insist on a listed reason with its class, and on short texts."""
    expect(type(refused) is REASONS.get(refused.reason), f"the reason {refused.reason} is not listed")
    expect(len(refused.detail) <= max(MAX_DETAIL_CHARACTERS, len(refused.public_message)), "the detail is too long")
    expect(len(refused.public_message) <= MAX_DETAIL_CHARACTERS, "the message is too long")


def check_request(request: Request, contract: Contract) -> None:
    """Insist on what the contract promises to the model."""
    expect(1 <= len(request.items) <= contract.batch.max_instances, "the number of items")
    expect(request.protocol in ("plain", "v1", "v2"), "the protocol")
    for item in request.items:
        expect(list(item.values) == [one.name for one in contract.inputs], "the inputs' names")
        for one in contract.inputs:
            _check_value(item, one)
    if request.protocol == "v2":
        expect(sum(count for _, count in request.outputs) == len(request.items), "the number of v2 outputs")


def _check_value(item: Item, one: Input) -> None:
    value = item.values[one.name]
    if isinstance(one, TextInput):
        expect(isinstance(value, str), "the type of a text")
        text = str(value)
        expect(one.min_characters <= len(text) <= one.max_characters, "the length of a text")
        expect(unicodedata.is_normalized(one.normal_form, text), "the normal form of a text")  # type: ignore[arg-type]
        expect(
            not any(unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t\r" for c in text), "a control character"
        )
        return
    if not isinstance(value, np.ndarray):
        raise Unexpected(f"{type(value).__name__} for {one.name}")
    if isinstance(one, ImageInput):
        expect(value.dtype == np.uint8 and value.shape == one.shape, "the shape or dtype of a picture")
        width, height = item.source_size or (0, 0)
        expect(min(width, height) > 0 and width * height <= max(one.max_pixels, value.size), "the size of a picture")
    elif isinstance(one, TensorInput):
        _check_tensor(value, one)
    elif isinstance(one, TableInput):
        expect(value.dtype == np.float32 and value.shape == (len(one.columns),), "the shape or dtype of a row")
        expect(bool(np.isfinite(value).all()), "a number in a row that is not finite")


def _check_tensor(value: "np.ndarray[Any, Any]", one: TensorInput) -> None:
    expect(value.dtype == np.dtype(one.dtype) and value.dtype.isnative, "the dtype of a tensor")
    expect(value.ndim == len(one.shape), "the rank of a tensor")
    expect(all(low <= side <= high for side, (low, high) in zip(value.shape, one.shape, strict=True)), "a dimension")
    expect(bool(np.isfinite(value).all()), "a number in a tensor that is not finite")
    low, high = one.minimum, one.maximum
    expect(low is None or float(value.min()) >= low, "a value below the minimum")
    expect(high is None or float(value.max()) <= high, "a value above the maximum")


def read_bounded(payload: bytes) -> bool:
    """Run `read_json`, and compare what it accepts with the standard parser and with its own bounds."""
    try:
        value = read_json(payload, JSON_DEPTH, JSON_VALUES)
    except Refused as refused:
        check_refusal(refused)
        return False
    expect(repr(value) == repr(json.loads(payload)), "another value than the standard parser's")
    depth, count = _measure(value)
    expect(depth <= JSON_DEPTH and count <= JSON_VALUES, f"depth {depth}, {count} values")
    return True


def _measure(value: Any) -> tuple[int, int]:
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else None
    if inner is None:
        return 0, 1
    measured = [_measure(one) for one in inner]
    return 1 + max((depth for depth, _ in measured), default=0), sum(count for _, count in measured)


def load(payload: bytes) -> bool:
    """Run the contract loader: a contract, or every problem of the file."""
    try:
        contract = parse(payload, "fuzz.yaml")
    except ConfigError as error:
        expect(bool(error.problems) and all(error.problems), "an error without a problem")
        return False
    expect(bool(contract.inputs) and contract.max_body_bytes > 0, "a contract without an input or a bound")
    expect(contract.item_bytes <= contract.batch.max_bytes, "an item that is larger than a batch")
    return True


def _make_answering() -> Callable[[bytes], bool]:
    from garrison.torchserve.policy import apply_policy, encode_answer  # torch takes seconds, and only this needs it

    contracts = [load_contract(path) for path in sorted(CONTRACTS.glob("*.yaml"))]

    def answer(payload: bytes) -> bool:
        """Send whatever a model may answer through the output policy and the reply envelopes."""
        case, answers = (payload[0] if payload else 0), _read_answers(payload[1:])
        contract = contracts[case % len(contracts)]
        request = _make_request(case, len(answers))
        try:
            plain = [apply_policy(one, contract, LABELS) for one in answers]
            presented = present_answers(request, plain, contract, explained=bool(case // 24 & 1))
            encoded = encode_answer(presented, contract)
        except Failed as failed:
            expect(failed.reason in ("model_failed", "answer_too_large"), "the reason")
            return False
        expect(len(encoded) <= contract.outputs.max_bytes, "an answer that is too large")
        json.loads(encoded, parse_constant=_refuse_constant)
        return True

    return answer


def _make_request(case: int, count: int) -> Request:
    protocol = ("plain", "v1", "v2")[case // 8 % 3]
    split = count // 2
    outputs = (("a", split), ("b", count - split)) if split and case & 1 else (("output", count),)
    return Request(tuple(Item({}) for _ in range(count)), protocol, "7", outputs if protocol == "v2" else ())


def _read_answers(payload: bytes) -> list[Any]:
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        numbers = np.frombuffer(payload[: len(payload) // 8 * 8])
        with np.errstate(over="ignore", invalid="ignore"):  # infinity is one of the things a model may answer
            return [numbers, numbers.astype(np.float32)]
    if isinstance(value, list) and value:
        return value
    return [value]


def _refuse_constant(name: str) -> NoReturn:
    raise Unexpected(f"{name} in an answer")


def expect(holds: bool, what: str) -> None:
    """Raise `Unexpected` unless it holds."""
    if not holds:
        raise Unexpected(what)


_NPY = (b"\x93NUMPY\x01\x00", b"'descr': '<f4'", b"'fortran_order': True", b"'shape': (", b"|O", b">i8", b", }")
_IMAGES: tuple[bytes, ...] = (
    b"IHDR",
    b"IDAT",
    b"IEND",
    b"acTL",
    b"eXIf",
    b"\xff\xd8\xff",
    b"\xff\xda",
    b"RIFF",
    b"WEBPVP8X",
    b"ANMF",
)
_IMAGES += (b"GIF89a", b"\x21\xf9\x04", b"II*\0", b"MM\0*", b"Exif\0\0", b"BM", b"\0\0\0\0", b"\xff\xff\xff\xff")
_TEXT = (
    "\u202e".encode(),
    "\u0301".encode(),
    "\ufdfa".encode(),
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\\ud800",
    b"\0",
)
_NUMBERS = (b"1e400", b"NaN", b"-0", b"1e-400", b"true", b"null", b"300", b"[[", b"]]", b'"FP32"', b'"INT16"')
_YAML = (b"!!python/object", b"&a", b"*a", b"<<: ", b": {", b"kind: ", b"[[1, 2]]", b"1e400", b".inf", b"GiB", b"\t")

TARGETS: dict[str, Target] = {
    "json": Target(lambda: read_bounded, seeds.make_json, _TEXT + _NUMBERS),
    "tensor": Target(partial(_ask, "tensor"), seeds.make_tensor_bodies, _NPY + REQUEST_TOKENS + _NUMBERS),
    "whole": Target(partial(_ask, "whole"), seeds.make_whole_bodies, _NPY + REQUEST_TOKENS + _NUMBERS),
    "text": Target(partial(_ask, "text"), seeds.make_text_bodies, _TEXT + REQUEST_TOKENS),
    "table": Target(partial(_ask, "table"), seeds.make_table_bodies, REQUEST_TOKENS + _NUMBERS),
    "several": Target(partial(_ask, "several"), seeds.make_several_bodies, REQUEST_TOKENS + _NUMBERS),
    "pixels": Target(partial(_ask, "pixels"), seeds.make_pixel_bodies, _IMAGES + REQUEST_TOKENS + _NUMBERS),
    "answers": Target(_make_answering, seeds.make_answers, _NUMBERS),
    "pictures": Target(partial(_ask, "pictures"), seeds.make_picture_bodies, _IMAGES + REQUEST_TOKENS),
    "contract": Target(lambda: load, seeds.make_contracts, _YAML),
}
