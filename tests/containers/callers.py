"""Clients that ask all the time, each on a connection of its own, and write down what became of every request."""

import contextlib
import http.client
import itertools
import threading
import time
from collections import Counter
from dataclasses import dataclass

from attacks.catalogue import sample_digit
from stack.running import Answer, Target

PAUSE_S = 0.05
CLIENTS = 4
TIMEOUT_S = 25  # beyond the longest that the gateway lets anything take
CLEAR = {  # what the gateway and the handlers may say of a fault, by status
    500: {"server_error"},
    502: {"bad_gateway"},
    503: {"unavailable", "out_of_memory"},
    504: {"timeout"},
}


@dataclass(frozen=True)
class Outcome:
    """What became of one request: an answer, or the name of a connection's error."""

    began: float
    ended: float
    answer: Answer | None
    error: str = ""

    @property
    def succeeded(self) -> bool:
        """Whether it was predicted."""
        return self.answer is not None and self.answer.status == http.HTTPStatus.OK

    @property
    def is_clear(self) -> bool:
        """Whether it was predicted, or refused in our words."""
        if self.answer is None or self.succeeded:
            return self.succeeded
        words = self.answer.json if self.answer.reason else {}
        return set(words) == {"reason", "message"} and self.answer.reason in CLEAR.get(self.answer.status, ())

    def __str__(self) -> str:
        return self.error if self.answer is None else f"{self.answer.status} {self.answer.reason}".strip()


class Callers:
    """Ask from `with` to its end; then `outcomes` is complete."""

    def __init__(self, target: Target, clients: int = CLIENTS) -> None:
        self.outcomes: list[Outcome] = []
        self._target = target
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(clients)]

    def __enter__(self) -> "Callers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(TIMEOUT_S + 5)
            assert not thread.is_alive(), "a client hangs"

    def _ask(self) -> None:
        connection = self._target.connect(TIMEOUT_S)
        while not self._stop.wait(PAUSE_S):
            self.outcomes.append(ask(self._target, connection))
        connection.close()

    def count(self) -> Counter[str]:
        """Count what came of the requests, by status and reason or by error."""
        return Counter(map(str, self.outcomes))

    def unclear(self) -> Counter[str]:
        """Count what was neither predicted nor refused in our words."""
        return Counter(str(outcome) for outcome in self.outcomes if not outcome.is_clear)

    def unanswered(self) -> Counter[str]:
        """Count the requests whose connection was refused or broken."""
        return Counter(outcome.error for outcome in self.outcomes if outcome.error)

    def seconds_without(self) -> float:
        """Return how long nobody got a prediction, at most: from one that succeeded to the next."""
        ends = sorted(outcome.ended for outcome in self.outcomes if outcome.succeeded)
        return max((after - before for before, after in itertools.pairwise(ends)), default=0.0)


def ask(target: Target, connection: http.client.HTTPSConnection, body: bytes = b"", model: str = "digits") -> Outcome:
    """Send one request over a connection, which is opened anew when it broke before."""
    began = time.monotonic()
    try:
        path = f"/predictions/{model}"
        answer = target.send(path=path, body=body or sample_digit(), connection=connection)
        return Outcome(began, time.monotonic(), answer)
    except (OSError, http.client.HTTPException) as error:
        with contextlib.suppress(OSError):
            connection.close()
        return Outcome(began, time.monotonic(), None, type(error).__name__)
