"""Read a request's JSON by the signature that it names: bytes enter, arrays or tf.Examples leave, or `Refused`.

    {"signature_name": "...", "instances": [...]}      rows: values, or objects of values by input
    {"signature_name": "...", "inputs": ...}           columns: a tensor, or an object of tensors by input
    {"signature_name": "...", "examples": [{...}], "context": {...}}

Numbers are taken as their type says: a whole number for an integer, any number for a float as long as it is exact,
true or false for a bool. A string is its UTF-8, {"b64": "..."} the bytes that it stands for. What shape and range they
may have is compared here only as far as that bounds the work; `inputs` checks it all again.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from garrison.checks.json_text import read_json
from garrison.checks.nested import Bounds, flatten_lists, out_of_range, to_array, wrong_dtype, wrong_shape
from garrison.checks.reasons import bad_json, refuse, too_many_bytes
from garrison.contract import Contract, ExampleElement, Signature, StringInput, TensorInput
from garrison.contract.signatures import SERVING_DEFAULT
from garrison.contract.tensor import MAX_DIMENSION
from garrison.guard.refusals import refuse_for
from garrison.guard.tensors import make_strings
from garrison.tensorflow.messages import messages

SIGNATURE, INSTANCES, INPUTS, EXAMPLES, CONTEXT, B64 = (
    "signature_name", "instances", "inputs", "examples", "context", "b64",
)  # fmt: skip
MAX_DEPTH = 16  # of the JSON: a tensor of 8 dimensions, in rows, in the body
VALUES_BESIDE = 256  # that are no values of a tensor: names, objects
_EXACT_BITS = {"float16": 11, "float32": 24, "float64": 53}  # whole numbers up to 2 to the power of that are exact
Body = dict[str, Any]


def read_body(payload: bytes, contract: Contract) -> Body:
    """Return a request's JSON object, within what the largest request of the model needs.

    Raises:
        RequestRefused: it is no JSON object, too deep, or has too many values.
    """
    if not payload:
        raise refuse("empty_body", "The request has no body.")
    body = read_json(
        payload, MAX_DEPTH, VALUES_BESIDE + max(_count_values(contract, one) for one in contract.signatures)
    )
    if not isinstance(body, dict):
        raise bad_json("not an object")
    return body


def name_signature(body: Body) -> str:
    """Return the name of the signature that a request is for.

    Raises:
        Malformed: it is no text.
    """
    name = body.get(SIGNATURE, "")
    if not isinstance(name, str):
        raise bad_json("a signature_name that is no text")
    return name or SERVING_DEFAULT


def read_inputs(body: Body, signature: Signature) -> tuple[dict[str, NDArray[Any]], bool]:
    """Return the arrays of a request to predict, and whether it came in rows.

    Raises:
        RequestRefused: it is in neither form, or holds something else than the signature's inputs.
    """
    form = body.keys() - {SIGNATURE}
    if form == {INSTANCES}:
        values = body[INSTANCES]
        if not isinstance(values, list):
            raise bad_json("instances that are no list")
        if not values:
            raise refuse_for("no_rows")
        return _read_tensors(_read_rows(values, signature), signature), True
    if form == {INPUTS}:
        return _read_tensors(_read_columns(body[INPUTS], signature), signature), False
    raise bad_json("neither instances nor inputs alone")


def read_examples(body: Body, contract: Contract, signature: Signature) -> list[bytes]:
    """Return the serialised tf.Examples of a request to classify or regress.

    Raises:
        RequestRefused: it is not of that form, or an example holds something else than the contract's features.
    """
    examples, context = body.get(EXAMPLES), body.get(CONTEXT, {})
    if not body.keys() <= {SIGNATURE, EXAMPLES, CONTEXT} or not isinstance(examples, list):
        raise bad_json("no list of examples, or another key")
    if not examples:
        raise refuse_for("no_rows")
    if len(examples) > contract.batch.max_instances:
        raise refuse("too_many_instances", f"More than {contract.batch.max_instances} examples in one request.")
    (item,) = signature.inputs
    element = _find_element(item)
    return [_make_example(example, context, element) for example in examples]


def _count_values(contract: Contract, signature: Signature) -> int:
    """Return how many values of JSON the largest request for a signature has, lists and {"b64": ...} counted, too."""
    rows = contract.batch.max_instances if signature.batched else 1
    return rows * sum(4 * _count_in(item) + 8 for item in signature.inputs)


def _count_in(item: Any) -> int:
    if isinstance(item, StringInput) and isinstance(item.element, ExampleElement):
        return sum(item.max_values * (feature.max_values + 2) for feature in item.element.features)
    return int(item.max_values)


def _read_rows(values: list[Any], signature: Signature) -> Mapping[str, list[Any]]:
    """Return each input's rows."""
    names = [item.name for item in signature.inputs]
    if _is_named(values[0]):
        wanted = set(names)
        for row in values:
            if not _is_named(row):
                raise bad_json("a row that is no object among those that are")
            _check_names(row, wanted)
        return {name: [row[name] for row in values] for name in names}
    if len(names) > 1:
        raise bad_json("bare values for several inputs")
    if any(map(_is_named, values)):
        raise bad_json("an object among bare values")
    return {names[0]: values}


def _read_columns(value: Any, signature: Signature) -> Mapping[str, Any]:
    names = [item.name for item in signature.inputs]
    if _is_named(value):
        _check_names(value, set(names))
        return {name: value[name] for name in names}
    if len(names) > 1:
        raise bad_json("a bare value for several inputs")
    return {names[0]: value}


def _is_named(value: Any) -> bool:
    """Say whether a value is an object by names, and not one that stands for bytes."""
    return isinstance(value, dict) and not _is_binary(value)


def _is_binary(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {B64} and isinstance(value[B64], str)


def _check_names(found: Mapping[str, Any], wanted: set[str]) -> None:
    if wanted - found.keys():
        raise refuse("missing_input", "An input of this signature is missing.")
    if found.keys() - wanted:
        raise refuse("unknown_input", "There is an input that this signature does not have.")


def _read_tensors(values: Mapping[str, Any], signature: Signature) -> dict[str, NDArray[Any]]:
    rows: Bounds = ((1, MAX_DIMENSION),) if signature.batched else ()
    return {item.name: _read_tensor(values[item.name], item, rows) for item in signature.inputs}


def _read_tensor(value: Any, item: Any, rows: Bounds) -> NDArray[Any]:
    if rows and value == []:
        raise refuse_for("no_rows")
    shape, leaves = flatten_lists(value, (*rows, *item.shape))
    if isinstance(item, TensorInput):
        return _read_numbers(leaves, shape, item.dtype)
    return make_strings(map(_read_string, leaves)).reshape(shape)


def _read_numbers(leaves: list[Any], shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    bits = _EXACT_BITS.get(dtype)
    if bits is not None and any(type(leaf) is int and abs(leaf) >= 2**bits for leaf in leaves):
        raise out_of_range(f"a whole number that {dtype} does not have exactly")
    return to_array(leaves, shape, np.dtype(dtype).newbyteorder("<"))


def _read_string(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")  # `read_json` has refused half a pair
    if not _is_binary(value):
        raise wrong_dtype("neither text nor bytes in base64")
    text = value[B64]
    padding = "" if text.endswith("=") else "=" * (-len(text) % 4)  # all of it or nothing, as upstream takes it
    try:
        return base64.b64decode(text + padding, validate=True)
    except (binascii.Error, ValueError) as error:
        raise refuse("bad_base64", "A value is not valid base64.", type(error).__name__) from error


def _find_element(item: Any) -> ExampleElement:
    if not isinstance(item, StringInput) or not isinstance(item.element, ExampleElement):
        raise refuse_for("wrong_method", "no input of tf.Examples")
    return item.element


def _make_example(example: Any, context: Any, element: ExampleElement) -> bytes:
    """Write one tf.Example, with the context's features in it.

    Its size is compared at once: a context as large as the body would otherwise be copied into each of many examples.
    """
    if not isinstance(example, dict) or not isinstance(context, dict):
        raise bad_json("an example or a context that is no object")
    if example.keys() & context.keys():
        raise bad_json("a feature in the context and in an example")
    given = {**context, **example}
    features = {feature.name: feature for feature in element.features}
    _check_names(given, set(features))
    written = messages.Example()
    for name, value in given.items():
        _write_feature(written.features.feature[name], value if isinstance(value, list) else [value], features[name])
    if written.ByteSize() > element.max_bytes:
        raise too_many_bytes(written.ByteSize(), element.max_bytes)
    serialised: bytes = written.SerializeToString()
    return serialised


def _write_feature(written: Any, values: Sequence[Any], feature: TensorInput | StringInput) -> None:
    if len(values) > feature.max_values or not values:
        raise wrong_shape(f"feature {feature.name}: {len(values)} values")
    if isinstance(feature, StringInput):
        written.bytes_list.value.extend(map(_read_string, values))
    elif feature.dtype == "float32":
        written.float_list.value.extend(_read_numbers([*values], (len(values),), "float32").tolist())
    else:
        whole = [int(value) if type(value) is bool else value for value in values]  # as upstream
        written.int64_list.value.extend(_read_numbers(whole, (len(whole),), "int64").tolist())
