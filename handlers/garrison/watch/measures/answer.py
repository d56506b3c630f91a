"""Measure an answer before the output policy: what a handler presents enters, label and confidence leave.

A handler of somebody's own may present anything: what has none of the forms of our tasks is None.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from garrison.contract import Contract
from garrison.profile import Feature
from garrison.profile.features import CONFIDENCE, LABELS, OBJECTS, PREDICTION
from garrison.watch.measures.tensor import sample_values

MASK_SIDE = 32  # of a mask, so many pixels of a side are looked at
Value = float | str | None
_ANSWERED = (LABELS, CONFIDENCE, OBJECTS, PREDICTION)


def find_answer_measure(contract: Contract, features: Sequence[Feature]) -> Callable[[Any], Sequence[Value]]:
    """Return what measures an answer to a model's task: a value for each of its features that are about answers."""
    names = [one.name for one in features if one.name in _ANSWERED]
    find = {"object-detection": _find_boxes, "image-segmentation": _find_mask}.get(contract.task, _find_plain)

    def measure(answer: Any) -> Sequence[Value]:
        found: Mapping[str, Value] = {}
        with contextlib.suppress(Exception):  # a statistic costs no request
            found = find(answer)
        return [found.get(name) for name in names]

    return measure


def _find_plain(answer: Any) -> dict[str, Value]:
    """Read `{label: score, ...}`, or numbers."""
    if isinstance(answer, dict):
        label = max(answer, key=answer.__getitem__)
        return {LABELS: str(label), CONFIDENCE: float(answer[label])}
    return {} if answer is None else {PREDICTION: _average(answer)}


def _find_boxes(answer: Any) -> dict[str, Value]:
    """Read `[{label: box, "score": score}, ...]`, the best first."""
    if not answer:
        return {OBJECTS: 0.0} if isinstance(answer, list) else {}
    label = next(key for key in answer[0] if key != "score")
    return {LABELS: label, CONFIDENCE: float(answer[0]["score"]), OBJECTS: float(len(answer))}


def _find_mask(answer: Any) -> dict[str, Value]:
    """Read (height, width, 2), class and score of every pixel."""
    array = np.asarray(answer)
    step = max(1, max(array.shape) // MASK_SIDE)
    return {CONFIDENCE: _average(array[::step, ::step, 1])} if array.ndim == 3 else {}


def _average(numbers: Any) -> float:
    return float(sample_values(np.asarray(numbers, dtype=np.float64)).mean())
