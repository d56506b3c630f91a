"""Check one row of a table: an object of columns or a list in their order enters, float32 values leave.

Every column is there or has a value for "missing", no other column is; a number lies in its column's range; a category
is one that the contract lists, and becomes its place in that list.

Numbers become float32 only after they were compared, so an integer above 2**24 may be rounded for the model.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from garrison.checks.reasons import refuse
from garrison.contract import Column, TableInput


def check_row(value: Any, item: TableInput) -> NDArray[np.float32]:
    """Return a row as float32 of shape (columns,), in the contract's order.

    Raises:
        OutOfContract: a column is missing or unknown, or its value is not what the contract allows.
    """
    values = _find_values(value, item)
    return np.array(
        [_check_value(entry, column) for entry, column in zip(values, item.columns, strict=True)], np.float32
    )


def _find_values(value: Any, item: TableInput) -> list[Any]:
    if isinstance(value, list):
        if len(value) != len(item.columns):
            raise refuse("wrong_shape", f"{len(value)} values; the table has {len(item.columns)} columns.")
        return value
    if not isinstance(value, dict):
        raise refuse("wrong_dtype", "A row is an object of columns or a list of their values.")
    if not value.keys() <= {column.name for column in item.columns}:
        raise refuse("unknown_column", "The row has a column that the table does not have.")
    return [value.get(column.name) for column in item.columns]


def _check_value(value: Any, column: Column) -> float:
    if value is None:
        if column.missing is None:
            raise refuse("missing_column", f"Column {column.name} has no value.")
        return column.missing
    if column.kind == "category":
        if not isinstance(value, str) or value not in column.categories:
            raise refuse("unknown_category", f"Column {column.name} has a value that is none of its categories.")
        return column.categories.index(value)
    wanted = int if column.kind == "int" else int | float
    if isinstance(value, bool) or not isinstance(value, wanted):
        raise refuse("wrong_dtype", f"Column {column.name} takes {'whole ' if column.kind == 'int' else ''}numbers.")
    if not column.minimum <= value <= column.maximum:  # infinity is outside; Python compares integers of any length
        raise refuse(
            "value_out_of_range", f"Column {column.name} takes numbers from {column.minimum:g} to {column.maximum:g}."
        )
    return value
