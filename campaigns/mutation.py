"""Make new inputs out of real ones: bytes, numbers, blocks and JSON values changed, from a seed."""

import copy
import json
import random
import re
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any

MAX_BYTES = 70_000
MAX_BLOCK_BYTES = 64
MAX_STEPS = 5
INTERESTING = (0, 1, 2, 7, 8, 127, 128, 255, 256, 32_767, 32_768, 65_535, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
NUMBERS = (b"0", b"-1", b"1e400", b"-0.0", b"1e-400", b"256", b"9999999999", b"0.1", b"2147483648", b"1" * 400)
VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        -1,
        1.5,
        1e308,
        2**64,
        300,
        "",
        "A",
        "QUJD",
        "\x00",
        "\u202e",
        [],
        {},
        [[]],
        [0],
        {"b64": "QQ=="},
    ),
    *({"data": 1}, "1", float("inf"), [1, [2]], "a" * 300),
)
_DIGITS = re.compile(rb"\d+(?:\.\d+)?")
_PNG = b"\x89PNG\r\n\x1a\n"


class Mutator:
    """An endless source of inputs, the same for the same seed."""

    def __init__(self, seeds: Sequence[bytes], tokens: Sequence[bytes], seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 - repeatable, not secret
        self.seeds, self.tokens = list(seeds), list(tokens) or [b"\0"]
        self.trees = [json.dumps(tree) for tree in map(_parse, seeds) if isinstance(tree, dict | list)]
        self.steps: tuple[Callable[[bytearray], None], ...] = (
            *(self._flip, self._overwrite, self._insert, self._delete, self._repeat, self._place_number),
            *(self._place_token, self._splice, self._replace_digits, self._cut),
        )

    def make(self) -> bytes:
        """Return the next input."""
        if self.trees and self.random.random() < 0.5:
            data = bytearray(self._change_tree(json.loads(self.random.choice(self.trees))))
            if self.random.random() < 0.7:
                return bytes(data)
        else:
            data = bytearray(self.random.choice(self.seeds))
        for _ in range(self.random.randint(1, MAX_STEPS)):
            self.random.choice(self.steps)(data)
        if data[:8] == _PNG and self.random.random() < 0.7:
            _mend_checksums(data)
        return bytes(data[:MAX_BYTES])

    def change_json(self, data: bytes) -> bytes | None:
        """Return JSON with one or more of its values changed, or None if it is no JSON object or list."""
        tree = _parse(data) if data[:1] in (b"{", b"[") else None
        return self._change_tree(tree) if isinstance(tree, dict | list) else None

    # --- bytes ------------------------------------------------------------------------------------------------------

    def _place(self, data: bytearray) -> int:
        """Choose a place, more often near the beginning, where the headers are."""
        return int(self.random.random() ** self.random.choice((1, 1, 3)) * len(data))

    def _block(self, data: bytearray) -> slice:
        start = self._place(data)
        return slice(start, start + self.random.randint(1, MAX_BLOCK_BYTES))

    def _flip(self, data: bytearray) -> None:
        if data:
            data[self._place(data)] ^= 1 << self.random.randrange(8)

    def _overwrite(self, data: bytearray) -> None:
        count = self.random.randint(1, 8)
        start = self._place(data)
        data[start : start + count] = self.random.randbytes(count)

    def _insert(self, data: bytearray) -> None:
        start = self._place(data)
        data[start:start] = self.random.randbytes(self.random.randint(1, 8))

    def _delete(self, data: bytearray) -> None:
        del data[self._block(data)]

    def _repeat(self, data: bytearray) -> None:
        block = self._block(data)
        data[block.start : block.start] = data[block] * self.random.choice((1, 1, 2, 50))

    def _place_number(self, data: bytearray) -> None:
        number = self.random.choice(INTERESTING)
        form = self.random.choice((">I", "<I", ">H", "<H", "B"))
        size = struct.calcsize(form)
        start = self._place(data)
        data[start : start + size] = struct.pack(form, number % 256**size)

    def _place_token(self, data: bytearray) -> None:
        token = self.random.choice(self.tokens)
        start = self._place(data)
        data[start : start + self.random.choice((0, len(token)))] = token

    def _splice(self, data: bytearray) -> None:
        other = self.random.choice(self.seeds)
        start = self._place(data)
        data[start:] = other[min(start, self.random.randint(0, len(other))) :]

    def _replace_digits(self, data: bytearray) -> None:
        match = _DIGITS.search(data, self._place(data)) or _DIGITS.search(data)
        if match:
            data[match.start() : match.end()] = self.random.choice(NUMBERS)

    def _cut(self, data: bytearray) -> None:
        del data[self._place(data) :]

    # --- JSON -------------------------------------------------------------------------------------------------------

    def _change_tree(self, tree: Any) -> bytes:
        for _ in range(self.random.randint(1, 3)):
            tree = self._change(tree)
        return json.dumps(tree, ensure_ascii=self.random.random() < 0.5).encode("utf-8", "surrogatepass")

    def _change(self, value: Any) -> Any:
        """Go down a random way, and change what is at its end."""
        if not value or not isinstance(value, dict | list) or self.random.random() < 0.15:
            return self._replace(value)
        key = self.random.choice(list(value)) if isinstance(value, dict) else self.random.randrange(len(value))
        action = self.random.random()
        if action < 0.8:
            value[key] = self._change(value[key])
        elif action < 0.9:
            del value[key]
        elif isinstance(value, dict):
            value[self.random.choice(("data", "b64", "x", "size", "inputs"))] = copy.deepcopy(value[key])
        else:
            value.insert(self.random.randint(0, len(value)), copy.deepcopy(value[key]))
        return value

    def _replace(self, value: Any) -> Any:
        action = self.random.random()
        if action < 0.2:
            return [value]
        if action < 0.3:
            return {self.random.choice(("data", "body", "b64", "instances")): value}
        if isinstance(value, int | float) and action < 0.6:
            return self.random.choice((value + 1, -value, value * 1.5, value * 10**9, float(value), str(value)))
        if isinstance(value, str) and action < 0.6:
            token = self.random.choice(self.tokens).decode("utf-8", "replace")
            return self.random.choice((value * 2, value[:-1], value + token, value[::-1], token))
        return copy.deepcopy(self.random.choice(VALUES))


def _parse(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _mend_checksums(data: bytearray) -> None:
    """Make the checksums of a PNG's chunks right again, so that the mutation is looked at."""
    start = 8
    while start + 12 <= len(data):
        length = int.from_bytes(data[start : start + 4], "big")
        end = start + 8 + length
        if end + 4 > len(data):
            return
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[start + 4 : end]))
        start = end + 4
