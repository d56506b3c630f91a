"""Count the gateway's answers: lines of its access log enter, counts by model, by client and by reason leave.

Counted by whoever relays the log, not by Envoy: the log has every request, also those that no filter sees, and a count
outlives an Envoy that is started again. Labels are names of the configuration and words of the catalogue, `none` where
a request has no name, `other` for any other; a request can choose nothing else. Never client and model together.
"""

import bisect
import json
import math
import threading
from collections.abc import Collection, Iterator
from typing import Any

from garrison.watch import families
from garrison.watch.families import OTHER, OWN_WORDS
from garrison.watch.series import Series, write_bound

NONE = "none"
ANSWERED, REFUSED, FAILED = "2xx", "4xx", "5xx"
CLASSES = (ANSWERED, REFUSED, FAILED, OTHER)
MAX_CLIENTS = 5000  # with series of their own, the first by name; the rest is `other`
REQUEST, ATTEMPT = "request", "management_attempt"  # events of the access log
NOT_FOUND = "not_found"
MOST_MS = 2**53  # what is longer is no time, and too large to be added
_SERVER_FAULTS = frozenset({2, 4, 13, 14, 15})  # gRPC statuses that are no fault of the client's
_MARK = b'"duration_ms"'  # in every line of the access log, and in hardly any other
_BOUNDS = families.GATEWAY_SECONDS.buckets
_WRITTEN = tuple(write_bound(bound) for bound in (*_BOUNDS, math.inf))


class Answers:
    """All answers since the start; may be counted and asked for from several threads."""

    def __init__(self, reasons: Collection[str]) -> None:
        self._reasons = frozenset(reasons)
        self._models = self._clients = frozenset[str]()
        self._counts: dict[Series, float] = {}
        self._lock = threading.Lock()

    def know(self, models: Collection[str], clients: Collection[str]) -> None:
        """Count these by name from now on, each from 0; what the configuration does not name any more is left out."""
        with self._lock:
            self._models, self._clients = frozenset(models), frozenset(sorted(clients)[:MAX_CLIENTS])
            before, self._counts = self._counts, {}
            for series in self._list_series():
                self._counts[series] = before.get(series, 0)

    def count_line(self, line: bytes) -> None:
        """Count a line of Envoy's output, if it is one of the access log."""
        if _MARK not in line:
            return
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            return
        if isinstance(event, dict) and event.get("event") in (REQUEST, ATTEMPT):
            with self._lock:
                self._count(event)

    def counts(self) -> dict[Series, float]:
        """Return all counts."""
        with self._lock:
            return dict(self._counts)

    def _count(self, event: dict[str, Any]) -> None:
        model, client = _name(event.get("model"), self._models), _name(event.get("client"), self._clients)
        ended, reason = _classify(event), event.get("reason")
        self._add(families.GATEWAY_RESPONSES.name, (model, ended))
        self._add(families.GATEWAY_CLIENT_RESPONSES.name, (client, ended))
        if reason:
            self._add(families.GATEWAY_REFUSALS.name, (_find(reason, self._reasons, OWN_WORDS),))
        if event["event"] == ATTEMPT:
            self._add(families.GATEWAY_ATTEMPTS.name, ())
        elif reason == NOT_FOUND and not event.get("api"):
            self._add(families.GATEWAY_PROBES.name, ())
        if ended == ANSWERED:
            self._time(model, event.get("duration_ms"))

    def _time(self, model: str, duration_ms: Any) -> None:
        if not isinstance(duration_ms, int) or not 0 <= duration_ms <= MOST_MS:
            return
        seconds = duration_ms / 1000
        bound = _WRITTEN[bisect.bisect_left(_BOUNDS, seconds)]
        self._add(f"{families.GATEWAY_SECONDS.name}_bucket", (model, bound))
        self._add(f"{families.GATEWAY_SECONDS.name}_sum", (model,), seconds)

    def _add(self, name: str, values: tuple[str, ...], more: float = 1) -> None:
        self._counts[name, values] = self._counts.get((name, values), 0) + more

    def _list_series(self) -> Iterator[Series]:
        """Go through all that there can be: what is 0 at first is seen to rise."""
        for model in (*self._models, NONE, OTHER):
            for ended in CLASSES:
                yield families.GATEWAY_RESPONSES.name, (model, ended)
            yield f"{families.GATEWAY_SECONDS.name}_sum", (model,)
            for bound in _WRITTEN:
                yield f"{families.GATEWAY_SECONDS.name}_bucket", (model, bound)
        for client in (*self._clients, NONE, OTHER):
            for ended in CLASSES:
                yield families.GATEWAY_CLIENT_RESPONSES.name, (client, ended)
        for reason in (*self._reasons, OWN_WORDS):
            yield families.GATEWAY_REFUSALS.name, (reason,)
        yield families.GATEWAY_ATTEMPTS.name, ()
        yield families.GATEWAY_PROBES.name, ()


def _name(value: Any, known: Collection[str]) -> str:
    return _find(value, known, OTHER) if value else NONE


def _find(value: Any, known: Collection[str], other: str) -> str:
    return value if isinstance(value, str) and value in known else other


def _classify(event: dict[str, Any]) -> str:
    """Say how a request ended; gRPC says with HTTP's 200 that it did not succeed."""
    status, grpc_status = event.get("status"), event.get("grpc_status")
    if isinstance(grpc_status, int) and grpc_status and status == 200:
        return FAILED if grpc_status in _SERVER_FAULTS else REFUSED
    return {2: ANSWERED, 4: REFUSED, 5: FAILED}.get(status // 100, OTHER) if isinstance(status, int) else OTHER
