"""Read a request's body in any of the forms that stock TorchServe and KServe take: bytes enter, checked items leave.

    the value itself                        an image, a .npy file, a text; or its JSON: nested lists, a base64 string
    {"data": X}   {"body": X}               one item
    {"instances": [X, ...]}                 KServe v1; X may also be {"data": X} or {"body": X}, as stock wants it
    {"id": ..., "inputs": [...]}            KServe v2, see `kserve`

With several inputs, X is an object of their names, every one of them and no other. A body is JSON if it begins with a
brace, and if its one input is not a text that may come raw, also if it begins with a bracket or a quote.

The order is the defence: bytes, depth and number of values are bounded by the contract before anything is parsed, the
number of instances before the first of them is looked at.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from garrison.checks.json_text import read_json
from garrison.checks.kserve import ONE_OUTPUT, format_outputs, read_entries
from garrison.checks.reasons import bad_json, form_not_allowed, refuse, too_many_bytes
from garrison.checks.values import Checked, Value, check_bytes, check_value
from garrison.contract import Contract, ImageInput, Input, TableInput, TensorInput, TextInput

MAX_ENVELOPE_DEPTH = 5  # {"instances": [{"data": {"image": {"b64": ...}}}]}: a list as value adds its dimensions
MAX_ENVELOPE_VALUES = 24  # around the instances, and around the value of each: v2's shape alone takes up to ten

_JSON = re.compile(rb"[ \t\r\n]*[{\[\"]")
_JSON_OBJECT = re.compile(rb"[ \t\r\n]*\{")
_WRAPPERS = ("data", "body")


@dataclass(frozen=True)
class Item:
    """One set of inputs for the model, by input name, and the size (width, height) of its one image as sent."""

    values: Mapping[str, Value]
    source_size: tuple[int, int] | None = None

    @property
    def value(self) -> Value:
        """The value of the only input."""
        (value,) = self.values.values()
        return value


@dataclass(frozen=True)
class Request:
    """What one request asks for, and what its answer has to look like.

    `protocol` is plain, v1 or v2. For v2, `outputs` has the name of each output and how many items it answers.
    """

    items: tuple[Item, ...]
    protocol: str
    request_id: str = ""
    outputs: tuple[tuple[str, int], ...] = ()


def read_request(payload: bytes, contract: Contract) -> Request:
    """Check a request's body and everything in it.

    Raises:
        RequestRefused: for every body that the contract does not allow, whatever its bytes.
    """
    if len(payload) > contract.max_body_bytes:
        raise too_many_bytes(len(payload), contract.max_body_bytes)
    if not payload:
        raise refuse("empty_body", "The request has no body.")
    try:
        return _read_json(payload, contract) if _is_json(payload, contract) else _read_raw(payload, contract)
    except MemoryError as error:
        raise refuse("out_of_memory", "There is not enough memory at the moment; try again later.") from error


def present_answers(request: Request, answers: Sequence[Any], contract: Contract, *, explained: bool = False) -> Any:
    """Put the answers to a request's items, in their order, into the form in which it was asked."""
    if request.protocol == "plain":
        return answers[0]
    if request.protocol == "v1":
        return {"explanations" if explained else "predictions": list(answers)}
    response: dict[str, Any] = {"id": request.request_id} if request.request_id else {}
    response |= {"model_name": contract.model, "model_version": contract.version}
    return response | {"outputs": format_outputs(answers, request.outputs)}


def _is_json(payload: bytes, contract: Contract) -> bool:
    first = contract.inputs[0]
    if len(contract.inputs) > 1 or not isinstance(first, TextInput) or "raw" not in first.forms:
        return _JSON.match(payload) is not None
    return "json" in first.forms and _JSON_OBJECT.match(payload) is not None


def _read_raw(payload: bytes, contract: Contract) -> Request:
    item = contract.inputs[0]
    if len(contract.inputs) > 1 or "raw" not in item.forms:
        raise form_not_allowed(("json",) if len(contract.inputs) > 1 else item.forms)
    return Request((_collect({item.name: check_bytes(payload, item)}),), "plain")


def _read_json(payload: bytes, contract: Contract) -> Request:
    value = read_json(payload, *_bound_json(contract))
    if not isinstance(value, dict):
        return Request((_read_item(value, contract),), "plain")
    if "instances" in value:
        return _read_v1(value, contract)
    if "inputs" in value:
        return _read_v2(value, contract)
    if len(value) != 1 or not value.keys() <= set(_WRAPPERS):
        raise bad_json("not one of the keys data, body, instances and inputs")
    return Request((_read_item(next(iter(value.values())), contract),), "plain")


def _read_v1(value: dict[str, Any], contract: Contract) -> Request:
    instances = value["instances"]
    if len(value) != 1 or not isinstance(instances, list):
        raise bad_json("not instances, a list, alone")
    _check_instances(len(instances), contract)
    return Request(tuple(_read_item(_unwrap(entry, contract), contract) for entry in instances), "v1")


def _read_v2(value: dict[str, Any], contract: Contract) -> Request:
    entries = read_entries(value, contract.inputs)
    if len(contract.inputs) == 1:  # as stock: every entry brings items of its own, and is answered under its name
        (item,) = contract.inputs
        _check_instances(sum(entry.count for entry in entries), contract)
        rows = [_collect({item.name: checked}) for entry in entries for checked in entry.check(item)]
        return Request(tuple(rows), "v2", value.get("id", ""), tuple((entry.name, entry.count) for entry in entries))
    by_name = {entry.name: entry for entry in entries}
    if len(by_name) != len(entries):
        raise bad_json("an input stands twice")
    _check_names(by_name, contract)
    counts = {entry.count for entry in entries}
    if len(counts) != 1:
        raise refuse("wrong_shape", "The inputs hold different numbers of items.")
    _check_instances(entries[0].count, contract)
    columns = [by_name[item.name].check(item) for item in contract.inputs]
    names = [item.name for item in contract.inputs]
    items = tuple(_collect(dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True))
    return Request(items, "v2", value.get("id", ""), ((ONE_OUTPUT, len(items)),))


def _check_instances(count: int, contract: Contract) -> None:
    if not count:
        raise refuse("empty_body", "The request has no instance in it.")
    if count > contract.batch.max_instances:
        raise refuse("too_many_instances", f"One request may bring {contract.batch.max_instances} instance(s).")


def _read_item(value: Any, contract: Contract) -> Item:
    if len(contract.inputs) == 1:
        (item,) = contract.inputs
        return _collect({item.name: check_value(value, item)})
    if not isinstance(value, dict):
        raise bad_json("not an object of input names")
    _check_names(value, contract)
    return _collect({item.name: check_value(value[item.name], item) for item in contract.inputs})


def _check_names(values: Mapping[str, Any], contract: Contract) -> None:
    names = {item.name for item in contract.inputs}
    if not values.keys() <= names:
        raise refuse("unknown_input", "The request has an input that the model does not have.")
    if values.keys() != names:
        raise refuse("missing_input", "The request lacks an input of the model.")


def _collect(checked: Mapping[str, Checked]) -> Item:
    sizes = [value.source_size for value in checked.values() if value.source_size is not None]
    return Item({name: value.value for name, value in checked.items()}, sizes[0] if len(sizes) == 1 else None)


def _unwrap(instance: Any, contract: Contract) -> Any:
    """Take {"data": X} for X, unless that is a row whose one column has this name, or the input itself."""
    if not isinstance(instance, dict) or len(instance) != 1:
        return instance
    ((key, value),) = instance.items()
    item = contract.inputs[0]
    own = {column.name for column in item.columns} if isinstance(item, TableInput) else set()
    return value if key in _WRAPPERS and (key not in own or isinstance(value, dict | list)) else instance


def _bound_json(contract: Contract) -> tuple[int, int]:
    """Return how deep, and of how many values, the largest JSON is that the contract accepts."""
    shapes = [_largest_shape(item) for item in contract.inputs]
    values = sum(MAX_ENVELOPE_VALUES + _count_values(shape) for shape in shapes)
    depth = MAX_ENVELOPE_DEPTH + max(len(shape) for shape in shapes)
    return depth, MAX_ENVELOPE_VALUES + contract.batch.max_instances * values


def _largest_shape(item: Input) -> tuple[int, ...]:
    if isinstance(item, TensorInput):
        return tuple(high for _, high in item.shape)
    if isinstance(item, TableInput):
        return (len(item.columns),)
    return item.shape if isinstance(item, ImageInput) and "list" in item.forms else ()


def _count_values(shape: tuple[int, ...]) -> int:
    return sum(math.prod(shape[:rank]) for rank in range(1, len(shape) + 1))
