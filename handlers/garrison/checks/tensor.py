"""Check a tensor: nested lists or a .npy file enter, an array of the contract's dtype, shape and range leaves."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from garrison.checks.nested import flatten_lists, out_of_range, to_array
from garrison.checks.npy import read_npy
from garrison.checks.reasons import refuse, too_many_bytes
from garrison.contract import TensorInput


def check_tensor(value: Any, item: TensorInput) -> NDArray[Any]:
    """Return the array that nested lists, or the bytes of a .npy file, stand for.

    Raises:
        RequestRefused: it is damaged, or not of the contract's dtype, shape and range.
    """
    if isinstance(value, bytes):
        if not value:
            raise refuse("empty_body", "The request has no tensor in it.")
        if len(value) > item.max_bytes:
            raise too_many_bytes(len(value), item.max_bytes)
        return check_range(read_npy(value, item), item)
    shape, leaves = flatten_lists(value, item.shape)
    return check_range(to_array(leaves, shape, item.dtype), item)


def check_range(values: NDArray[Any], item: TensorInput) -> NDArray[Any]:
    """Return the values if all are finite and between the contract's minimum and maximum.

    Raises:
        OutOfContract: one of them is not.
    """
    low, high = values.min(), values.max()  # both are NaN where any value is
    if values.dtype.kind == "f" and not (np.isfinite(low) and np.isfinite(high)):
        raise refuse("not_finite", "A number is NaN or infinite.")
    if item.minimum is not None and low < _limit(item.minimum, values.dtype):
        raise out_of_range("below the minimum")
    if item.maximum is not None and high > _limit(item.maximum, values.dtype):
        raise out_of_range("above the maximum")
    return values


def _limit(limit: float, dtype: np.dtype[Any]) -> Any:
    """Round a limit as the values were rounded: 0.1 as float32 is above 0.1, and both mean the same."""
    if dtype.kind != "f":
        return int(limit) if limit.is_integer() else limit
    with np.errstate(over="ignore", under="ignore"):
        return np.float64(limit).astype(dtype)
