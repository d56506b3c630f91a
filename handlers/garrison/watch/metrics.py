"""Count what one model's worker admits, refuses and costs; render all workers' counts for Prometheus.

Each worker writes to files of its own in PROMETHEUS_MULTIPROC_DIR, which the launcher sets; the launcher adds them up
and serves them on `watch.sock`. TorchServe's own way, lines on a worker's standard output, can be forged by the model
and has no useful buckets.

Label values are bounded: the model's name, and reasons out of a known set, `other` for the rest. A worker can write
anything into its own files, so each is walked through at a bounded cost before prometheus-client reads it: that
follows links, waits for pipes, and takes in as many bytes as a file claims. It does not defend against a worker that
changes its files in between, or that counts what never happened.
"""

import os
import stat
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from garrison.errors import Undecided

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
STEPS = ("admit", "infer", "explain", "present")
MAX_FILE_BYTES = 2**20  # a worker's counts take a few kilobytes, in a file of 64 KiB
BYTE_BUCKETS = tuple(4**power for power in range(5, 14))  # 1 KiB to 64 MiB
PIXEL_BUCKETS = tuple(4**power for power in range(4, 14))  # 16x16 to 8192x8192
SECOND_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
ITEM_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128)

_ANSWERED = Counter("garrison_contract_answers_total", "Requests answered with a prediction.", ["model"])
_REFUSED = Counter("garrison_contract_refusals_total", "Requests refused, by reason.", ["model", "reason"])
_BYTES = Histogram("garrison_contract_input_bytes", "Size of request bodies.", ["model"], buckets=BYTE_BUCKETS)
_PIXELS = Histogram("garrison_contract_input_pixels", "Size of pictures as sent.", ["model"], buckets=PIXEL_BUCKETS)
_ITEMS = Histogram("garrison_contract_batch_items", "Requests that came in one batch.", ["model"], buckets=ITEM_BUCKETS)
_SECONDS = Histogram(
    "garrison_contract_step_seconds", "Time of each step, per batch.", ["model", "step"], buckets=SECOND_BUCKETS
)


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
        _REFUSED.labels(self._model, reason if reason in self._reasons else "other").inc()

    @contextmanager
    def time_step(self, step: str) -> Iterator[None]:
        """Measure a step of the pipeline."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[step].observe(time.perf_counter() - began)


def render_metrics(directory: Path) -> bytes:
    """Return the sum of all workers' counts in Prometheus' text format.

    Raises:
        Undecided: a worker's file cannot be read; nothing is said rather than something wrong.
    """
    registry = CollectorRegistry()
    try:
        for path in sorted(directory.glob("*.db")):
            _check_file(path)
        MultiProcessCollector(registry, path=str(directory))  # type: ignore[no-untyped-call]
        return generate_latest(registry)
    except Exception as error:  # the files are written by workers, whose code we do not trust
        raise Undecided(f"a worker's metrics cannot be read: {type(error).__name__}") from error


def _check_file(path: Path) -> None:
    """Walk through a file of counts: how much is used, then keys with their lengths, padded, and 16 bytes of value."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise Undecided("not a plain file")
        data = file.read(MAX_FILE_BYTES + 1)
    (used,) = struct.unpack_from("=i", data)
    if not 8 <= used <= len(data) <= MAX_FILE_BYTES:
        raise Undecided("a length that is not the file's")
    place = 8
    while place < used:
        (length,) = struct.unpack_from("=i", data, place)
        if not 0 < length <= used - place:
            raise Undecided("a key that is longer than the file")
        place += 4 + length + (8 - (length + 4) % 8) + 16
