"""The output policy: what a model gave enters, what a client may see leaves, or `Failed`.

Exactly the contract's outputs, of its types and shapes, every number finite and rounded to `decimals`, all of it at
most `outputs.max_bytes`. A model that gives anything else has failed; nothing about it is told.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from garrison.contract import Contract, Output, Signature
from garrison.errors import RequestRefused
from garrison.guard.inputs import count_bytes
from garrison.guard.refusals import refuse_for
from garrison.guard.serving import Class
from garrison.guard.tensors import name_dtype
from garrison.tensorflow.dtypes import STRING

CLASSES, SCORES, OUTPUTS = "classes", "scores", "outputs"  # upstream's names in signatures to classify and regress


def check_wanted(signature: Signature, wanted: Sequence[str]) -> frozenset[str]:
    """Return the names of the outputs that a client asks for; all of them, if it asks for none.

    Raises:
        OutOfContract: the signature does not have one of them.
    """
    names = frozenset(output.name for output in signature.outputs)
    if not wanted:
        return names
    if not names.issuperset(wanted):
        raise refuse_for("unknown_output")
    return frozenset(wanted)


def check_outputs(
    contract: Contract, signature: Signature, found: Mapping[str, NDArray[Any]], rows: int
) -> dict[str, NDArray[Any]]:
    """Return the outputs as clients may see them.

    Raises:
        Failed: they are not what the contract promises, or too large.
    """
    if found.keys() != {output.name for output in signature.outputs}:
        raise _failed("other outputs than the contract's")
    leading = (rows,) if signature.batched else ()
    checked = {output.name: _check_output(found[output.name], output, leading) for output in signature.outputs}
    _check_size(contract, sum(map(count_bytes, checked.values())))
    return checked


def check_classes(
    contract: Contract, signature: Signature, found: Sequence[Sequence[tuple[str, float]]], rows: int
) -> list[list[Class]]:
    """Return the classes of each example as clients may see them.

    Raises:
        Failed: there are not as many lists as examples, a score is not finite, or all of it is too large.
    """
    if len(found) != rows:
        raise _failed(f"{len(found)} lists of classes for {rows} examples")
    decimals = _find_decimals(signature, SCORES)
    most = max((output.max_bytes for output in signature.outputs if output.dtype == STRING), default=0)
    checked = [
        [Class(_check_label(label, most), _check_number(score, decimals)) for label, score in row] for row in found
    ]
    _check_size(contract, sum(len(one.label.encode()) + 8 for row in checked for one in row))
    return checked


def check_values(contract: Contract, signature: Signature, found: Sequence[float], rows: int) -> list[float]:
    """Return the value of each example as clients may see it.

    Raises:
        Failed: there are not as many values as examples, or one is not finite.
    """
    if len(found) != rows:
        raise _failed(f"{len(found)} values for {rows} examples")
    decimals = _find_decimals(signature, OUTPUTS)
    _check_size(contract, 8 * len(found))
    return [_check_number(value, decimals) for value in found]


def _check_output(values: NDArray[Any], output: Output, leading: tuple[int, ...]) -> NDArray[Any]:
    if name_dtype(values) != output.dtype:
        raise _failed(f"{output.name}: of type {values.dtype}")
    wanted = (*leading, *output.shape)
    fits = len(values.shape) == len(wanted) and all(w in (None, n) for n, w in zip(values.shape, wanted, strict=True))
    if not fits:
        raise _failed(f"{output.name}: of shape {values.shape}")
    if output.dtype == STRING:
        if any(len(value) > output.max_bytes for value in values.ravel().tolist()):
            raise refuse_for("answer_too_large", f"{output.name}: a string is longer than {output.max_bytes} bytes")
        return values
    if values.dtype.kind != "f":
        return values
    if values.size and not (np.isfinite(values.min()) and np.isfinite(values.max())):  # both are NaN where any is
        raise _failed(f"{output.name}: a number is not finite")
    return values if output.decimals is None else _round(values, output.decimals)


def _round(values: NDArray[Any], decimals: int) -> NDArray[Any]:
    """Round, but leave what is too large to have decimals: scaling it up would overflow."""
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = np.round(values, decimals)
    return rounded if np.isfinite(rounded).all() else np.where(np.isfinite(rounded), rounded, values)


def _check_size(contract: Contract, total: int) -> None:
    if total > contract.outputs.max_bytes:
        raise refuse_for("answer_too_large", f"{total} bytes are more than outputs.max_bytes")


def _find_decimals(signature: Signature, name: str) -> int | None:
    return next((output.decimals for output in signature.outputs if output.name == name), None)


def _check_label(label: str, most: int) -> str:
    if len(label.encode()) > most:
        raise refuse_for("answer_too_large", "a label is longer than the contract's max_bytes")
    return label


def _check_number(value: float, decimals: int | None) -> float:
    if not math.isfinite(value):
        raise _failed("a number is not finite")
    return value if decimals is None else round(value, decimals)


def _failed(detail: str) -> RequestRefused:
    return refuse_for("model_failed", detail)
