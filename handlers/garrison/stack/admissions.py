"""Count what admission decided: the lines of a store's audit log enter, as they are appended, and metrics leave.

The log may be written by another process, in another container; it is read here, and its chain checked. What it holds
from before the start counts, too. A log that is broken is told and shown; what was counted of it stands.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from garrison.admission.reasons import REASONS
from garrison.audit import AuditTail
from garrison.errors import ArtifactRefused, ConfigError
from garrison.eventlog import EventLog, OnceLog
from garrison.watch import families
from garrison.watch.series import Series


class Admissions:
    """What one store's log says; belongs to one thread, but for `measure`."""

    def __init__(self, path: Path, log: EventLog) -> None:
        self._tail, self._once = AuditTail(path), OnceLog(log)
        self._admitted, self._refused = 0, Counter(dict.fromkeys(REASONS, 0))
        self._whole = True

    def look(self) -> None:
        """Count what is new."""
        try:
            for event in self._tail.news():
                self._admitted += event.get("event") == "admitted"
                if event.get("event") == "refused":
                    reason = str(event.get("reason"))
                    self._refused[reason if reason in REASONS else families.OTHER] += 1
        except (ArtifactRefused, ConfigError) as error:
            self._whole = False
            told = error.detail if isinstance(error, ArtifactRefused) else str(error)
            self._once.tell("audit_log_broken", f"{told}; run `garrison audit verify`, and keep the file")

    def measure(self) -> Iterator[tuple[Series, float]]:
        """Return what was counted so far; each reason is there from the start, so that its first time is seen."""
        yield (families.ADMITTED.name, ()), self._admitted
        yield (families.AUDIT_WHOLE.name, ()), self._whole
        for reason, count in dict(self._refused).items():
            yield (families.ADMISSION_REFUSALS.name, (reason,)), count
