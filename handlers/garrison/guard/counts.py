"""Count and log what becomes of requests: a page for Prometheus, and a JSON line for each refusal.

Labels are bounded: models of the contracts, protocols of ours, reasons of the catalogue. What a client sent is in
neither; the name of a model that is not served is what a client sent, too.
"""

import json
import math
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from garrison.contract import Contract
from garrison.guard.refusals import Verdict, Words, find_words
from garrison.guard.serving import Caller
from garrison.watch.families import (
    GUARD_ANSWERS,
    GUARD_AVAILABLE,
    GUARD_PROGRESS,
    GUARD_REFUSALS,
    GUARD_SECONDS,
    OTHER,
    OWN_WORDS,
    SECOND_BUCKETS,
)
from garrison.watch.page import write_page
from garrison.watch.series import Series, write_bound

PROTOCOLS = ("tfserving-rest", "tfserving-grpc", "torchserve-grpc")
_BOUNDS = (*((bound, write_bound(bound)) for bound in SECOND_BUCKETS), (math.inf, write_bound(math.inf)))


class CountingReport:
    """The counts of one process; belongs to one event loop, but for `render`."""

    def __init__(self, contracts: Sequence[Contract]) -> None:
        self._models = [contract.model for contract in contracts]
        self._counts: dict[Series, float] = {}
        for model in self._models:
            for protocol in PROTOCOLS:
                self._counts[GUARD_ANSWERS.name, (model, protocol)] = 0
        self.has_served = False

    def answered(self, protocol: str, model: str, seconds: float) -> None:
        """Count an answer."""
        self.has_served = True
        self._add(GUARD_ANSWERS.name, (model, protocol))
        bound = next(written for bound, written in _BOUNDS if seconds <= bound)
        self._add(f"{GUARD_SECONDS.name}_bucket", (model, bound))
        self._add(f"{GUARD_SECONDS.name}_sum", (model,), seconds)

    def refused(
        self, error: BaseException, *, protocol: str, caller: Caller | None, model: str, request_id: str = ""
    ) -> Words:
        """Count and log a refusal, and return what to say to the client."""
        self.has_served = True
        words = find_words(error)
        known = model if model in self._models else OTHER
        reason = OWN_WORDS if isinstance(error, Verdict) else words.reason
        self._add(GUARD_REFUSALS.name, (known, reason))
        event = {
            "event": "refused",
            "protocol": protocol,
            "model": known,
            "client": "" if caller is None else caller.client,
            "reason": words.reason,
            "detail": words.detail,
            "request_id": request_id or ("" if caller is None else caller.request_id),
        }
        log(event)
        return words

    def render(self, measure: Callable[[str], tuple[int, bool]]) -> bytes:
        """Return the page; `measure` tells of a model how many requests are in progress, and whether it is there."""
        counts = self._counts.copy()
        for model in self._models:
            progress, available = measure(model)
            counts[GUARD_PROGRESS.name, (model,)] = progress
            counts[GUARD_AVAILABLE.name, (model,)] = available
        return write_page(counts)

    def _add(self, name: str, labels: tuple[str, ...], amount: float = 1) -> None:
        series = name, labels
        self._counts[series] = self._counts.get(series, 0) + amount


def log(event: dict[str, Any]) -> None:
    """Write one event as a JSON line; our parent reads it."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    sys.stdout.write(json.dumps({"time": now, **event}) + "\n")
    sys.stdout.flush()
