"""Turn nested lists of JSON into the numbers of one array: lists enter, a shape and an array leave.

Nothing is converted on the way: a truth value is not a number, 1.5 is not an integer, 300 is not a uint8, and lists of
different lengths are not an array. NumPy alone would let some of these pass, or wrap them around.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from garrison.checks.reasons import refuse
from garrison.errors import RequestRefused

Bounds = Sequence[tuple[int, int]]  # smallest and largest size of each dimension, both included

_TYPES: dict[str, set[type]] = {"f": {int, float}, "i": {int}, "u": {int}, "b": {bool}}


def flatten_lists(value: Any, bounds: Bounds) -> tuple[tuple[int, ...], list[Any]]:
    """Return the shape of nested lists, one level per dimension, and their leaves in order.

    Raises:
        OutOfContract: they are ragged, or a dimension lies outside its bounds.
    """
    shape: list[int] = []
    level = [value]
    for low, high in bounds:
        if set(map(type, level)) != {list}:
            raise wrong_shape(f"not {len(bounds)} levels of lists")
        sizes = set(map(len, level))
        if len(sizes) > 1:
            raise refuse("ragged", "Lists of one level differ in length.")
        size = sizes.pop()
        if not low <= size <= high:
            raise wrong_shape(f"dimension {len(shape)}: {size} is not {low} to {high}")
        shape.append(size)
        level = list(chain.from_iterable(level))
    return tuple(shape), level


def check_shape(shape: Sequence[int], bounds: Bounds) -> None:
    """Compare a shape that was declared with the contract's bounds.

    Raises:
        OutOfContract: a dimension is missing, too many, too short or too long.
    """
    if len(shape) != len(bounds) or not all(low <= n <= high for n, (low, high) in zip(shape, bounds, strict=True)):
        raise wrong_shape("declared")


def to_array(leaves: list[Any], shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return the leaves as an array of exactly this dtype.

    Raises:
        OutOfContract: a leaf is of another type, or beyond the dtype's range.
    """
    wanted = np.dtype(dtype)
    if not set(map(type, leaves)) <= _TYPES[wanted.kind]:
        raise wrong_dtype(f"not all are values of {wanted}")
    wide = (
        wanted
        if wanted.kind == "b" or wanted == np.uint64
        else np.dtype(np.float64 if wanted.kind == "f" else np.int64)
    )
    try:
        values = np.fromiter(leaves, wide, len(leaves))
    except OverflowError as error:
        raise out_of_range("beyond 64 bits") from error
    if wanted.kind == "f":
        with np.errstate(over="ignore", under="ignore"):
            values = values.astype(wanted, copy=False)
        if not np.isfinite(values).all():
            raise out_of_range(f"beyond {wanted}")
    elif wanted.kind in "iu":
        limits = np.iinfo(wanted)
        if values.min() < limits.min or values.max() > limits.max:
            raise out_of_range(f"beyond {wanted}")
        values = values.astype(wanted, copy=False)
    return values.reshape(shape)


def wrong_shape(detail: str) -> RequestRefused:
    """Return the refusal of numbers in a shape that the contract does not allow."""
    return refuse("wrong_shape", "The numbers do not have a shape that is accepted.", detail)


def wrong_dtype(detail: str) -> RequestRefused:
    """Return the refusal of values of another type."""
    return refuse("wrong_dtype", "The values are not of the type that is accepted.", detail)


def out_of_range(detail: str) -> RequestRefused:
    """Return the refusal of a number outside the contract's or its type's range."""
    return refuse("value_out_of_range", "A number lies outside the range that is accepted.", detail)
