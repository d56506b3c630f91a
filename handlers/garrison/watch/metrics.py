"""Count what one model's worker admits, refuses and costs: calls enter, files for the launcher leave.

Each worker writes to files of its own in PROMETHEUS_MULTIPROC_DIR, a directory in its scratch; the launcher reads them
(`counts`), adds them up and serves them (`workers`). TorchServe's own way, lines on a worker's standard output, has no
useful buckets, and no bound on names. It does not defend against a worker that counts what never happened.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Counter, Histogram

from garrison.watch.families import (
    ANSWERS,
    BATCH_ITEMS,
    INPUT_BYTES,
    INPUT_PIXELS,
    OTHER,
    REFUSALS,
    STEP_SECONDS,
    STEPS,
    Family,
)


def _counter(family: Family) -> Counter:
    return Counter(family.name, family.meaning, family.labels)


def _histogram(family: Family) -> Histogram:
    return Histogram(family.name, family.meaning, family.labels, buckets=family.buckets)


_ANSWERED, _REFUSED = _counter(ANSWERS), _counter(REFUSALS)
_BYTES, _PIXELS, _ITEMS, _SECONDS = map(_histogram, (INPUT_BYTES, INPUT_PIXELS, BATCH_ITEMS, STEP_SECONDS))


class ContractMetrics:
    """The counts of one model in this worker; `reasons` are the codes that keep their name."""

    def __init__(self, model: str, reasons: frozenset[str]) -> None:
        self._model = model
        self._reasons = reasons
        self._answered = _ANSWERED.labels(model)
        self._bytes, self._pixels, self._items = _BYTES.labels(model), _PIXELS.labels(model), _ITEMS.labels(model)
        self._seconds = {step: _SECONDS.labels(model, step) for step in STEPS}

    def count_batch(self, requests: int) -> None:
        """Count a batch that TorchServe handed over."""
        self._items.observe(requests)

    def count_input(self, size_bytes: int) -> None:
        """Count a request's body."""
        self._bytes.observe(size_bytes)

    def count_picture(self, width: int, height: int) -> None:
        """Count a picture's size as sent, in pixels."""
        self._pixels.observe(width * height)

    def count_answer(self, reason: str = "") -> None:
        """Count a prediction, or a refusal by its reason."""
        if not reason:
            self._answered.inc()
            return
        _REFUSED.labels(self._model, reason if reason in self._reasons else OTHER).inc()

    @contextmanager
    def time_step(self, step: str) -> Iterator[None]:
        """Measure a step of the pipeline."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[step].observe(time.perf_counter() - began)
