"""Measure a text: its length, and of about 64 of its characters which kinds they are."""

import bisect
from collections.abc import Sequence

CHARACTERS = 64
_RANGES = (  # first code point, script; blocks of Unicode, as far as writing goes
    (0x0041, "latin"),
    (0x0370, "greek"),
    (0x0400, "cyrillic"),
    (0x0530, ""),
    (0x0590, "hebrew"),
    (0x0600, "arabic"),
    (0x0780, ""),
    (0x0900, "indic"),
    (0x0E00, "thai"),
    (0x0E80, ""),
    (0x1100, "hangul"),
    (0x1200, ""),
    (0x1E00, "latin"),
    (0x1F00, "greek"),
    (0x2000, ""),
    (0x3040, "kana"),
    (0x3100, ""),
    (0x3400, "han"),
    (0xA000, ""),
    (0xAC00, "hangul"),
    (0xD7B0, ""),
    (0xF900, "han"),
    (0xFB00, ""),
    (0xFB50, "arabic"),
    (0xFE00, ""),
    (0x20000, "han"),
    (0x32000, ""),
)
_STARTS = tuple(start for start, _ in _RANGES)


def measure_text(text: str, _: tuple[int, int] | None = None) -> Sequence[float | str | None]:
    """Return the features of a text; its shares are of the characters that are no blanks."""
    sample = [one for one in text[:: max(1, -(-len(text) // CHARACTERS))] if not one.isspace()]
    words = text.count(" ") + text.count("\n") + 1
    count = len(sample) or 1
    letters = [one for one in sample if one.isalpha()]
    return (
        float(len(text)),
        (len(text) - words + 1) / words,
        sum(map(str.isdigit, sample)) / count,
        sum(not one.isalnum() for one in sample) / count,
        sum(map(str.isupper, letters)) / (len(letters) or 1),
        sum(one > "\x7f" for one in sample) / count,
        _find_script(letters),
    )


def _find_script(letters: Sequence[str]) -> str:
    """Return the script that most letters are of."""
    scripts = [_RANGES[bisect.bisect_right(_STARTS, ord(one)) - 1][1] for one in letters]
    named = [script for script in scripts if script]
    return max(set(named), key=named.count) if named else "none"
