"""The form of an event: what a part says enters, one line of JSON leaves, its fields, types and length bounded.

Every event has `time` (UTC), `gate` and `event`. The fields in `TEXTS` and `NUMBERS` have one type each, so that an
index meets no other; what a part says beyond them stands as text in `more`. What is too long is cut: the text ends with
`CUT`, and the event says `"cut": true`. The line is ASCII, without control characters.

Not defended against: what a part says may be untrue; whoever relays it says whose word it is (the gate).
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NoReturn

MAX_LINE_BYTES = 8 * 1024  # without its end; engines split a line of 16 KiB, and shippers take at least that
MAX_TEXT_CHARACTERS = 2000
CUT = " ... (cut)"
OUTPUT = "output"  # what is no event, as the message of one
MORE = "more"
TEXTS = frozenset(
    {
        *("client", "key_id", "way", "model", "verb", "api", "method", "path", "protocol", "reason", "detail"),
        *("request_id", "level", "logger", "message", "call", "stage"),
    }
)
NUMBERS = frozenset(
    {"status", "grpc_status", "duration_ms", "body_ms", "upstream_ms", "bytes_in", "bytes_out", "bytes", "count"}
)
_STAMPS = frozenset({"time", "gate", "event"})
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)
_MOST = 2**53  # beyond it others read another number


def write_event(gate: str, fields: Mapping[str, Any]) -> tuple[bytes, bool]:
    """Return an event as a line without its end, and whether it was cut; a time that is missing or none is now."""
    event: dict[str, Any] = {"time": _write_time(fields.get("time")), "gate": gate, "event": OUTPUT}
    rest = {}
    for name, value in fields.items():
        if name == "event" and isinstance(value, str) and _NAME.fullmatch(value):
            event["event"] = value
        elif name in TEXTS and isinstance(value, str):
            event[name] = value if len(value) <= MAX_TEXT_CHARACTERS else _cut(value, MAX_TEXT_CHARACTERS)
        elif name in NUMBERS and _is_number(value):
            event[name] = value
        elif name not in _STAMPS - {"event"} and value is not None:
            rest[name] = value
    if rest:
        event[MORE] = _write_rest(rest)
    return _fit(event)


def read_event(line: bytes) -> dict[str, Any] | None:
    """Return the JSON object that a line holds, or None: what is not one whole object is text."""
    if not line.startswith(b"{"):
        return None
    try:
        value = json.loads(line.decode("utf-8", "replace"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def escape(text: str, keep: str = "\n") -> str:
    """Write control characters visibly, for a person: names and messages may carry a terminal's escape sequences."""
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def _write_rest(rest: dict[str, Any]) -> str:
    try:
        return _cut(json.dumps(rest), MAX_TEXT_CHARACTERS)
    except RecursionError:  # it could just be read, a little nearer to the bottom of the stack
        return CUT


def _fit(event: dict[str, Any]) -> tuple[bytes, bool]:
    """Return an event as a line, its longest texts cut until it is short enough."""
    cut = any(isinstance(value, str) and value.endswith(CUT) for value in event.values())
    while True:
        line = _encode({**event, "cut": True} if cut else event)
        if len(line) <= MAX_LINE_BYTES:
            return line, cut
        longest = max(event, key=lambda name: len(_encode(event[name])) if name in TEXTS or name == MORE else 0)
        event[longest], cut = _cut(event[longest], len(event[longest]) * 3 // 4), True


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text.removesuffix(CUT)[: max(most - len(CUT), 0)] + CUT


def _encode(value: Any) -> bytes:
    """Return ASCII; half a surrogate pair, which is no text, is written out as it would be in a program."""
    text = json.dumps(value)
    if "\\ud" in text:
        text = json.dumps(_mend(value))
    return text.replace("\x7f", "\\u007f").encode("ascii")


def _mend(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _mend(one) for name, one in value.items()}
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -_MOST < value < _MOST  # not for NaN; an int may be longer than any float


def _write_time(value: Any) -> str:
    try:
        moment = datetime.fromisoformat(value)
        if _TIME.fullmatch(value):
            return str(value)  # as nearly all are
        if moment.tzinfo is None:
            raise ValueError
        moment = moment.astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        moment = datetime.now(UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)  # NaN and Infinity are Python's, not JSON's
