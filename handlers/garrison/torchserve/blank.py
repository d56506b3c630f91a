"""Make the items that a model is warmed up with: a contract enters, the plainest item that it allows leaves."""

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


def make_largest_item(contract: Contract, most_tokens: int) -> Item:
    """Return the largest item that can be explained, as blank as the other; a text has at most so many tokens."""
    return Item({item.name: _largest_value(item, most_tokens) for item in contract.inputs})


def nearest_zero(low: float, high: float) -> float:
    """Return the number between two bounds that is closest to zero."""
    return min(max(0.0, low), high)


def blank_number(tensor: TensorInput) -> float:
    """Return what a blank tensor is filled with."""
    low = float("-inf") if tensor.minimum is None else tensor.minimum
    return nearest_zero(low, float("inf") if tensor.maximum is None else tensor.maximum)


def _largest_value(item: Input, most_tokens: int) -> NDArray[Any] | str:
    if isinstance(item, TextInput):
        tokens = min(item.max_tokens, most_tokens, (item.max_characters + 1) // 2)
        return " ".join("a" * tokens)
    if isinstance(item, TensorInput):
        return np.full([high for _, high in item.shape], blank_number(item), item.dtype)
    return _blank_value(item)


def _blank_value(item: Input) -> NDArray[Any] | str:
    if isinstance(item, ImageInput):
        return np.zeros(item.shape, np.uint8)
    if isinstance(item, TextInput):
        return "a" * item.min_characters
    if isinstance(item, TableInput):
        return np.array([nearest_zero(column.minimum, column.maximum) for column in item.columns], np.float32)
    if isinstance(item, TensorInput):
        return np.full([low for low, _ in item.shape], blank_number(item), item.dtype)
    raise TypeError(type(item).__name__)
