"""Read JSON at a bounded cost: bytes enter, plain Python values leave.

The caller has bounded the bytes. Before the parser sees them, depth and number of values are bounded from the marks
of JSON's structure alone, at the speed of C: a body of 50,000 brackets or of millions of commas costs a few
milliseconds. The count is of brackets and commas outside strings, so an empty list counts as if it held one value.

Refused besides: NaN and Infinity, a key that stands twice, text that is not UTF-8, half a surrogate pair, integers of
more than 4,300 digits, anything after the value.

A number beyond float's range (1e400) reads as infinity: whoever takes a number from here checks that it is finite.
"""

import json
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from garrison.checks.reasons import bad_json, refuse
from garrison.errors import RequestRefused

_NO_MARKS = bytes(set(range(256)) - set(b'"{}[],'))
_NO_BRACKETS = bytes(set(range(256)) - set(b"{}[]"))
_STEPS = bytes(1 if mark in b"{[" else 255 for mark in range(256))  # as int8: one level down, one level up
_FIRST_HALVES = np.isin(np.arange(256), np.frombuffer(b"89ab", dtype=np.uint8))
_SECOND_HALVES = np.isin(np.arange(256), np.frombuffer(b"cdef", dtype=np.uint8))


def read_json(payload: bytes, max_depth: int, max_values: int) -> Any:
    """Parse JSON of at most `max_depth` nested objects and lists and at most `max_values` values.

    Raises:
        TooLarge: it is deeper or holds more values.
        Malformed: it is not JSON, or JSON that readers would understand differently.
    """
    _check_structure(_hide_escapes(payload), max_depth, max_values)
    try:
        return json.loads(payload.decode("utf-8"), object_pairs_hook=_collect_pairs, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise bad_json(f"not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise bad_json(f"{error.msg} at character {error.pos}") from error
    except ValueError as error:  # Python converts no integer of more than 4,300 digits
        raise bad_json("an integer of thousands of digits") from error


def _hide_escapes(payload: bytes) -> bytes:
    r"""Replace escaped backslashes and quotes, so that every quote left opens or closes a string.

    Pairs are taken from the left of each run of backslashes, as a parser does. A backslash outside a string makes the
    two readings differ, but there the parser stops at once.
    """
    if b"\\" not in payload:
        return payload
    plain = payload.replace(b"\\\\", b"__")
    if b"\\u" in plain:
        _check_surrogates(np.frombuffer(plain, dtype=np.uint8))
    return plain.replace(b'\\"', b"__")


def _check_surrogates(codes: NDArray[np.uint8]) -> None:
    r"""Refuse half a pair: the second halves (\udc00 to \udfff) must stand right behind the first, six bytes on."""
    lower = codes | 0x20
    starts = np.flatnonzero((codes[:-3] == ord("\\")) & (codes[1:-2] == ord("u")) & (lower[2:-1] == ord("d")))
    digits = lower[starts + 3]
    firsts, seconds = starts[_FIRST_HALVES[digits]], starts[_SECOND_HALVES[digits]]
    if not np.array_equal(firsts + 6, seconds):
        raise bad_json("half of a surrogate pair")


def _check_structure(payload: bytes, max_depth: int, max_values: int) -> None:
    if payload.count(b'"') > 4 * max_values:  # a value has at most a key, and each is in two quotes
        raise _too_many_values(max_values)
    marks = _drop_strings(payload.translate(None, _NO_MARKS))
    brackets = marks.translate(None, b",")[: 2 * max_values + 2]  # more brackets than that are too many values
    depths = np.cumsum(np.frombuffer(brackets.translate(_STEPS), dtype=np.int8), dtype=np.int32)
    if depths.max(initial=0) > max_depth:
        raise refuse("json_too_deep", f"The JSON is nested more than {max_depth} deep.")
    if marks.count(b"{") + marks.count(b"[") + marks.count(b",") + 1 > max_values:
        raise _too_many_values(max_values)


def _drop_strings(marks: bytes) -> bytes:
    """Keep the marks that stand outside quotes."""
    if b'"' not in marks:
        return marks
    codes = np.frombuffer(marks.replace(b'""', b""), dtype=np.uint8)  # most strings hold no mark and vanish here
    quotes = codes == ord('"')
    inside = np.cumsum(quotes, dtype=np.uint8) & 1  # wraps at 256, which keeps the last bit
    return bytes(codes[(inside == 0) & ~quotes])


def _too_many_values(most: int) -> RequestRefused:
    return refuse("too_many_values", f"The JSON holds more than {most} values.")


def _collect_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise bad_json("a key stands twice")
    return values


def _refuse_constant(_: str) -> NoReturn:
    raise bad_json("NaN or infinity")
