"""Count what one model's inputs and answers look like: items and what was answered enter, bins of features leave.

Of every two items one is measured, chosen by chance, so that a client who sends two kinds in turn is seen whole. What
was counted leaves as `metrics` does, in this worker's own files. It does not defend against a worker that counts what
it never saw, nor against inputs that look like the profile and are something else.
"""

import logging
import random
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from prometheus_client import Counter

from garrison.contract import Contract
from garrison.profile import Feature
from garrison.watch.families import INPUTS
from garrison.watch.measures import Measures, Value

SAMPLE_EVERY = 2

log = logging.getLogger("garrison.contract")
_COUNTED = Counter(INPUTS.name, INPUTS.meaning, INPUTS.labels)


class Watch(Protocol):
    """Whatever is told of every item that was answered."""

    def count(self, values: Mapping[str, Any], source_size: tuple[int, int] | None, answer: Any) -> None:
        """Take note of an item and of its answer, as the handler presents it."""
        ...


class InputStatistics:
    """The features of one model in this worker, every bin of them at 0 from the start."""

    def __init__(self, contract: Contract, features: Sequence[Feature]) -> None:
        self._measures = Measures(contract, features)
        self._features = features
        self._counters = [
            [_COUNTED.labels(contract.model, feature.name, str(number)) for number in range(feature.bins)]
            for feature in features
        ]
        self._model = contract.model
        self._turn, self._chosen = SAMPLE_EVERY - 1, 0  # the first begins a pair

    def count(self, values: Mapping[str, Any], source_size: tuple[int, int] | None, answer: Any) -> None:
        """Measure an item that was answered, if it is its turn; whatever goes wrong, the answer stands."""
        self._turn = (self._turn + 1) % SAMPLE_EVERY
        if self._turn == 0:
            self._chosen = random.randrange(SAMPLE_EVERY)  # noqa: S311 - nothing is to be kept from anybody
        if self._turn != self._chosen:
            return
        try:
            self._note(self._measures.measure(values, source_size, answer))
        except Exception:
            log.exception("%s: an input could not be measured", self._model)

    def _note(self, measured: Sequence[Value]) -> None:
        for feature, counters, value in zip(self._features, self._counters, measured, strict=True):
            if value is not None:
                counters[feature.find_bin(value)].inc()
