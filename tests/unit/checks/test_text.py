"""A text is UTF-8 of bounded length in one normal form, and holds nothing that hides or reorders characters."""

import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from garrison.checks.text import _LIKE_MARKS, _MARK, MAX_COMPOSED, MAX_MARKS_IN_A_ROW, _classify, check_text
from garrison.contract import TextInput
from garrison.errors import Refused
from garrison.reasons import REASONS

Make = Callable[..., TextInput]
SEEDED = settings(derandomize=True, max_examples=500, deadline=None)
CHARACTERS = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]


def refusal(value: str | bytes, item: TextInput) -> str:
    with pytest.raises(Refused) as caught:
        check_text(value, item)
    assert type(caught.value) is REASONS[caught.value.reason]
    return caught.value.reason


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("Hello,\tworld\r\n", id="line breaks and tabs"),
        pytest.param("שלום \u200fabc\u200e عربي \u061c", id="right to left, with marks of direction"),
        pytest.param("👩\u200d👩\u200d👧 🏴\U000e0067\U000e0062\U000e007f", id="emoji with joiners and tags"),
        pytest.param("می\u200cخو", id="Persian with a non-joiner"),
        pytest.param("한국어 日本語 ไทย", id="Asian scripts"),
        pytest.param("\U0003fffd \ue000", id="unassigned and private"),
        pytest.param("{\"data\": 'x'} <b>&amp;</b>", id="code is only text"),
    ],
)
def test_texts_come_out_in_normal_form(make_text: Make, text: str) -> None:
    expected = unicodedata.normalize("NFC", text)
    assert check_text(text, make_text()) == check_text(text.encode(), make_text()) == expected


@pytest.mark.parametrize(
    ("normal_form", "text", "expected"),
    [
        pytest.param("NFC", "e\u0301", "\u00e9", id="composed"),
        pytest.param("NFC", "\ufb01", "\ufb01", id="a ligature stays"),
        pytest.param("NFKC", "\ufb01\uff21\u2460", "fiA1", id="compatible characters are replaced"),
    ],
)
def test_the_normal_form_is_the_contracts(make_text: Make, normal_form: str, text: str, expected: str) -> None:
    assert check_text(text, make_text(normal_form=normal_form)) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        *[
            pytest.param(f"a{chr(code)}b", "control_character", id=f"U+{code:04X}")
            for code in (0, 8, 0xB, 0x1B, 0x7F, 0x85, 0x9F)
        ],
        *[pytest.param(f"a{chr(code)}b", "direction_override", id=f"U+{code:04X}") for code in range(0x202A, 0x202F)],
        *[pytest.param(f"a{chr(code)}b", "direction_override", id=f"U+{code:04X}") for code in range(0x2066, 0x206A)],
        *[
            pytest.param(f"a{chr(code)}b", "noncharacter", id=f"U+{code:04X}")
            for code in (0xFDD0, 0xFDEF, 0xFFFE, 0x10FFFF)
        ],
        pytest.param("a\ud800b", "bad_utf8", id="lone surrogate"),
    ],
)
def test_what_hides_or_reorders_is_refused(make_text: Make, text: str, reason: str) -> None:
    assert refusal(text, make_text()) == reason
    assert refusal(text.encode("utf-8", "surrogatepass"), make_text()) == reason


def test_of_the_control_characters_only_line_breaks_and_tabs_pass(make_text: Make) -> None:
    def passes(character: str) -> bool:
        try:
            return bool(check_text(character, make_text()))
        except Refused:
            return False

    controls = [character for character in CHARACTERS if unicodedata.category(character) == "Cc"]
    assert [character for character in controls if passes(character)] == ["\t", "\n", "\r"]


@pytest.mark.parametrize(
    "data",
    [b"\xff", b"a\xc3", b"\xc0\x80", b"\xe0\x80\x80", b"\xf4\x90\x80\x80", b"\xed\xa0\x80\xed\xb0\x80", b"\x80"],
    ids=repr,
)
def test_what_is_not_utf8_is_refused(make_text: Make, data: bytes) -> None:
    assert refusal(data, make_text()) == "bad_utf8"


@pytest.mark.parametrize("value", ["é" * 10, ("é" * 10).encode()], ids=["text", "bytes"])
def test_bytes_at_the_limit_pass_and_one_more_is_refused(make_text: Make, value: str | bytes) -> None:
    assert check_text(value, make_text(max_bytes=20)) == "é" * 10
    assert refusal(value, make_text(max_bytes=19)) == "too_many_bytes"


def test_characters_at_the_limits_pass_and_one_beyond_is_refused(make_text: Make) -> None:
    item = make_text(min_characters=2, max_characters=4)
    assert [check_text("é" * count, item) for count in (2, 4)] == ["éé", "éééé"]
    assert refusal("éééé!", item) == "too_many_characters"
    assert refusal("é", item) == "too_few_characters"
    assert refusal("", item) == refusal(b"", item) == "too_few_characters"


def test_characters_are_counted_in_the_normal_form(make_text: Make) -> None:
    item = make_text(max_characters=2, normal_form="NFKC", min_characters=2)
    assert check_text("e\u0301e\u0301", item) == "éé"
    assert refusal("e\u0301", item) == "too_few_characters"
    assert refusal("\ufdfa", item) == "too_many_characters"  # one character that becomes 18


def test_no_character_is_composed_of_more_than_the_bound(make_text: Make) -> None:
    longest = max(len(unicodedata.normalize("NFD", character)) for character in CHARACTERS)
    assert longest == MAX_COMPOSED
    text = next(character for character in CHARACTERS if len(unicodedata.normalize("NFD", character)) == longest)
    assert check_text(unicodedata.normalize("NFD", text), make_text(max_characters=1)) == text


@pytest.mark.parametrize("mark", ["\u0301", "\u0f73", "\uff9e", "\U0001d165"], ids=ascii)
def test_marks_in_a_row_at_the_limit_pass_and_one_more_is_refused(make_text: Make, mark: str) -> None:
    assert check_text("a" + mark * MAX_MARKS_IN_A_ROW, make_text())
    assert refusal("a" + mark * (MAX_MARKS_IN_A_ROW + 1), make_text()) == "too_many_marks"


@pytest.mark.parametrize("pair", ["\u0300\u0316", "\u0f73", "\u0300\uff9e"], ids=ascii)
@pytest.mark.parametrize("normal_form", ["NFC", "NFKC"])
def test_marks_that_python_sorts_in_quadratic_time_never_get_there(
    make_text: Make, pair: str, normal_form: str
) -> None:
    """A million of them would take Python a quarter of an hour."""
    item = make_text(max_bytes=10_000_000, max_characters=10_000_000, normal_form=normal_form)
    assert refusal("a" + pair * 1_000_000, item) == "too_many_marks"


def test_every_combining_mark_is_known() -> None:
    marks = {character for character in CHARACTERS if unicodedata.combining(character)}
    classes = _classify("".join(CHARACTERS))
    known = {character for character, found in zip(CHARACTERS, classes, strict=True) if found == ord(_MARK)}
    assert known == marks | set(_LIKE_MARKS)


def test_every_character_that_decomposes_to_marks_is_known() -> None:
    hidden = [
        c
        for c in CHARACTERS
        if not unicodedata.combining(c) and unicodedata.combining(unicodedata.normalize("NFKD", c)[0])
    ]
    assert "".join(hidden) == _LIKE_MARKS


@SEEDED
@given(value=st.binary(max_size=60) | st.text(max_size=60), normal_form=st.sampled_from(["NFC", "NFKC"]))
def test_whatever_comes_leaves_a_normal_text_or_a_refusal(value: str | bytes, normal_form: str) -> None:
    item = TextInput("text", ("raw",), 100, 1, 30, 10, normal_form)
    try:
        text = check_text(value, item)
    except Refused as refused:
        assert type(refused) is REASONS[refused.reason]
    else:
        assert 1 <= len(text) <= 30
        assert unicodedata.is_normalized(normal_form, text)  # type: ignore[arg-type]
        assert check_text(text, TextInput("text", ("raw",), 1_000, 1, 30, 10, normal_form)) == text
