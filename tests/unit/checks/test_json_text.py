"""JSON is read at a bounded cost, and only where every reader would read the same."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from garrison.checks.json_text import read_json
from garrison.errors import Refused
from garrison.reasons import REASONS

PLENTY = 1_000_000
SEEDED = settings(derandomize=True, max_examples=300, deadline=None)


def refusal(body: bytes, depth: int = 8, values: int = PLENTY) -> str:
    with pytest.raises(Refused) as caught:
        read_json(body, depth, values)
    assert type(caught.value) is REASONS[caught.value.reason]
    return caught.value.reason


@pytest.mark.parametrize(
    "value",
    [
        pytest.param({"a": [1, -2.5, True, None, "x"]}, id="all kinds"),
        pytest.param({'quote " and \\ backslash \\" \\\\': '[{,:"}]\\'}, id="marks inside strings"),
        pytest.param("\\", id="one backslash"),
        pytest.param("\\" * 7 + '"' + "[" * 50, id="backslashes, a quote and brackets"),
        pytest.param(["\U0001f600", "\u20ac", "\ud7ff\ue000"], id="characters around the surrogates"),
        pytest.param("\\ud800", id="text that spells a surrogate"),
        pytest.param("", id="empty string"),
    ],
)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_values_come_out_as_they_went_in(value: Any, ascii_only: bool) -> None:
    assert read_json(json.dumps(value, ensure_ascii=ascii_only).encode(), 3, 20) == value


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b" ", id="blank"),
        pytest.param(b'{"a": 1', id="cut off"),
        pytest.param(b"[1] x", id="bytes after the end"),
        pytest.param(b"[1]\0", id="NUL after the end"),
        pytest.param(b"{}{}", id="two documents"),
        pytest.param(b'{"a": 1, "a": 1}', id="duplicate key"),
        pytest.param(b'{"a": 1, "\\u0061": 1}', id="duplicate key, once escaped"),
        pytest.param(b'[{"b": {"a": 1, "a": 2}}]', id="duplicate key further in"),
        pytest.param(b"[NaN]", id="NaN"),
        pytest.param(b"[-Infinity]", id="infinity"),
        pytest.param(b"[" + b"9" * 4_301 + b"]", id="more digits than int takes"),
        pytest.param(b"[01]", id="leading zero"),
        pytest.param(b"[0x10]", id="hexadecimal"),
        pytest.param(b"[1,]", id="trailing comma"),
        pytest.param(b"['a']", id="single quotes"),
        pytest.param(b"/**/[]", id="comment"),
        pytest.param(b'"\xff\xfe"', id="not UTF-8"),
        pytest.param(b'"\xed\xa0\x80"', id="surrogate in UTF-8"),
        pytest.param(b'"\xc0\x80"', id="overlong NUL"),
        pytest.param(b'"a\0b"', id="NUL"),
        pytest.param(b'"a\nb"', id="line break in a string"),
        pytest.param(b"\xef\xbb\xbf[]", id="byte order mark"),
        pytest.param("[1]".encode("utf-16"), id="UTF-16"),
        pytest.param("[1]".encode("utf-32-le"), id="UTF-32"),
        pytest.param(b'"\\ud800"', id="lone first half"),
        pytest.param(b'"\\uDC00"', id="lone second half"),
        pytest.param(b'{"\\ud83d": 1}', id="lone half as key"),
        pytest.param(b'"\\ud800\\ud800\\udc00"', id="two first halves"),
        pytest.param(b'"\\ud800\\udc00\\udc00"', id="two second halves"),
        pytest.param(b'"\\ud83dx\\ude00"', id="halves apart"),
        pytest.param(b'["\\ud83d","\\ude00"]', id="halves in two strings"),
        pytest.param(b'"\\\\\\ud800"', id="lone half behind a backslash"),
        pytest.param(b'"\\ud80', id="cut off in a half"),
        pytest.param(b'\\"[', id="escape outside a string"),
    ],
)
def test_what_readers_might_understand_differently_is_refused(body: bytes) -> None:
    assert refusal(body) == "bad_json"


@pytest.mark.parametrize(("left", "right"), [(b"[", b"]"), (b'{"a":', b"}")], ids=["lists", "objects"])
def test_depth_at_the_limit_passes_and_one_more_is_refused(left: bytes, right: bytes) -> None:
    body = left * 8 + b"1" + right * 8
    assert read_json(body, 8, PLENTY)
    assert refusal(body, depth=7) == "json_too_deep"


@pytest.mark.parametrize("left", [b"[", b'{"a":', b'[{"a":'], ids=["lists", "objects", "both"])
def test_nesting_of_50_000_is_refused_before_parsing(left: bytes) -> None:
    """CVE-2025-0649: TensorFlow Serving's parser overflows its stack on such a body."""
    assert refusal(left * 50_000) == "json_too_deep"
    assert refusal(left * 50_000, values=100) in ("json_too_deep", "too_many_values")


@pytest.mark.parametrize(
    ("body", "values"),
    [
        pytest.param(b"[1,2,3]", 4, id="list"),
        pytest.param(b'{"a":1,"b":2}', 3, id="object"),
        pytest.param(b'[[1],{"a":"[,{"},"\\",\\""]', 6, id="nested, with marks in strings"),
        pytest.param(b"7", 1, id="one number"),
    ],
)
def test_values_at_the_limit_pass_and_one_more_is_refused(body: bytes, values: int) -> None:
    assert read_json(body, 8, values) == json.loads(body)
    assert refusal(body, values=values - 1) == "too_many_values"


@pytest.mark.parametrize("part", [b"1,", b"[],", b'"",', b'",",', b'{"":0},', b'"'], ids=bytes.decode)
def test_a_million_small_values_are_refused_before_parsing(part: bytes) -> None:
    assert refusal(b"[" + part * 1_000_000, values=1_000) == "too_many_values"


def test_a_number_beyond_floats_range_is_infinity_for_the_next_check_to_refuse() -> None:
    assert read_json(b"[1e400, -1e400]", 1, 3) == [float("inf"), float("-inf")]


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.sampled_from('a"\\[{,')), inner, max_size=4),
)


@SEEDED
@given(value=VALUES, ascii_only=st.booleans())
def test_whatever_json_is_written_is_read(value: Any, ascii_only: bool) -> None:
    assert read_json(json.dumps(value, ensure_ascii=ascii_only).encode(), 1_000, PLENTY) == value


@SEEDED
@given(
    parts=st.lists(st.sampled_from([b"{", b"}", b"[", b"]", b'"', b"\\", b":", b",", b"1", b"u", b"d8", b"00", b" "]))
)
def test_pieces_are_read_as_a_plain_reader_does_or_refused(parts: list[bytes]) -> None:
    body = b"".join(parts)
    try:
        value = read_json(body, 4, 10)
    except Refused as refused:
        assert refused.reason in ("bad_json", "json_too_deep", "too_many_values")
    else:
        assert value == json.loads(body)
