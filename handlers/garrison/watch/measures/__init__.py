"""Measure what goes in and what comes out: one checked item and its answer enter, a value per feature leaves.

The values stand in the order of `garrison.profile.list_features`; None where there is nothing to measure, as in an
answer of another form. Nothing here can refuse anything. A value costs a few microseconds: of pixels, numbers and
characters at most about a thousand are looked at, in even steps.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from garrison.contract import Contract, ImageInput, Input, TableInput, TensorInput, TextInput
from garrison.profile import Feature
from garrison.watch.measures.answer import find_answer_measure
from garrison.watch.measures.image import ImageMeasure
from garrison.watch.measures.table import TableMeasure
from garrison.watch.measures.tensor import TensorMeasure
from garrison.watch.measures.text import measure_text

Value = float | str | None
Row = Sequence[Value]
Measure = Callable[[Any, tuple[int, int] | None], Sequence[Value]]

__all__ = ["Measures", "Row", "Value"]


class Measures:
    """The measures of one model; `features` are those of its contract."""

    def __init__(self, contract: Contract, features: Sequence[Feature]) -> None:
        self._answer = find_answer_measure(contract, features)
        self._inputs = [(item.name, _find_measure(item)) for item in contract.inputs]
        self._count = len(features)

    def measure(self, values: Mapping[str, Any], source_size: tuple[int, int] | None, answer: Any) -> Row:
        """Return a value per feature, or None; an answer of None is none."""
        return list(self._measure(values, source_size, answer))[: self._count]

    def _measure(self, values: Mapping[str, Any], size: tuple[int, int] | None, answer: Any) -> Iterator[Value]:
        yield from self._answer(answer)
        for name, measure in self._inputs:
            yield from measure(values[name], size)


def _find_measure(item: Input) -> Measure:
    if isinstance(item, ImageInput):
        return ImageMeasure(item)
    if isinstance(item, TextInput):
        return measure_text
    if isinstance(item, TensorInput):
        return TensorMeasure()
    if isinstance(item, TableInput):
        return TableMeasure(item)
    raise TypeError(type(item).__name__)
