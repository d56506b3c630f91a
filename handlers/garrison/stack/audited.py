"""Keep a chained log of a gateway's configurations beside what is told: what came in force when, what was refused.

Requests do not wait for it: where it cannot be written the gateway goes on, and says so each time.
"""

from pathlib import Path

from garrison.audit import AuditLog
from garrison.errors import Undecided
from garrison.eventlog import EventLog

MOST_CHARACTERS = 4000  # of a sentence; a line of the log may be longer


class AuditedLog:
    """Tell events, and append them to an audit log; to none without a path."""

    def __init__(self, log: EventLog, path: Path | None) -> None:
        self._log = log
        self._audit = None if path is None else AuditLog(path)

    def tell(self, event: str, sentence: str) -> None:
        """Report an event of the launcher, and write it down."""
        self._log.tell(event, sentence)
        self.append(event, sentence)

    def append(self, event: str, sentence: str) -> None:
        """Write an event down that nobody is told."""
        if self._audit is None:
            return
        try:
            self._audit.append({"event": event, "message": sentence[:MOST_CHARACTERS]})
        except Undecided as error:
            self._log.tell("audit_failed", f"{error}; not in the audit log: {event}")
