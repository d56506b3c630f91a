"""Add up what all workers counted and what their supervisors saw of them, the ended ones included.

A worker is known by its supervisor: `RUN/cells/<model>.<supervisor>.json` is what the supervisor says, and
`RUN/tmp/workers/<model>.<supervisor>/` is what the worker may write. Once a supervisor is gone, its worker is, too, and
nobody changes the counts any more: they are read a last time, added to the totals, and the rest is removed.

No counter ever goes backwards. What was read once of a worker stands until more is read, so a worker that spoils its
files, or takes its counts back, changes nothing that was counted before, and nothing of another model. That its files
cannot be read is a metric and an event.
"""

import itertools
import re
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from garrison.cell import scratch
from garrison.cell.posture import PARTS
from garrison.cell.settings import UNSAFE_WITHOUT, CellSettings
from garrison.cell.status import CLOSING, ENDED, LOADING, SERVING, UNREADABLE, Status, read_statuses
from garrison.cell.syscalls import NUMBERS
from garrison.errors import Undecided
from garrison.profile import Watched
from garrison.watch import families
from garrison.watch.counts import Keys, Reader
from garrison.watch.drift import Drift
from garrison.watch.page import write_page
from garrison.watch.series import Series

MAX_WORKERS = 2000
_NAME = re.compile(r"(.+)\.([1-9][0-9]{0,9})")


@dataclass
class _Worker:
    """What is known of one worker: its counts only grow."""

    model: str
    supervisor: int
    reader: Reader
    counts: dict[Series, float] = field(default_factory=dict)
    status: Status | None = None
    fault: str = ""

    def add(self, counts: Mapping[Series, float], totals: dict[Series, float]) -> None:
        """Take note of what has risen, and add it to what all have counted together."""
        for series, value in counts.items():
            before = self.counts.get(series, -1)
            if value > before:
                self.counts[series] = value
                totals[series] += value - max(before, 0)


class Workers:
    """All workers since the start; may be asked from several threads."""

    def __init__(self, cells: Path, scratches: Path, models: Mapping[str, Watched], settings: CellSettings) -> None:
        self._cells, self._scratches = cells, scratches
        self._models, self._settings = frozenset(models), settings
        self._keys = {
            name: Keys(name, {one.name: one.bins for one in model.features}) for name, model in models.items()
        }
        self._drifts = {name: Drift(name, model.profile) for name, model in models.items() if model.profile is not None}
        self._workers: dict[str, _Worker] = {}
        self._ended: set[str] = set()  # in the totals already, but perhaps still on the disk
        ended: dict[Series, float] = {(families.ENDED.name, (model,)): 0.0 for model in models}
        self._totals: dict[Series, float] = defaultdict(float, ended)  # of all workers, those that run included
        self._news: list[str] = []
        self._lock = threading.Lock()

    def sweep(self) -> tuple[str, ...]:
        """Take in what ended workers have left, and return a sentence for each whose counts could not be read since.

        Raises:
            Undecided: what the supervisors write cannot be read.
        """
        with self._lock:
            self._look()
            for name, worker in list(self._workers.items()):
                if _has_ended(worker):
                    self._take_in(name, worker)
            self._remove()
            news, self._news = tuple(self._news), []
        return news

    def render(self, more: Mapping[Series, float] | None = None) -> bytes:
        """Return all metrics in Prometheus' text format, with what else the launcher knows.

        Raises:
            Undecided: what the supervisors write cannot be read; nothing is said rather than something wrong.
        """
        with self._lock:
            self._look()
            for name, worker in self._workers.items():
                self._read(name, worker)
            counts = dict(self._totals)
            gauges = dict(_measure(self._settings, list(self._workers.values())))
            for drift in self._drifts.values():
                gauges.update(drift.compare(counts))
        gauges |= {(families.PROFILE.name, (model,)): model in self._drifts for model in self._models}
        return write_page({**counts, **gauges, **(more or {})})

    def _look(self) -> None:
        for status in read_statuses(self._cells):
            worker = self._find(f"{status.model}.{status.supervisor}")
            if worker is not None:
                worker.status = status
                worker.add(dict(_count(status)), self._totals)
        for path in self._list_scratches():
            self._find(path.name)

    def _list_scratches(self) -> list[Path]:
        try:
            found = list(itertools.islice(self._scratches.iterdir(), MAX_WORKERS + 1))
        except OSError as error:
            raise Undecided(f"{self._scratches}: cannot be read ({error.strerror})") from error
        if len(found) > MAX_WORKERS:
            raise Undecided(f"{self._scratches}: more than {MAX_WORKERS} directories")
        return found

    def _find(self, name: str) -> _Worker | None:
        """Return a worker of a model that is served, and has not been taken in yet."""
        match = _NAME.fullmatch(name)
        if match is None or match[1] not in self._models or name in self._ended:
            return None
        if name not in self._workers:
            self._workers[name] = _Worker(match[1], int(match[2]), Reader(self._keys[match[1]]))
        return self._workers[name]

    def _read(self, name: str, worker: _Worker) -> None:
        try:
            worker.add(worker.reader.read(self._scratches / name) or {}, self._totals)
            worker.fault = ""
        except Undecided as error:
            if not worker.fault and worker.status is not None and worker.status.stage != CLOSING:
                self._news.append(
                    f"the counts of a worker of {worker.model} cannot be read ({error}); older ones stand"
                )
            worker.fault = str(error)

    def _take_in(self, name: str, worker: _Worker) -> None:
        self._read(name, worker)
        self._totals[families.ENDED.name, (worker.model,)] += 1
        self._ended.add(name)
        del self._workers[name]

    def _remove(self) -> None:
        for name in sorted(self._ended):
            status = self._cells / f"{name}.json"
            status.unlink(missing_ok=True)
            try:
                scratch.remove(self._scratches / name)
            except Undecided:
                continue  # its last process may be about to end; tried again
            self._ended.discard(name)


def _has_ended(worker: _Worker) -> bool:
    if worker.status is not None and worker.status.stage == ENDED:
        return True
    try:
        fields = Path(f"/proc/{worker.supervisor}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return True
    except OSError:
        return False
    return fields[0] in ("Z", "X")


def _count(status: Status) -> Iterator[tuple[Series, float]]:
    yield (families.DROPPED.name, (status.model,)), status.output_dropped_bytes
    violations: Counter[tuple[str, str]] = Counter()
    for name, count in status.violations.items():
        stage, _, call = name.partition("/")
        if stage != CLOSING:  # our own trials
            violations[call if call in NUMBERS else families.OTHER, stage] += count
    for (call, stage), count in violations.items():
        yield (families.VIOLATIONS.name, (status.model, call, stage)), count


def _measure(settings: CellSettings, workers: list[_Worker]) -> Iterator[tuple[Series, float]]:
    for word in UNSAFE_WITHOUT:
        yield (families.UNSAFE.name, (word,)), word in settings.unsafe_without
    by_model: dict[str, list[_Worker]] = {}
    for worker in workers:
        by_model.setdefault(worker.model, []).append(worker)
    for model, own in sorted(by_model.items()):
        yield (families.UNREADABLE.name, (model,)), sum(bool(worker.fault) for worker in own)
        statuses = [worker.status for worker in own if worker.status is not None]
        for stage in (CLOSING, LOADING, SERVING, UNREADABLE):
            yield (families.WORKERS.name, (model, stage)), sum(status.stage == stage for status in statuses)
        yield (families.MEMORY.name, (model,)), max((status.memory_bytes for status in statuses), default=0)
        yield (families.THREADS.name, (model,)), max((status.threads for status in statuses), default=0)
        yield (families.SCRATCH.name, (model,)), max((status.scratch_bytes for status in statuses), default=0)
        closed = [status for status in statuses if status.stage != CLOSING]
        for part in PARTS if closed else ():
            held = all(status.posture is not None and status.posture.held[part] for status in closed)
            yield (families.HELD.name, (model, part)), held
