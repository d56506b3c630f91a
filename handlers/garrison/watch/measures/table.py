"""Measure a row of a table: its first columns as they are, categories by their names, and how many have no value.

After the checks a missing value is the number that the contract puts in its place; so is a value that equals it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from garrison.contract import Column, TableInput
from garrison.profile.features import MAX_COLUMNS


class TableMeasure:
    """Measure rows of one table."""

    def __init__(self, table: TableInput) -> None:
        self._columns = table.columns[:MAX_COLUMNS]
        self._categories = [(n, column) for n, column in enumerate(self._columns) if column.kind == "category"]
        self._missing = [
            (n, float(np.float32(column.missing)))
            for n, column in enumerate(self._columns)
            if column.missing is not None
        ]

    def __call__(self, row: NDArray[Any], _: tuple[int, int] | None = None) -> Sequence[float | str | None]:
        """Return the features of float32 (columns,)."""
        values: list[float | str | None] = row[: len(self._columns)].tolist()
        missing = sum(values[n] == stands_for for n, stands_for in self._missing)
        for n, column in self._categories:
            values[n] = _name_category(float(values[n] or 0), column)
        return [float(missing), *values]


def _name_category(value: float, column: Column) -> str:
    index = int(value)
    return column.categories[index] if 0 <= index < len(column.categories) and index == value else ""
