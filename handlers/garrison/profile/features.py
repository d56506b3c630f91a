"""The features that are measured for a model: its contract and labels enter, names and bins leave.

A feature is a number, with edges between its bins, or a word, with a bin for each of some values and one for all
others. Names and bins are functions of what was signed: a worker can make up neither. Without a profile the bins are
coarse, and say little more than what is normal.

It bounds the number of series: `MAX_FEATURES` a model, `MAX_BINS` a feature; of a table the first `MAX_COLUMNS` columns
are measured.
"""

import bisect
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from garrison.contract import Column, Contract, ImageInput, Input, TableInput, TensorInput, TextInput

MAX_FEATURES = 64
MAX_COLUMNS = 32
MAX_EDGES = 9
MAX_VALUES = 15
MAX_BINS = MAX_VALUES + 1

LABELS, CONFIDENCE, OBJECTS, PREDICTION = "labels", "confidence", "objects", "prediction"
EXTENTS = ("tiny", "ordinary", "near_limit")
SCRIPTS = ("latin", "cyrillic", "greek", "arabic", "hebrew", "han", "kana", "hangul", "indic", "thai", "none")
_EIGHTHS = tuple(n / 8 for n in range(1, 8))
_SIGNED = (-0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75)
_SHARES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8)
_DECADES = (-100.0, -10.0, -1.0, 0.0, 1.0, 10.0, 100.0)
_SIDES = (32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0)

IMAGE_FEATURES = {  # what `watch.measures.image` returns, in its order; `extent` and, in colour, one more follow
    "width": _SIDES,
    "height": _SIDES,
    "brightness": _EIGHTHS,
    "contrast": (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35),
    "entropy": (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5),
    "sharpness_x": (0.01, 0.02, 0.04, 0.08, 0.12, 0.16, 0.24),
    "sharpness_y": (0.01, 0.02, 0.04, 0.08, 0.12, 0.16, 0.24),
    "orientation": _SIGNED,
    "slant": _SIGNED,
    "balance_x": (-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3),
    "balance_y": (-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3),
    "spread_x": _EIGHTHS,
    "spread_y": _EIGHTHS,
}
COLOUR_FEATURE = {"colourfulness": (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)}
TEXT_FEATURES = {
    "characters": (8.0, 32.0, 128.0, 512.0, 2048.0, 8192.0, 32768.0),
    "word_length": (3.0, 4.0, 5.0, 6.0, 8.0, 12.0, 20.0),
    "digits": _SHARES,
    "punctuation": _SHARES,
    "capitals": _SHARES,
    "beyond_ascii": _SHARES,
}
TENSOR_FEATURES = ("mean", "deviation", "minimum", "maximum")
_CONFIDENCES = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
_COUNTS = (1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 21.0)


@dataclass(frozen=True)
class Feature:
    """One feature: a number that falls between `edges`, or one of `known` words, of which `values` have their own bin.

    A number equal to an edge belongs to the bin above it. What is none of `values` falls into the last bin.
    """

    name: str
    edges: tuple[float, ...] = ()
    values: tuple[str, ...] = ()
    known: tuple[str, ...] = field(default=(), repr=False)

    @property
    def is_word(self) -> bool:
        """Whether its values are words."""
        return bool(self.known)

    @property
    def bins(self) -> int:
        """Number of its bins."""
        return len(self.values if self.is_word else self.edges) + 1

    def find_bin(self, value: float | str) -> int:
        """Return the bin of a value, from 0."""
        if isinstance(value, str):
            return self.values.index(value) if value in self.values else len(self.values)
        return bisect.bisect_right(self.edges, value)


def list_features(contract: Contract, labels: Sequence[str] = ()) -> tuple[Feature, ...]:
    """Return what is measured of a model: of its answers first, then of each input, in the contract's order."""
    answers = list(_list_answer_features(contract, tuple(labels)))
    inputs = [feature for item in contract.inputs for feature in _list_input_features(item)]
    return tuple([*answers, *inputs][:MAX_FEATURES])


def _list_answer_features(contract: Contract, labels: tuple[str, ...]) -> Iterator[Feature]:
    if labels and contract.task != "image-segmentation":
        yield _word(LABELS, labels)
    if labels or contract.task == "image-segmentation":
        yield Feature(CONFIDENCE, _CONFIDENCES)
    if contract.task == "object-detection":
        yield Feature(OBJECTS, _COUNTS)
    if contract.task in ("tensor", "custom") or (contract.task == "tabular" and not labels):
        yield Feature(PREDICTION, _DECADES)


def _list_input_features(item: Input) -> Iterator[Feature]:
    name = item.name
    if isinstance(item, ImageInput):
        yield from (Feature(f"{name}.{what}", edges) for what, edges in IMAGE_FEATURES.items())
        yield _word(f"{name}.extent", EXTENTS)
        if item.channels > 1:
            yield from (Feature(f"{name}.{what}", edges) for what, edges in COLOUR_FEATURE.items())
    elif isinstance(item, TextInput):
        yield from (Feature(f"{name}.{what}", edges) for what, edges in TEXT_FEATURES.items())
        yield _word(f"{name}.script", SCRIPTS)
    elif isinstance(item, TensorInput):
        edges = _divide(item.minimum, item.maximum)
        yield from (Feature(f"{name}.{what}", edges) for what in TENSOR_FEATURES)
        yield Feature(f"{name}.zeros", _SHARES)
        yield Feature(f"{name}.size", tuple(float(4**power) for power in range(2, 9)))
    elif isinstance(item, TableInput):
        yield Feature(f"{name}:missing", _COUNTS)  # no column can be called so
        yield from (_column_feature(f"{name}.{column.name}", column) for column in item.columns[:MAX_COLUMNS])


def _column_feature(name: str, column: Column) -> Feature:
    if column.kind == "category":
        return _word(name, column.categories)
    return Feature(name, _divide(column.minimum, column.maximum))


def _word(name: str, known: tuple[str, ...]) -> Feature:
    return Feature(name, values=known[:MAX_VALUES], known=known)


def _divide(low: float | None, high: float | None) -> tuple[float, ...]:
    """Return edges that divide a range into eight; without a range, by powers of ten."""
    if low is None or high is None or not low < high or not math.isfinite(high - low):
        return _DECADES
    edges = tuple(low + (high - low) * eighth for eighth in _EIGHTHS)
    return edges if all(one < other for one, other in pairwise(edges)) else _DECADES
