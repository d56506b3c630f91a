"""Write what happens: one JSON object a line for machines, one plain sentence for the person at the terminal.

Lines of the servers pass through `relay`; what is not a JSON object (a JVM's warning, a crash message) is wrapped into
one, so that the log stays one format whatever a server prints.
"""

import contextlib
import json
import threading
from datetime import UTC, datetime
from typing import Any, BinaryIO, NoReturn, TextIO

MAX_MESSAGE_CHARACTERS = 2000
WORKER_LOGGER = "MODEL_LOG"  # TorchServe's name for what workers print
WORKER_GATES = ("contract", "cell")  # what a worker says, and what its supervisor does


class EventLog:
    """Collect the lines of all parts in one stream; `terminal` gets the sentences meant for a person.

    Writing never raises, so that stopping is never cut short; `failure` says why the log could not be written, and
    whoever runs the servers has to stop then: what is not logged is not seen.
    """

    def __init__(self, stream: BinaryIO, terminal: TextIO | None) -> None:
        self._stream = stream
        self._terminal = terminal
        self._lock = threading.Lock()
        self.failure = ""

    def tell(self, event: str, sentence: str) -> None:
        """Report an event of the launcher itself."""
        if self._terminal is not None:
            with contextlib.suppress(OSError, ValueError):  # a terminal that was closed
                print(sentence, file=self._terminal, flush=True)
        self._write({"gate": "launcher", "event": event, "message": sentence})

    def relay(self, gate: str, line: bytes) -> None:
        """Pass on a server's line of output, under the server's own gate whatever the line says."""
        event = _parse_object(line)
        if event is not None:
            self._write_line(json.dumps(_unwrap({**event, "gate": gate})).encode())
        elif line.strip():
            text = line.decode("utf-8", "replace")[:MAX_MESSAGE_CHARACTERS]
            self._write({"gate": gate, "event": "output", "message": text})

    def _write(self, event: dict[str, str]) -> None:
        time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._write_line(json.dumps({"time": time, **event}).encode())

    def _write_line(self, line: bytes) -> None:
        with self._lock:
            if self.failure:
                return
            try:
                self._stream.write(line + b"\n")
                self._stream.flush()
            except (OSError, ValueError) as error:  # nobody reads any more, or the disk is full
                self.failure = str(error)


class OnceLog:
    """Report each sentence once, until `forget`: for who meets the same trouble again and again."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._told: set[str] = set()

    def tell(self, event: str, sentence: str) -> None:
        """Report an event of the launcher itself, unless this was said already."""
        if sentence not in self._told:
            self._told.add(sentence)
            self._log.tell(event, sentence)

    def forget(self) -> None:
        """Say everything anew that happens from now on."""
        self._told.clear()


def _unwrap(event: dict[str, Any]) -> dict[str, Any]:
    """Bring an event that came by a worker's standard output, wrapped by TorchServe as a message, to the top.

    The worker's supervisor stamped it: it says which gate speaks, and a worker cannot say "cell". What bears no such
    stamp is no such event.
    """
    if event.get("logger") != WORKER_LOGGER:
        return event
    inner = _parse_object(str(event.get("message", "")).strip().encode())
    if inner is None or inner.get("gate") not in WORKER_GATES:
        return event
    return {**inner, "time": event.get("time", "")}


def _parse_object(line: bytes) -> dict[str, Any] | None:
    if not line.startswith(b"{"):
        return None
    try:
        value = json.loads(line.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)  # NaN and Infinity are Python's, not JSON's
