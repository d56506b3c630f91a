"""Make the item that a model is warmed up with: a contract enters, the plainest item that it allows leaves."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from garrison.checks import Item
from garrison.contract import Contract, ImageInput, Input, TableInput, TensorInput, TextInput


def make_blank_item(contract: Contract) -> Item:
    """Return an item of zeros, or of what is closest to zero within the contract; a text is a row of letters."""
    sizes = [(item.shape[1], item.shape[0]) for item in contract.inputs if isinstance(item, ImageInput)]
    values = {item.name: _blank_value(item) for item in contract.inputs}
    return Item(values, sizes[0] if len(sizes) == 1 else None)


def _blank_value(item: Input) -> NDArray[Any] | str:
    if isinstance(item, ImageInput):
        return np.zeros(item.shape, np.uint8)
    if isinstance(item, TextInput):
        return "a" * item.min_characters
    if isinstance(item, TableInput):
        return np.array([_nearest_zero(column.minimum, column.maximum) for column in item.columns], np.float32)
    if isinstance(item, TensorInput):
        low, high = (float("-inf") if item.minimum is None else item.minimum), item.maximum
        value = _nearest_zero(low, float("inf") if high is None else high)
        return np.full([low for low, _ in item.shape], value, item.dtype)
    raise TypeError(type(item).__name__)


def _nearest_zero(low: float, high: float) -> float:
    return min(max(0.0, low), high)
