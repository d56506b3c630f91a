"""Read the inputs of KServe's v2 protocol and write its outputs.

    {"id": "...", "inputs": [{"name": "...", "shape": [2, 3], "datatype": "FP32", "data": [...]}]}

`shape` is that of one item, or has the number of items before it; `data` holds the numbers in one flat list or nested
as the shape says, exactly as many as it says. BYTES carry what JSON carries elsewhere: base64 for an image or a .npy
file, text, or (beyond the protocol, as stock accepts it) rows of a table. Parameters are refused unless empty, because
they would be ignored, but for the wish that Triton's clients send with everything: outputs as binary data, or not. An
answer is always JSON, and says so. Requested outputs have to be those that the answer has.

With one input its name is the client's to choose, as in stock, and is given back; with several it must be the
contract's.

Stock answers an entry of the inputs with one output, flattened: numbers as INT64, FP64 or BOOL, everything else as
BYTES. So do we; of several items in one entry, equally long rows of numbers keep the number of items as first
dimension, and other answers become one element each.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from garrison.checks.nested import Bounds, check_shape, flatten_lists, to_array, wrong_dtype, wrong_shape
from garrison.checks.reasons import bad_json, form_not_allowed, refuse
from garrison.checks.tensor import check_range
from garrison.checks.values import Checked, check_value
from garrison.contract import ImageInput, Input, TableInput, TensorInput
from garrison.contract.tensor import MAX_DIMENSION, MAX_RANK

DATATYPES = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
}
ONE_OUTPUT = "output"  # of a model with several inputs
_ROW_DATATYPES = ("FP32", "FP64", "INT32", "INT64")
_ANSWER_DATATYPES = {"b": "BOOL", "i": "INT64", "u": "UINT64", "f": "FP64"}
_NAME = re.compile(r"[A-Za-z0-9_.:/-]{1,64}")
_ID = re.compile(r"[!-~ ]{0,128}")


@dataclass(frozen=True)
class Entry:
    """One of the inputs: `count` items, their numbers in `data` as one flat list or nested as `shape` says."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    count: int
    data: list[Any]

    def check(self, item: Input) -> list[Checked]:
        """Return the entry's items as the contract promises them to the model.

        Raises:
            RequestRefused: one of them is not what the contract says of this input.
        """
        if self.datatype == "BYTES":
            return [check_value(value, item) for value in self.data]
        leaves = self._flatten()
        size = len(leaves) // self.count
        shape = self.shape[-len(_find_bounds(item)) :]
        starts = range(0, len(leaves), size)
        return [_check_numbers(leaves[start : start + size], shape, item) for start in starts]

    def _flatten(self) -> list[Any]:
        if isinstance(self.data[0], list):
            return flatten_lists(self.data, [(size, size) for size in self.shape])[1]
        if len(self.data) != math.prod(self.shape):
            raise wrong_shape("the shape says another number of values")
        return self.data


def read_entries(value: Mapping[str, Any], inputs: Sequence[Input]) -> list[Entry]:
    """Check the envelope of a v2 request; the values in it are looked at later, by `Entry.check`.

    Raises:
        RequestRefused: it is not of the protocol's form, or declares what the contract does not allow.
    """
    if not value.keys() <= {"id", "inputs", "parameters", "outputs"}:
        raise bad_json("an unknown key")
    _check_wish(value.get("parameters"), "binary_data_output")
    if not isinstance(value.get("id", ""), str) or not _ID.fullmatch(value.get("id", "")):
        raise bad_json("an id that is not a short text")
    entries = value["inputs"]
    if not isinstance(entries, list) or not entries:
        raise bad_json("no list of inputs")
    by_name = {item.name: item for item in inputs}
    read = [_read_entry(entry, inputs[0] if len(inputs) == 1 else None, by_name) for entry in entries]
    _check_outputs(value.get("outputs"), [entry.name for entry in read] if len(inputs) == 1 else [ONE_OUTPUT])
    return read


def format_outputs(answers: Sequence[Any], outputs: Sequence[tuple[str, int]]) -> list[dict[str, Any]]:
    """Return one output per name, for the next so many answers."""
    formatted, start = [], 0
    for name, count in outputs:
        formatted.append(_format_output(name, answers[start : start + count]))
        start += count
    return formatted


def _check_wish(parameters: Any, name: str) -> None:
    """Check that parameters hold nothing but whether binary data is wished for."""
    if not parameters:
        return
    if not isinstance(parameters, dict) or parameters.keys() != {name} or not isinstance(parameters[name], bool):
        raise bad_json("parameters")


def _check_outputs(outputs: Any, names: Sequence[str]) -> None:
    """Check that requested outputs, if any, are those that the answer has."""
    if not outputs:
        return
    if not isinstance(outputs, list) or len(outputs) != len(names):
        raise bad_json("other outputs than there are")
    for output in outputs:
        if not isinstance(output, dict) or output.keys() - {"parameters"} != {"name"} or output["name"] not in names:
            raise bad_json("other outputs than there are")
        _check_wish(output.get("parameters"), "binary_data")
    if len({output["name"] for output in outputs}) != len(set(names)):
        raise bad_json("an output twice")


def _read_entry(entry: Any, only: Input | None, by_name: Mapping[str, Input]) -> Entry:
    wanted = {"name", "shape", "datatype", "data"}
    if not isinstance(entry, dict) or entry.keys() - {"parameters"} != wanted or entry.get("parameters"):
        raise bad_json("an input without exactly name, shape, datatype and data")
    name, data = entry["name"], entry["data"]
    if not isinstance(name, str) or not _NAME.fullmatch(name) or not isinstance(data, list) or not data:
        raise bad_json("an input whose name is not a short word, or whose data is not a list with values")
    item = only or by_name.get(name)
    if item is None:
        raise refuse("unknown_input", "The request has an input that the model does not have.")
    shape = _read_shape(entry["shape"])
    if entry["datatype"] == "BYTES":
        if len(data) != math.prod(shape):
            raise wrong_shape("the shape says another number of values")
        return Entry(name, "BYTES", shape, len(data), data)
    _check_datatype(entry["datatype"], item)
    bounds = _find_bounds(item)
    batched = len(shape) == len(bounds) + 1
    check_shape(shape[1:] if batched else shape, bounds)
    return Entry(name, entry["datatype"], shape, shape[0] if batched else 1, data)


def _read_shape(shape: Any) -> tuple[int, ...]:
    if not isinstance(shape, list) or not 1 <= len(shape) <= MAX_RANK + 1:
        raise bad_json("a shape that is not a list of sizes")
    if not all(type(size) is int and 1 <= size <= MAX_DIMENSION for size in shape):
        raise wrong_shape("a size that is not a positive whole number")
    return tuple(shape)


def _check_datatype(datatype: Any, item: Input) -> None:
    if isinstance(item, TensorInput):
        allowed = [name for name, dtype in DATATYPES.items() if dtype == item.dtype]
    else:
        allowed = ["UINT8"] if isinstance(item, ImageInput) else list(_ROW_DATATYPES)
    if not isinstance(datatype, str) or datatype not in allowed:
        raise wrong_dtype("the declared datatype")


def _find_bounds(item: Input) -> Bounds:
    """Return the bounds of each dimension of an input that may be sent as numbers."""
    if isinstance(item, TensorInput) and "json" in item.forms:
        return item.shape
    if isinstance(item, ImageInput) and "list" in item.forms:
        return [(side, side) for side in item.shape]
    if isinstance(item, TableInput):
        return [(len(item.columns), len(item.columns))]
    raise form_not_allowed(item.forms)


def _check_numbers(leaves: list[Any], shape: tuple[int, ...], item: Input) -> Checked:
    if isinstance(item, TensorInput):
        return Checked(check_range(to_array(leaves, shape, item.dtype), item))
    if isinstance(item, ImageInput):
        return Checked(to_array(leaves, shape, "uint8"), (shape[1], shape[0]))
    return check_value(leaves, item)


def _format_output(name: str, answers: Sequence[Any]) -> dict[str, Any]:
    rows = [_flatten_answer(answer) for answer in answers]
    numeric = all(isinstance(row, np.ndarray) for row in rows)
    if numeric and len({row.shape for row in rows}) == 1:
        numbers = np.stack(rows)
        shape = numbers.shape if len(rows) > 1 else numbers.shape[1:]
        return _write_output(name, _ANSWER_DATATYPES[numbers.dtype.kind], list(shape), numbers.ravel().tolist())
    data = list(answers)
    if len(data) == 1 and isinstance(data[0], list):
        (data,) = data
    return _write_output(name, "BYTES", [len(data)], data)


def _flatten_answer(answer: Any) -> Any:
    """Return an answer's numbers in one dimension, or the answer itself if it holds anything else."""
    try:
        numbers = np.array(answer)
    except ValueError:  # lists of different lengths
        return answer
    return numbers.ravel() if numbers.dtype.kind in _ANSWER_DATATYPES else answer


def _write_output(name: str, datatype: str, shape: list[int], data: list[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "data": data, "shape": shape}
