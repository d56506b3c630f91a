"""Check one value of one input, as it stands in JSON or as the request's body: what the contract promises leaves.

Which form a value has is plain from its type, and decides which form the contract must name:

    image    base64 text or {"b64": text}: json      nested lists: list
    tensor   nested lists: json                      base64 of a .npy file, either way: json
    text     a string, or {"b64": text}: json
    table    an object or a list: json
"""

import base64
import binascii
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from garrison.checks.image import check_pixels, read_picture
from garrison.checks.reasons import bad_json, form_not_allowed, refuse, too_many_bytes
from garrison.checks.table import check_row
from garrison.checks.tensor import check_tensor
from garrison.checks.text import check_text
from garrison.contract import ImageInput, Input, TableInput, TensorInput, TextInput

Value = NDArray[Any] | str


@dataclass(frozen=True)
class Checked:
    """One value as it reaches the model; an image's also tells the width and height that were sent."""

    value: Value
    source_size: tuple[int, int] | None = None


def check_value(value: Any, item: Input) -> Checked:
    """Check a value out of JSON.

    Raises:
        RequestRefused: it is not what the contract says of this input.
    """
    form = "list" if isinstance(item, ImageInput) and isinstance(value, list) else "json"
    if form not in item.forms:
        raise form_not_allowed(item.forms)
    if isinstance(item, TextInput) and isinstance(value, str):
        return Checked(check_text(value, item))
    if isinstance(item, TableInput):
        return Checked(check_row(value, item))
    if isinstance(item, ImageInput) and isinstance(value, list):
        height, width, _ = item.shape
        return Checked(check_pixels(value, item), (width, height))
    if isinstance(item, TensorInput) and isinstance(value, list):
        return Checked(check_tensor(value, item))
    return check_bytes(_decode_base64(value, item), item)


def check_bytes(data: bytes, item: Input) -> Checked:
    """Check a value that is bytes: the body itself, or decoded from base64.

    Raises:
        RequestRefused: it is not what the contract says of this input.
    """
    if isinstance(item, ImageInput):
        picture = read_picture(data, item)
        return Checked(picture.pixels, picture.source_size)
    if isinstance(item, TensorInput):
        return Checked(check_tensor(data, item))
    if isinstance(item, TextInput):
        return Checked(check_text(data, item))
    raise form_not_allowed(item.forms)


def _decode_base64(value: Any, item: Input) -> bytes:
    text = value["b64"] if isinstance(value, dict) and value.keys() == {"b64"} else value
    if not isinstance(text, str):
        raise bad_json("a value is of another type")
    if not text:
        raise refuse("empty_body", "The request has no input in it.")
    least = len(text) // 4 * 3 - 2  # bytes that so many characters stand for
    if least > item.max_bytes:
        raise too_many_bytes(least, item.max_bytes)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:  # ValueError: characters outside ASCII
        raise refuse("bad_base64", "The input is not valid base64 with padding.", type(error).__name__) from error
