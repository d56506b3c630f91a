r"""Check a text: bytes or a JSON string enter, a text in one normal form leaves.

    1 bytes   2 UTF-8   3 characters   4 what hides or reorders   5 marks   6 normal form   7 characters again

Step 4 refuses control characters except \t, \n and \r; the embeddings, overrides and isolates of the bidirectional
algorithm (CVE-2021-42574, "Trojan Source"); and Unicode's noncharacters. The marks U+200E, U+200F and U+061C stay
allowed: they order nothing but themselves, and Hebrew and Arabic need them. So do joiners and unassigned characters:
emoji and newer scripts need those.

Step 5 comes before 6 because Python sorts combining marks in quadratic time: 64,000 of them behind one letter, in
128 kB, take 4 seconds. Thirty in a row is the bound of Unicode's Stream-Safe Text Format (UAX 15).

It does not judge what a text says, and look-alike letters of two scripts pass.
"""

import unicodedata
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from garrison.checks.reasons import refuse, too_many_bytes
from garrison.contract import TextInput
from garrison.errors import RequestRefused

MAX_MARKS_IN_A_ROW = 30
MAX_COMPOSED = 4  # characters that become one in a normal form, at most

_LIKE_MARKS = "\u0f73\u0f75\u0f81\uff9e\uff9f"  # no marks by class, but they begin with one once decomposed
_MARKS_END = 0x20000  # no combining mark beyond; looking at all 1.1 million code points would only slow the start
_MARK, _CONTROL, _OVERRIDE, _NONCHARACTER = b"\1", b"\2", b"\3", b"\4"
_HIDDEN = (
    (_CONTROL, "control_character", "A control character is in the text."),
    (_OVERRIDE, "direction_override", "A character that reorders others is in the text."),
    (_NONCHARACTER, "noncharacter", "A code point that is no character is in the text."),
)
_CHARACTERS_AT_ONCE = 65_536


def _classify_code_points() -> NDArray[np.uint8]:
    classes = np.zeros(0x110000, np.uint8)
    classes[:0x20] = classes[0x7F:0xA0] = ord(_CONTROL)
    classes[[ord(character) for character in "\t\n\r"]] = 0
    classes[0x202A:0x202F] = classes[0x2066:0x206A] = ord(_OVERRIDE)
    classes[0xFDD0:0xFDF0] = classes[0xFFFE::0x10000] = classes[0xFFFF::0x10000] = ord(_NONCHARACTER)
    classes[[code for code in range(_MARKS_END) if unicodedata.combining(chr(code))]] = ord(_MARK)
    classes[[ord(character) for character in _LIKE_MARKS]] = ord(_MARK)
    return classes


_CLASSES = _classify_code_points()


def check_text(value: bytes | str, item: TextInput) -> str:
    """Return the text in the contract's normal form.

    Raises:
        RequestRefused: it is too long or short, not UTF-8, or holds what hides or reorders characters.
    """
    data = value if isinstance(value, bytes) else _encode(value)
    if len(data) > item.max_bytes:  # 1
        raise too_many_bytes(len(data), item.max_bytes)
    text = _decode(data) if isinstance(value, bytes) else value  # 2
    _check_most(len(text), item.max_characters * MAX_COMPOSED)  # 3
    classes = _classify(text)
    for mark, reason, message in _HIDDEN:  # 4
        if mark in classes:
            raise refuse(reason, message)
    if _MARK * (MAX_MARKS_IN_A_ROW + 1) in classes:  # 5
        raise refuse("too_many_marks", f"More than {MAX_MARKS_IN_A_ROW} combining marks follow one another.")
    if not text.isascii():
        text = unicodedata.normalize(cast(Literal["NFC", "NFKC"], item.normal_form), text)  # 6
    _check_most(len(text), item.max_characters)  # 7
    if len(text) < item.min_characters:
        raise refuse("too_few_characters", f"{len(text)} characters are fewer than {item.min_characters}.")
    return text


def _encode(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _bad_utf8("half of a surrogate pair") from error


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _bad_utf8(f"at byte {error.start}") from error


def _check_most(count: int, most: int) -> None:
    if count > most:
        raise refuse("too_many_characters", f"{count} characters are more than the {most} allowed.")


def _classify(text: str) -> bytes:
    """Return one byte per character: its class; a regular expression would take fifty times as long."""
    starts = range(0, len(text), _CHARACTERS_AT_ONCE)
    pieces = (text[start : start + _CHARACTERS_AT_ONCE].encode("utf-32-le") for start in starts)
    return b"".join(_CLASSES[np.frombuffer(piece, dtype="<u4")].tobytes() for piece in pieces)


def _bad_utf8(detail: str) -> RequestRefused:
    return refuse("bad_utf8", "The text is not valid UTF-8.", detail)
