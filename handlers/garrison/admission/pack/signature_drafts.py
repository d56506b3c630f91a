"""Contracts for SavedModels: what the program says of its signatures, with limits that it does not say.

A draft is for a person to read and to keep: every line with CHECK holds a limit that was guessed. What no contract can
say, such as a sparse input, is left out and told in a comment.
"""

import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from garrison.admission.pack.features import Feature
from garrison.admission.pack.signatures import say_shape
from garrison.admission.scan.saved_model import ServedSignature, ServedTensor
from garrison.contract.bounds import MAX_INPUT_BYTES
from garrison.contract.signatures import (
    FEATURE_DTYPES,
    MAX_SIGNATURES,
    MAX_TENSORS,
    PREDICT,
    SERVING_DEFAULT,
    SIGNATURE_NAME,
)
from garrison.contract.tensor import MAX_RANK, SIZES
from garrison.errors import ConfigError
from garrison.tensorflow.dtypes import STRING

LARGEST_SIZE = 64  # of a dimension of any size
STRING_BYTES = 1024  # of one of many; a single one of a row may be larger
MAX_ITEMS = 8
MIB = 2**20
FLOATS = ("float16", "float32", "float64")

_HEAD = """\
# Written by `garrison describe --contract-draft`: what the SavedModel says, and limits that it does not say.
# Read every line with CHECK, change what does not fit, and give it with `garrison pack --saved-model DIR --contract`.
garrison: 1
model: {model}
version: "1"                      # a whole number; raise it with every release
task: tensorflow
# version_labels: [stable]        # names by which clients may ask for this version

signatures:
"""
_TAIL = """
batch:
  max_items: {items}                    # rows that the model takes at once
  max_delay_ms: 1
  max_bytes: {mib}MiB
  max_instances: {items}                # CHECK: rows that one request may bring

workers:
  count: 1                        # CHECK: batches that are computed at the same time
  queue: 64
  timeout_s: 10

outputs:
  max_bytes: 1MiB                 # CHECK: of one answer
"""
_TEXT = "kind: text, max_bytes: 1KiB, max_characters: 256"
_STRINGS = (  # by what authors call such inputs
    (re.compile("image|jpe?g|png|photo|picture", re.IGNORECASE), "kind: image, formats: [jpeg, png], max_bytes: 1MiB, "
     "min_side: 8, max_side: 4096, max_pixels: 4000000"),
    (re.compile("_bytes$"), "kind: bytes, max_bytes: 1KiB"),
)  # fmt: skip
_EXAMPLES = re.compile("example|serialized", re.IGNORECASE)
_STRING_ADVICE = "CHECK: text, image, bytes or example? and how much"
_EXAMPLE_ADVICE = "CHECK: every feature that the model parses, its bounds, and its kind: text, image or bytes"
_UNKNOWN = (Feature("FEATURE", "float32", (1,)),)


def draft_contract(directory: Path, signatures: Sequence[ServedSignature], features: Sequence[Feature] = ()) -> str:
    """Return a contract (YAML) for a SavedModel, which fits it and still has to be read.

    `features` are those that it parses tf.Examples into, as far as they are known.

    Raises:
        ConfigError: it has no signature that can be served.
    """
    drafted: list[str] = []
    example = [_draft_feature(one) for one in _choose(features)]
    bytes_of_rows = [1]
    count = 0
    offered = [one for one in signatures if one.method]  # what has none is run while the model loads
    for one in sorted(offered, key=lambda one: (one.name != SERVING_DEFAULT, one.name)):
        reason = _find_obstacle(one) or ("there are more than enough" if count == MAX_SIGNATURES else "")
        if reason:
            drafted.append(f"  # {_comment(one.name)} is left out: {reason}")
            continue
        count += 1
        drafted += _draft_signature(one, example)
        bytes_of_rows.append(_count_bytes(one))
    if not count:
        told = "; ".join(line.strip(" #") for line in drafted) or "it has none"
        raise ConfigError(f"{directory}: no signature can be served: {told}; export the model with plain tensors")
    mib = max(1, -(-max(bytes_of_rows) * MAX_ITEMS // MIB))
    head = _HEAD.format(model=_name_model(directory))
    return head + "\n".join(drafted) + "\n" + _TAIL.format(items=MAX_ITEMS, mib=mib)


def _find_obstacle(signature: ServedSignature) -> str:
    """Say why no contract can describe a signature, or nothing."""
    if not signature.is_served:
        return f"its method is {_comment(signature.method)}, which clients cannot ask for"
    if not re.fullmatch(SIGNATURE_NAME, signature.name):
        return "such a name is not served"
    for word, tensors in (("input", signature.inputs), ("output", signature.outputs)):
        if not 1 <= len(tensors) <= MAX_TENSORS:
            return f"it has {len(tensors)} {word}s; 1 to {MAX_TENSORS} can be served"
        for tensor in tensors:
            if reason := _find_obstacle_in(tensor):
                return f"its {word} {_comment(tensor.name)} {reason}"
    batched = _is_batched(signature)
    for tensor in signature.inputs:
        if (count := _count_bytes_of(tensor, batched, 1)) > MAX_INPUT_BYTES:
            return f"its input {_comment(tensor.name)} has {count} bytes; {MAX_INPUT_BYTES} are possible"
    return ""


def _find_obstacle_in(tensor: ServedTensor) -> str:
    if not re.fullmatch(SIGNATURE_NAME, tensor.name):
        return "has a name that is not served"
    if not tensor.tensor:
        return "is sparse or composite"
    if tensor.dtype not in (*SIZES, STRING):
        return f"has TensorFlow's type {tensor.dtype}"
    if tensor.shape is not None and (len(tensor.shape) > MAX_RANK or 0 in tensor.shape):
        return f"has {say_shape(tensor)}"
    return ""


def _draft_signature(signature: ServedSignature, features: Sequence[str]) -> Iterator[str]:
    batched = _is_batched(signature)
    yield f"  {_quote(signature.name)}:"
    yield f"    method: {signature.method}"
    if not batched:
        yield "    batched: false              # the shapes below are whole: no number of rows stands before them"
    yield "    inputs:"
    for tensor in signature.inputs:
        is_example = tensor.dtype == STRING and _EXAMPLES.search(tensor.name) and not _row(tensor, batched)
        if signature.method != PREDICT or is_example:
            yield f"      {_quote(tensor.name)}:  # {_EXAMPLE_ADVICE}"
            yield from ("        kind: example", "        max_bytes: 16KiB", "        features:")
            yield from (f"          {line}" for line in features)
        else:
            yield _line(tensor, *_draft_input(tensor, batched))
    yield "    outputs:"
    for tensor in signature.outputs:
        yield _line(tensor, *_draft_output(tensor, batched))


def _is_batched(signature: ServedSignature) -> bool:
    """Say whether every tensor has a number of rows in front; a shape that is not said may have one."""
    if signature.method != PREDICT:
        return True
    shapes = [tensor.shape for tensor in (*signature.inputs, *signature.outputs) if tensor.shape is not None]
    return bool(shapes) and all(shape and shape[0] is None for shape in shapes)


def _draft_input(tensor: ServedTensor, batched: bool) -> tuple[str, str]:
    sizes, largest = _row(tensor, batched), _find_largest(tensor, batched)
    shape = ", ".join(f"[1, {largest}]" if size is None else str(size) for size in sizes)
    advice = "CHECK: the shape, which the SavedModel does not say" if tensor.shape is None else ""
    if None in sizes:
        advice = f"CHECK: the largest shape; the SavedModel says {say_shape(tensor)}"
    if tensor.dtype == STRING:
        kind = next((kind for pattern, kind in _STRINGS if pattern.search(tensor.name) and not sizes), _TEXT)
        return kind + (f", shape: [{shape}]" if sizes else ""), advice or _STRING_ADVICE
    values = "" if tensor.dtype == "bool" else "CHECK: min and max, or every finite number is accepted"
    return f"kind: tensor, dtype: {tensor.dtype}, shape: [{shape}]", "; ".join(filter(None, (advice, values)))


def _choose(features: Sequence[Feature]) -> Sequence[Feature]:
    """Return the features that a contract can describe, or one that says that somebody has to write them."""
    known = [
        one
        for one in features
        if one.dtype in (*FEATURE_DTYPES, STRING)
        and re.fullmatch(SIGNATURE_NAME, one.name)
        and len(one.shape) <= MAX_RANK
    ]
    return known or _UNKNOWN


def _draft_feature(feature: Feature) -> str:
    shape = ", ".join(f"[1, {LARGEST_SIZE}]" if size is None else str(size) for size in feature.shape)
    kind = (
        f"kind: tensor, dtype: {feature.dtype}"
        if feature.dtype != STRING
        else "kind: text, max_bytes: 64, max_characters: 64"
    )
    return f"{_quote(feature.name)}: {{{kind}, shape: [{shape}]}}"


def _draft_output(tensor: ServedTensor, batched: bool) -> tuple[str, str]:
    sizes = _row(tensor, batched)
    shape = ", ".join("null" if size is None else str(size) for size in sizes)
    told = f"dtype: {tensor.dtype}, shape: [{shape}]"
    if tensor.dtype in FLOATS:
        return f"{told}, decimals: 4", "CHECK: more decimals say more about the model"
    if tensor.dtype == STRING:
        return f"{told}, max_bytes: 1KiB", "CHECK: bytes of one string"
    return told, ""


def _find_largest(tensor: ServedTensor, batched: bool) -> int:
    """Return the largest size of a dimension that varies with which a row is not too large for a contract."""
    size = LARGEST_SIZE
    while size > 1 and _count_bytes_of(tensor, batched, size) > MAX_INPUT_BYTES:
        size //= 2
    return size


def _count_bytes_of(tensor: ServedTensor, batched: bool, varying: int) -> int:
    one = SIZES.get(tensor.dtype, MIB if tensor.dtype == STRING and not _row(tensor, batched) else STRING_BYTES)
    return one * math.prod(varying if size is None else size for size in _row(tensor, batched))


def _row(tensor: ServedTensor, batched: bool) -> tuple[int | None, ...]:
    return () if tensor.shape is None else tensor.shape[1:] if batched else tensor.shape


def _count_bytes(signature: ServedSignature) -> int:
    """Return the bytes of a row as the draft bounds it."""
    batched = _is_batched(signature)
    return sum(_count_bytes_of(one, batched, _find_largest(one, batched)) for one in signature.inputs)


def _line(tensor: ServedTensor, values: str, advice: str) -> str:
    line = f"      {_quote(tensor.name)}: {{{values}}}"
    return f"{line}  # {advice}" if advice else line


def _quote(name: str) -> str:
    """Write a name so that YAML reads it as one: `y` is true to some."""
    return name if re.fullmatch(r"[A-Za-z_]\w+", name) and yaml.safe_load(name) == name else json.dumps(name)


def _comment(text: str) -> str:
    """Write an author's text so that it stays in a comment's line."""
    return json.dumps(text[:128])[1:-1]


def _name_model(directory: Path) -> str:
    """Make a name of the directory's, or, where that is a version's number, of the one above."""
    path = directory.resolve()
    name = path.parent.name if path.name.isdigit() else path.name
    return re.sub(r"[^A-Za-z0-9_-]", "-", name).lstrip("-_")[:64] or "model"
