"""Check what is to reach a model by its contract: arrays enter, what the model gets leaves, or `Refused`.

    1 names   2 types and shapes   3 rows   4 bytes   5 values

The first three look at no value: `check_declared` does them before a message's values are read at all. A tensor of
strings is checked element by element: a text leaves in its normal form and a tf.Example written anew from what was
understood, while images and bytes leave as they were sent.

It does not defend against a flaw in the model's own decoders: an image is decoded here, by another decoder.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from garrison.checks.image import check_encoded
from garrison.checks.nested import check_shape, wrong_dtype, wrong_shape
from garrison.checks.reasons import refuse, too_many_bytes
from garrison.checks.tensor import check_range
from garrison.checks.text import check_text
from garrison.contract import (
    BytesElement,
    Contract,
    ExampleElement,
    ImageElement,
    Signature,
    StringInput,
    TensorInput,
    TextElement,
    TextInput,
)
from garrison.errors import RequestRefused
from garrison.guard.refusals import refuse_for
from garrison.guard.tensors import make_strings, name_dtype
from garrison.guard.wire import Shape
from garrison.tensorflow.dtypes import STRING
from garrison.tensorflow.messages import messages

Declared = Mapping[str, tuple[str, Sequence[int]]]
"""Of each input by name: the contract's name for its type, and its shape with the rows."""

_EXAMPLE = Shape(messages.Example)
_FIELDS_PER_FEATURE = 8


def check_inputs(contract: Contract, signature: Signature, inputs: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Return the arrays that the model gets.

    Raises:
        RequestRefused: with one of the codes in `reasons` or the guard's own, for what the contract does not allow.
    """
    check_declared(contract, signature, {name: (name_dtype(one), one.shape) for name, one in inputs.items()})  # 1 2 3
    _check_bytes(contract, inputs)  # 4
    return {item.name: _check_values(inputs[item.name], item) for item in signature.inputs}  # 5


def check_declared(contract: Contract, signature: Signature, declared: Declared) -> int:
    """Check names, types and shapes, and return the number of rows; 1 where a signature knows none.

    Raises:
        RequestRefused: an input is missing or unknown, of another type, or of a shape that is not allowed.
    """
    names = {item.name for item in signature.inputs}
    if declared.keys() != names:
        raise _unequal_names(names - declared.keys())
    found = set()
    for item in signature.inputs:
        dtype, shape = declared[item.name]
        if dtype != (item.dtype if isinstance(item, TensorInput) else STRING):
            raise wrong_dtype(f"{item.name}: {dtype or 'a type that no contract knows'}")
        bounds = _bounds(item)
        if not signature.batched:
            check_shape(shape, bounds)
            continue
        if len(shape) != len(bounds) + 1:
            raise wrong_shape(f"{item.name}: {len(shape)} dimensions, {len(bounds) + 1} with the rows are accepted")
        check_shape(shape[1:], bounds)
        found.add(shape[0])
    return _check_rows(contract, found) if signature.batched else 1


def check_examples(contract: Contract, signature: Signature, examples: Sequence[bytes]) -> list[bytes]:
    """Return the tf.Examples that the model gets, written anew; one is a row.

    Raises:
        RequestRefused: as for `check_inputs`.
    """
    (item,) = signature.inputs
    checked = check_inputs(contract, signature, {item.name: make_strings(examples)})
    found: list[bytes] = checked[item.name].tolist()
    return found


def needs_time(signature: Signature) -> bool:
    """Say whether checking may take long enough to hold up other requests: images are decoded."""
    elements = [item.element for item in signature.inputs if isinstance(item, StringInput)]
    for element in list(elements):
        if isinstance(element, ExampleElement):
            elements += [feature.element for feature in element.features if isinstance(feature, StringInput)]
    return any(isinstance(element, ImageElement) for element in elements)


def count_fields(contract: Contract) -> int:
    """Return how many fields the largest acceptable message of a model has, numbers one by one not counted."""
    return max((_count_strings(contract, signature) for signature in contract.signatures), default=0)


def _count_strings(contract: Contract, signature: Signature) -> int:
    rows = contract.batch.max_instances if signature.batched else 1
    total = 0
    for item in signature.inputs:
        if isinstance(item, StringInput):
            total += rows * item.max_values * (1 + _count_in_example(item.element))
    return total


def _count_in_example(element: Any) -> int:
    if not isinstance(element, ExampleElement):
        return 0
    strings = sum(feature.max_values for feature in element.features if isinstance(feature, StringInput))
    return 2 + len(element.features) * _FIELDS_PER_FEATURE + strings


def _bounds(item: Any) -> Any:
    return item.shape


def _unequal_names(missing: set[str]) -> RequestRefused:
    if missing:
        return refuse("missing_input", "An input of this signature is missing.", ", ".join(sorted(missing)))
    return refuse("unknown_input", "There is an input that this signature does not have.")


def _check_rows(contract: Contract, found: set[int]) -> int:
    if len(found) > 1:
        raise refuse_for("rows_differ")
    (rows,) = found
    if rows < 1:
        raise refuse_for("no_rows")
    if rows > contract.batch.max_instances:
        told = f"{rows} rows are more than the {contract.batch.max_instances} accepted in one request."
        raise refuse("too_many_instances", told)
    return int(rows)


def _check_bytes(contract: Contract, inputs: Mapping[str, NDArray[Any]]) -> None:
    total = sum(count_bytes(one) for one in inputs.values())
    if total > contract.batch.max_bytes:
        raise too_many_bytes(total, contract.batch.max_bytes)


def count_bytes(values: NDArray[Any]) -> int:
    """Return the bytes of an array, or of all strings in it."""
    if values.dtype.kind == "O":
        return sum(map(len, values.ravel().tolist()))
    return values.nbytes


def _check_values(values: NDArray[Any], item: Any) -> NDArray[Any]:
    if isinstance(item, TensorInput):
        return check_range(values, item)
    check = _find_check(item.element)
    return make_strings(map(check, values.ravel().tolist())).reshape(values.shape)


def _find_check(element: Any) -> Callable[[bytes], bytes]:
    """Return what checks one string and gives the bytes that the model gets."""
    if isinstance(element, TextElement):
        text = TextInput(
            name="", forms=(), max_bytes=element.max_bytes, min_characters=element.min_characters,
            max_characters=element.max_characters, max_tokens=1, normal_form=element.normal_form,
        )  # fmt: skip
        return lambda value: check_text(value, text).encode()
    if isinstance(element, ImageElement):
        return lambda value: _check_image(value, element)
    if isinstance(element, BytesElement):
        return lambda value: _check_length(value, element)
    return lambda value: _check_example(value, element)


def _check_image(value: bytes, element: ImageElement) -> bytes:
    check_encoded(value, element)
    return value


def _check_length(value: bytes, element: BytesElement) -> bytes:
    if len(value) > element.max_bytes:
        raise too_many_bytes(len(value), element.max_bytes)
    if len(value) < element.min_bytes:
        raise refuse("wrong_shape", f"{len(value)} bytes are fewer than {element.min_bytes}.")
    return value


def _check_example(value: bytes, element: ExampleElement) -> bytes:
    """Check one tf.Example, and write it anew: features in the order of their names, each once."""
    if len(value) > element.max_bytes:
        raise too_many_bytes(len(value), element.max_bytes)
    _EXAMPLE.check(value, _count_in_example(element) + _FIELDS_PER_FEATURE)
    try:
        found = messages.Example.FromString(value).features.feature
    except DecodeError as error:
        raise refuse_for("bad_example", "not a tf.Example") from error
    names = {feature.name for feature in element.features}
    if found.keys() != names:
        raise _unequal_names(names - found.keys())
    written = messages.Example()
    for feature in element.features:
        _copy_feature(found[feature.name], written.features.feature[feature.name], feature)
    checked: bytes = written.SerializeToString(deterministic=True)
    return checked


def _copy_feature(found: Any, written: Any, feature: TensorInput | StringInput) -> None:
    kind = "bytes_list"
    if isinstance(feature, TensorInput):
        kind = "float_list" if feature.dtype == "float32" else "int64_list"
    if found.WhichOneof("kind") != kind:
        raise wrong_dtype(f"feature {feature.name}: {found.WhichOneof('kind')}")
    values = getattr(found, kind).value
    if not _can_fill(len(values), feature.shape):
        raise wrong_shape(f"feature {feature.name}: {len(values)} values")
    if isinstance(feature, TensorInput):
        checked = check_range(np.fromiter(values, feature.dtype, len(values)), feature).tolist()
    else:
        checked = [*map(_find_check(feature.element), values)]
    getattr(written, kind).value.extend(checked)


def _can_fill(count: int, bounds: Sequence[tuple[int, int]]) -> bool:
    """Say whether so many values can have a shape within bounds; where several dimensions vary, about."""
    varying = [(low, high) for low, high in bounds if low != high]
    fixed = math.prod(low for low, high in bounds if low == high)
    if count % fixed:
        return False
    return math.prod(low for low, _ in varying) <= count // fixed <= math.prod(high for _, high in varying)
