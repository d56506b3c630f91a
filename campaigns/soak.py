"""Soak the whole stack in good and bad requests: no answer is lost or swapped, and no process grows.

All five sample models, several connections that stay open, each answer compared with what its own request has to be
answered. Memory of every process is sampled; after the first tenth of the requests it may grow by 5 %.
"""

import argparse
import http.client
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from campaigns.memory import MemoryWatch
from campaigns.mixture import ID_MARK, Case, Mixture
from campaigns.result import Campaign, make_parser, start
from campaigns.serving import CLIENT, pack_samples, serve_samples
from stack.running import Answer, RunningStack, Target

REQUESTS = 100_000
CONNECTIONS = 8
MOST_GROWTH = 0.05
LEAST_GROWTH_MB = 2.0  # of a process; less is the noise of its allocator
WARM_UP, WINDOW = 0.1, 0.1
MAX_KEPT = 10
TELL_EVERY_S = 15


class Soak:
    """Connections that draw from one mixture until enough was asked, and what came back."""

    def __init__(self, target: Target, mixture: Mixture, options: argparse.Namespace) -> None:
        self.target, self.mixture, self.options = target, mixture, options
        self.deadline = time.monotonic() + options.seconds
        self.began = time.monotonic()
        self.asked = self.good = self.wrong = self.lost = 0
        self.statuses: Counter[int] = Counter()
        self.examples: list[str] = []
        self.times: list[float] = []
        self._lock = threading.Lock()

    @property
    def progress(self) -> float:
        """Return how much of the work is done, in requests or in time, whichever is further."""
        by_time = (time.monotonic() - self.began) / self.options.seconds
        return float(max(self.asked / self.options.requests, by_time))

    def run(self) -> None:
        """Ask over all connections, and wait for the end."""
        threads = [threading.Thread(target=self._ask_all, args=(number,)) for number in range(CONNECTIONS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _ask_all(self, number: int) -> None:
        source = random.Random(self.options.seed * 1000 + number)  # noqa: S311 - repeatable, not secret
        connection = self.target.connect()
        while (turn := self._take_turn()) is not None:
            case, request_id = self.mixture.draw(source), f"{number}-{turn}"
            try:
                answer = ask(self.target, case, request_id, connection)
                self._note(case, request_id, answer)
            except (OSError, http.client.HTTPException, ValueError) as error:
                self._note_lost(case, error)
                connection.close()
                connection = self.target.connect()
        connection.close()

    def _take_turn(self) -> int | None:
        with self._lock:
            if self.asked >= self.options.requests or time.monotonic() > self.deadline:
                return None
            self.asked += 1
            return self.asked

    def _note(self, case: Case, request_id: str, answer: Answer) -> None:
        right = case.matches(answer.status, answer.json, request_id)
        with self._lock:
            self.statuses[answer.status] += 1
            self.good += case.good
            self.times.append(answer.seconds)
            if not right:
                self.wrong += 1
                self._keep(f"{case.model}: wanted {case.status} {case.answer}, got {answer.status} {answer.body!r}")

    def _note_lost(self, case: Case, error: Exception) -> None:
        with self._lock:
            self.lost += 1
            self._keep(f"{case.model}: no answer: {type(error).__name__}: {error}")

    def _keep(self, example: str) -> None:
        if len(self.examples) < MAX_KEPT:
            self.examples.append(example[:600])


def ask(target: Target, case: Case, request_id: str, connection: http.client.HTTPSConnection) -> Answer:
    """Send one request of the mixture."""
    body = case.body.replace(ID_MARK, request_id.encode())
    path = case.path or f"/predictions/{case.model}"
    return target.send("POST", path, body, case.headers, CLIENT if case.has_key else None, connection)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve, ask, compare, write."""
    options = parse_arguments(arguments)
    campaign = start("soak", options)
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        models = pack_samples(Path(name) / "models")
        mixture = Mixture(models, options.seed)
        alike, pairs = mixture.count_alike()
        campaign.tell(f"{sum(map(len, mixture.good.values()))} good requests, {len(mixture.bad)} bad ones")
        with serve_samples(models) as stack:
            soak, watch = soak_stack(campaign, stack, mixture, options)
    figures = describe(soak) | {"alike_pairs": alike, "pairs": pairs, "memory": describe_memory(watch)}
    return campaign.finish(figures, judge(soak, figures, options))


def soak_stack(
    campaign: Campaign, stack: RunningStack, mixture: Mixture, options: argparse.Namespace
) -> tuple[Soak, MemoryWatch]:
    """Ask everything, and watch the memory meanwhile."""
    soak = Soak(stack.target, mixture, options)
    over = threading.Event()

    def tell() -> None:
        while not over.wait(TELL_EVERY_S):
            campaign.tell(f"{soak.asked} asked, {soak.wrong} wrong, {soak.lost} lost")

    teller = threading.Thread(target=tell)
    teller.start()
    try:
        with MemoryWatch(stack.pid, lambda: soak.progress) as watch:
            soak.run()
    finally:
        over.set()
        teller.join()
    return soak, watch


def describe(soak: Soak) -> dict[str, Any]:
    """Return what came back, in figures."""
    seconds = time.monotonic() - soak.began
    times = sorted(soak.times) or [0.0]
    return {
        "requests": soak.asked,
        "good": soak.good,
        "bad": soak.asked - soak.good - soak.lost,
        "wrong_or_swapped": soak.wrong,
        "lost": soak.lost,
        "examples": soak.examples,
        "statuses": dict(sorted(soak.statuses.items())),
        "requests_per_second": round(soak.asked / seconds, 1),
        "p50_ms": round(statistics.median(times) * 1000, 1),
        "p99_ms": round(times[int(len(times) * 0.99)] * 1000, 1),
    }


def describe_memory(watch: MemoryWatch) -> dict[str, Any]:
    """Return each process's memory after the warm-up and at the end, and how the total grew."""
    before, after = watch.median(WARM_UP, WARM_UP + WINDOW), watch.median(1 - WINDOW, 2)
    rows = {
        name: {"warm_mb": before[name], "end_mb": after[name], "growth": round(after[name] / before[name] - 1, 4)}
        for name in before.keys() & after.keys()
    }
    total = (sum(before.values()), sum(after.values()))
    return {
        "processes": dict(sorted(rows.items())),
        "total_warm_mb": round(total[0], 1),
        "total_end_mb": round(total[1], 1),
        "total_growth": round(total[1] / total[0] - 1, 4) if total[0] else 0.0,
        "only_before_or_after": sorted(before.keys() ^ after.keys()),
    }


def judge(soak: Soak, figures: dict[str, Any], options: argparse.Namespace) -> list[str]:
    """Return what should not have been."""
    memory = figures["memory"]
    misses = [f"{soak.wrong} answers were not the request's own"] if soak.wrong else []
    misses += [f"{soak.lost} requests had no answer"] if soak.lost else []
    if soak.asked < options.requests:
        misses.append(f"{soak.asked} of {options.requests} requests in {options.seconds} s")
    misses += [f"{name} ended or began meanwhile" for name in memory["only_before_or_after"]]
    for name, row in memory["processes"].items():
        if row["growth"] > MOST_GROWTH and row["end_mb"] - row["warm_mb"] > LEAST_GROWTH_MB:
            misses.append(f"{name} grew by {row['growth']:.1%}, from {row['warm_mb']} to {row['end_mb']} MB")
    return misses


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser("soak", __doc__)
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument("--seconds", type=float, default=3600, help="stop after so long, whatever was asked")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
