"""Write what happens: one JSON object a line for machines, one plain sentence for the person at the terminal.

Lines of the servers pass through `relay`; what is not a JSON object (a JVM's warning, a crash message) is wrapped into
one, so that the log stays one format whatever a server prints. See `event` for that format and its bounds.
"""

import collections
import contextlib
import threading
from collections.abc import Mapping
from typing import Any, BinaryIO, Protocol, TextIO

from garrison.event import OUTPUT, escape, read_event, write_event

WORKER_LOGGER = "MODEL_LOG"  # TorchServe's name for what workers print
WORKER_GATES = ("contract", "cell")  # what a worker says, and what its supervisor does


class EventLog:
    """Collect the lines of all parts in one stream; `terminal` gets the sentences meant for a person.

    Writing never raises, so that stopping is never cut short; `failure` says why the log could not be written, and
    whoever runs the servers has to stop then: what is not logged is not seen. `cut` counts lines that were cut, by
    gate.
    """

    def __init__(self, stream: BinaryIO, terminal: TextIO | None) -> None:
        self._stream = stream
        self._terminal = terminal
        self._lock = threading.Lock()
        self.failure = ""
        self.cut: collections.Counter[str] = collections.Counter()

    def tell(self, event: str, sentence: str) -> None:
        """Report an event of the launcher itself."""
        if self._terminal is not None:
            with contextlib.suppress(OSError, ValueError):  # a terminal that was closed
                print(escape(sentence), file=self._terminal, flush=True)
        self._write("launcher", {"event": event, "message": sentence})

    def relay(self, gate: str, line: bytes) -> None:
        """Pass on a server's line of output, under the server's own gate whatever the line says."""
        event = read_event(line)
        if event is None:
            self.relay_text(gate, line)
        else:
            self._write(*_unwrap(gate, event))

    def relay_text(self, gate: str, line: bytes) -> None:
        """Pass on a line of a server that writes no events, so that none of its lines can look like one."""
        if line.strip():
            self._write(gate, {"event": OUTPUT, "message": line.decode("utf-8", "replace")})

    def _write(self, gate: str, fields: Mapping[str, Any]) -> None:
        line, cut = write_event(gate, fields)
        with self._lock:
            if self.failure:
                return
            self.cut[gate] += cut
            try:
                self._stream.write(line + b"\n")
                self._stream.flush()
            except (OSError, ValueError) as error:  # nobody reads any more, or the disk is full
                self.failure = str(error)


class Teller(Protocol):
    """What takes events of the launcher itself."""

    def tell(self, event: str, sentence: str) -> None:
        """Report an event."""


class OnceLog:
    """Report each sentence once, until `forget`: for who meets the same trouble again and again."""

    def __init__(self, log: Teller) -> None:
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


def _unwrap(gate: str, event: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Bring an event that came by a worker's standard output, wrapped by TorchServe as a message, to the top.

    The worker's supervisor stamped it: it says which gate speaks, and a worker cannot say "cell". What bears no such
    stamp is no such event.
    """
    if event.get("logger") != WORKER_LOGGER:
        return gate, event
    inner = read_event(str(event.get("message", "")).strip().encode("utf-8", "replace"))
    if inner is None or inner.get("gate") not in WORKER_GATES:
        return gate, event
    return inner["gate"], {**inner, "time": event.get("time", "")}
