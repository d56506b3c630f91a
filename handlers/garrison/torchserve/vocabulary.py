"""Turn text into token numbers: a text enters, int64 numbers leave.

The file is JSON, {"token": number, ...}. `<unk>` must be in it and stands for every word that is not; `<pad>` may be.
A text is written in lower case and cut into runs of letters, digits and underscores, and into single other marks.

With `<pad>`, a text is filled up to 8, 16, 32, ... tokens, at most `max_tokens`; without it, never. It is never filled
up to the longest text of a batch: an answer would then depend on who else asks at the same moment.
"""

import json
import re
from collections.abc import Mapping
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from garrison.errors import ConfigError, OutOfContract, TooLarge

MAX_FILE_BYTES = 64 * 2**20
MAX_TOKENS = 10_000_000
UNKNOWN = "<unk>"
PADDING = "<pad>"
SHORTEST = 8
_WORD = re.compile(r"\w+|[^\w\s]")  # one run or one mark: linear in the length of the text


class Vocabulary:
    """The tokens that a model knows, by number; `unknown` stands for all others."""

    def __init__(self, numbers: Mapping[str, int]) -> None:
        self._numbers = dict(numbers)
        self.unknown = self._numbers[UNKNOWN]
        self._padding = self._numbers.get(PADDING)

    def __len__(self) -> int:
        """Return how many rows the model's table of tokens must have."""
        return max(self._numbers.values()) + 1

    def encode(self, text: str, max_tokens: int) -> NDArray[np.int64]:
        """Return the numbers of a text's tokens, filled up to one of few lengths.

        Raises:
            RequestRefused: there is no token in it, or more than `max_tokens`.
        """
        words = self.split(text, max_tokens)
        numbers = [self._numbers.get(word, self.unknown) for word in words]
        return np.array(numbers + self._fill(len(numbers), max_tokens), np.int64)

    def split(self, text: str, max_tokens: int) -> list[str]:
        """Return a text's tokens as words, without any filling.

        Raises:
            RequestRefused: as for `encode`.
        """
        words = [match.group() for match in islice(_WORD.finditer(text.lower()), max_tokens + 1)]
        if not words:
            raise OutOfContract("too_few_characters", "The text has no word in it.")
        if len(words) > max_tokens:
            raise TooLarge("too_many_tokens", f"The text has more than the {max_tokens} tokens allowed.")
        return words

    def _fill(self, count: int, max_tokens: int) -> list[int]:
        if self._padding is None:
            return []
        length = SHORTEST
        while length < count:
            length *= 2
        return [self._padding] * (min(length, max_tokens) - count)


def parse_vocabulary(data: bytes, name: str) -> Vocabulary:
    """Read a vocabulary from the bytes of the file `name`.

    Raises:
        ConfigError: it is not a mapping of tokens to numbers with `<unk>` in it.
    """
    advice = f'write {{"{UNKNOWN}": 0, "{PADDING}": 1, "first": 2, ...}}'
    try:
        values = json.loads(data) if len(data) <= MAX_FILE_BYTES else None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{name}: not JSON; {advice}") from error
    if not isinstance(values, dict) or not all(_is_number(number) for number in values.values()):
        raise ConfigError(f"{name}: not a mapping of tokens to whole numbers below {MAX_TOKENS}; {advice}")
    if UNKNOWN not in values:
        raise ConfigError(f"{name}: no number for {UNKNOWN}, the words that are not listed; {advice}")
    return Vocabulary(values)


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_TOKENS
