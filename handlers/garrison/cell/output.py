"""Pass on what a worker prints: bytes of any kind enter, stamped lines of JSON leave, bounded in length and rate.

TorchServe acts on some lines that a worker prints, and writes all of them to its log. Behind the relay each line is one
JSON object that begins with `{`, and whose "gate" and "model" we set: a model can neither command the server nor speak
for another gate or model.

A worker may print faster than the server can log. What is beyond the rate is dropped and counted, and beyond a second,
higher rate nothing is read: then the worker waits at its own full pipe, and costs the others nothing.

Not defended against: a model may print what is not true about itself.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

MAX_STAMPED_CHARACTERS = 1900  # TorchServe's log cuts a message at 2,000
MAX_LINE_BYTES = 4096  # held of a line that is not complete; an object in it may be written with escapes and spaces
MAX_NESTING = 32
FORWARDED_BYTES_PER_S = 512 * 1024  # at most 850 lines; server and launcher take 6 % of a core for them (campaign-cell)
FORWARDED_AT_ONCE_BYTES = 4 * 1024 * 1024  # loading a model may say much within a second
LINE_COST_BYTES = 512  # what a line costs the server and the log besides its length
READ_BYTES_PER_S = 8 * 1024 * 1024
READ_AT_ONCE_BYTES = 64 * 1024  # what a pipe holds
SAVED_READS = 4
REPORT_INTERVAL_S = 5.0
LONGEST_WAIT_S = 1.0  # for the rest of a line
WORKER_GATE = "contract"
OWN_GATE = "cell"
_CUT = " ... (cut)"

Clock = Callable[[], float]


class Relay:
    """Stamp the lines of one worker and hand them to `write`, one line with its newline at a time."""

    def __init__(self, model: str, write: Callable[[bytes], None], clock: Clock = time.monotonic) -> None:
        self._model = model
        self._write = write
        self._clock = clock
        self._lines = {"stdout": _Line(clock), "stderr": _Line(clock)}
        self._forwarded = _Bucket(FORWARDED_BYTES_PER_S, FORWARDED_AT_ONCE_BYTES, clock)
        self._read = _Bucket(READ_BYTES_PER_S, SAVED_READS * READ_AT_ONCE_BYTES, clock)
        self._reported_bytes = 0
        self._reported_at = float("-inf")
        self.dropped_bytes = 0

    def allowance(self) -> int:
        """Return how many bytes of the worker's output may be read now; 0 means: wait some milliseconds."""
        return READ_AT_ONCE_BYTES if self._read.holds(READ_AT_ONCE_BYTES) else 0

    def feed(self, stream: str, data: bytes) -> None:
        """Take what was read from the worker's "stdout" or "stderr"."""
        self._read.take(len(data))
        line = self._lines[stream]
        data = data.replace(b"\r", b"\n")  # of a progress bar, too, each state is a line
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            if not self._forwarded.holds(1):
                end = data.rfind(b"\n")
                self.dropped_bytes += line.forget() + end + 1 - start
            else:
                self.dropped_bytes += line.add(data[start:end])
                self._forward(line)
            start = end + 1
        self.dropped_bytes += line.add(data[start:])
        self._report(REPORT_INTERVAL_S)

    def tick(self) -> None:
        """Pass on what has waited long enough: the beginning of a line, a report of what was dropped."""
        for line in self._lines.values():
            if line.age_s() > LONGEST_WAIT_S and self._forwarded.holds(1):
                self._forward(line)
        self._report(REPORT_INTERVAL_S)

    def flush(self) -> None:
        """Pass on what has not been ended by a newline, and what was dropped: the worker prints no more."""
        for line in self._lines.values():
            self._forward(line)
        self._report(0)

    def tell(self, event: str, message: str, **fields: Any) -> None:
        """Report an event of the cell itself. These are never dropped: whoever tells keeps them few."""
        stamp = {"gate": OWN_GATE, "event": event, "model": self._model}
        self._write(_fit({**stamp, **fields, **stamp}, message) or _fit(stamp, message))

    def _forward(self, line: "_Line") -> None:
        cut, text = line.cut, line.take()
        stamped = b"" if cut else self._stamp(text)
        if not stamped and text.strip():
            output = {"gate": WORKER_GATE, "event": "output", "model": self._model}
            stamped = _fit(output, text.decode("utf-8", "replace") + _CUT * cut)
        self._forwarded.take(len(stamped) + LINE_COST_BYTES)
        if stamped:
            self._write(stamped)

    def _stamp(self, text: bytes) -> bytes:
        """Return the object that a line holds, as ours; nothing if it holds none, or one that is too long."""
        event = _parse_object(text)
        if event is None:
            return b""
        if not isinstance(event.get("event"), str):
            event["event"] = "output"
        stamp = {"gate": WORKER_GATE, "model": self._model}
        return _encode({**stamp, **event, **stamp})

    def _report(self, interval_s: float) -> None:
        dropped = self.dropped_bytes - self._reported_bytes
        now = self._clock()
        if dropped and now - self._reported_at >= interval_s:
            self._reported_bytes, self._reported_at = self.dropped_bytes, now
            self.tell("output_dropped", f"{dropped} bytes of the model's output were dropped", bytes=dropped)


@dataclass
class _Line:
    """What one stream has printed since its last newline, as far as it is kept."""

    clock: Clock
    held: bytearray = field(default_factory=bytearray)
    cut: bool = False
    began: float = 0.0

    def age_s(self) -> float:
        """Return how long ago the line began; 0 if it has not."""
        return self.clock() - self.began if self.held else 0.0

    def add(self, piece: bytes) -> int:
        """Keep what there is room for, and return how many bytes were dropped."""
        if not self.held:
            self.began = self.clock()
        room = MAX_LINE_BYTES - len(self.held)
        self.held += piece[:room]
        dropped = max(len(piece) - room, 0)
        self.cut = self.cut or dropped > 0
        return dropped

    def take(self) -> bytes:
        text = bytes(self.held)
        self.forget()
        return text

    def forget(self) -> int:
        """Begin a new line, and return how many bytes were kept of this one."""
        count = len(self.held)
        self.held.clear()
        self.cut = False
        return count


class _Bucket:
    """So many tokens a second, and at most so many saved; what is taken beyond that is owed."""

    def __init__(self, rate_per_s: float, most: float, clock: Clock) -> None:
        self._rate_per_s = rate_per_s
        self._most = most
        self._clock = clock
        self._level = most
        self._filled_at = clock()

    def holds(self, count: int) -> bool:
        return self._fill() >= count

    def take(self, count: int) -> None:
        self._level = self._fill() - count

    def _fill(self) -> float:
        now = self._clock()
        self._level = min(self._most, self._level + max(now - self._filled_at, 0) * self._rate_per_s)
        self._filled_at = now
        return self._level


def _fit(event: dict[str, Any], message: str) -> bytes:
    """Return an event as a line, its message cut until the line is short enough; nothing if it cannot be."""
    line = _encode({**event, "message": message})
    while not line and message:
        message = message.removesuffix(_CUT)[: min(len(message) * 3 // 4, MAX_STAMPED_CHARACTERS)]
        line = _encode({**event, "message": message + _CUT}) if message else b""
    return line


def _encode(event: dict[str, Any]) -> bytes:
    """Return one line of ASCII, or nothing if it would be too long or no JSON."""
    try:
        text = json.dumps(event, allow_nan=False, default=str)
    except (ValueError, RecursionError):
        return b""
    return text.encode("ascii") + b"\n" if len(text) <= MAX_STAMPED_CHARACTERS else b""


def _parse_object(line: bytes) -> dict[str, Any] | None:
    if not line.startswith(b"{") or line.count(b"{") + line.count(b"[") > MAX_NESTING:
        return None
    try:
        value = json.loads(line.decode("utf-8"), parse_constant=_refuse_constant)
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # half a surrogate pair is no text
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)  # NaN and Infinity are Python's, not JSON's
