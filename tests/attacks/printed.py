"""What a server might print to forge, spoil or flood the log, and what is wrong with a log that it got into."""

import json
from dataclasses import dataclass
from typing import NoReturn

from garrison.event import MAX_LINE_BYTES, MORE, NUMBERS, TEXTS

MARK = "gotcha"  # the client that a forged event names
FORGED = b'{"time":"2026-01-01T00:00:00Z","gate":"gateway","event":"request","client":"gotcha","status":200}'
OLD_PIECE_BYTES = 16 * 1024  # in which a launcher may read that takes a piece of a line for a line


@dataclass(frozen=True)
class Print:
    """Bytes that a server prints: so many lines of the log, and no more, may come of them."""

    name: str
    printed: bytes
    lines: int = 1


PRINTS = (
    Print("an-event-of-another-gate", FORGED),
    Print("a-gate-twice", b'{"gate":"tfserving","event":"log","gate":"cell"}'),
    Print("a-long-line-that-goes-on-as-an-event", b"x" * OLD_PIECE_BYTES + FORGED),
    Print("an-event-that-goes-on-after-much-space", FORGED + b" " * OLD_PIECE_BYTES + b"and so on"),
    Print("an-event-in-a-text", b'{"logger":"org.pytorch","message":' + json.dumps(FORGED.decode()).encode() + b"}"),
    Print("a-megabyte", b"x" * 2**20),
    Print("an-event-of-12-kB", b'{"event":"log","message":"' + b"x" * 12_000 + b'"}'),
    Print("a-thousand-fields", b"{" + b",".join(b'"f%d":1' % number for number in range(1000)) + b"}"),
    Print("a-number-where-a-text-belongs", b'{"event":"log","client":7,"status":"fine"}'),
    Print("an-object-where-a-text-belongs", b'{"event":"log","client":{"name":{"x":1}}}'),
    Print("not-a-number", b'{"event":"log","status":NaN}'),
    Print("a-number-out-of-range", b'{"event":"log","status":1e999}'),
    Print("a-number-longer-than-any-float", b'{"event":"log","status":' + b"9" * 400 + b"}\nand so on", lines=2),
    Print("deep", b'{"a":' * 3000 + b"1" + b"}" * 3000),
    Print("escapes-of-a-terminal", b'{"event":"log","message":"\x1b[2J\x1b]0;root\x07"}'),
    Print("a-carriage-return", b'warning\r{"event":"request"}'),
    Print("delete-and-c1", '{"event":"log","message":"\x7f\x9b31m\x85"}'.encode()),
    Print("ends-of-lines-of-unicode", "a\u2028b\u2029c\u0085d".encode()),
    Print("no-utf-8", b'{"event":"log","message":"\xff\xfe\xc3"}'),
    Print("half-a-surrogate-pair", b'{"event":"log","message":"\\ud800"}'),
    Print("nul", b'{"event":"log","message":"a\x00b"}\x00'),
    Print("a-name-with-quotes", b'{"event":"re\\"quest","model":"dig\\"its"}'),
    Print("a-byte-order-mark", b"\xef\xbb\xbf" + FORGED),
)  # fmt: skip


def find_faults(log: bytes, gates: set[str], lines: int | None = None) -> list[str]:
    """Return what is wrong with a log of these gates; with `lines`, also if it has another number of them."""
    found = log.removesuffix(b"\n").split(b"\n")
    faults = [f"{fault}: {line[:200]!r}" for line in found for fault in _find_faults(line, gates)]
    return faults + ([f"{len(found)} lines"] if lines not in (None, len(found)) else [])


def _find_faults(line: bytes, gates: set[str]) -> list[str]:
    try:
        event = json.loads(line.decode("utf-8"), parse_constant=_refuse)
        json.dumps(event, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return ["no JSON"]
    if type(event) is not dict or not {"time", "gate", "event"} <= event.keys():
        return ["no event"]
    faults = {
        "longer than a line may be": len(line) > MAX_LINE_BYTES,
        "a control character": not line.decode().isprintable() or not line.isascii(),
        "a forged gate": event["gate"] not in gates,
        "an unknown field": not event.keys() <= {*TEXTS, *NUMBERS, MORE, "time", "gate", "event", "cut"},
        "a field of another type": not all(_has_its_type(name, value) for name, value in event.items()),
    }
    return [fault for fault, holds in faults.items() if holds]


def _has_its_type(name: str, value: object) -> bool:
    if name == "cut":
        return value is True
    return type(value) in (int, float) if name in NUMBERS else type(value) is str


def _refuse(name: str) -> NoReturn:
    raise ValueError(name)
