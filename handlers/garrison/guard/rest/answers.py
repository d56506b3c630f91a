"""Write answers as TensorFlow Serving writes them: arrays, classes, or what is known about a model enter, JSON leaves.

Numbers of 32 bits are written with the digits that 32 bits need (0.1, not 0.10000000149), and whole ones keep their .0,
as json_tensor.cc's WriteDecimal does. An output whose name ends in `_bytes` is in base64; so is, unlike upstream's, any
other string that is not UTF-8, as it would be no JSON.
"""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from garrison.guard.metadata import describe_signatures
from garrison.guard.refusals import refuse_for
from garrison.guard.serving import Class, Found
from garrison.tensorflow.dtypes import BY_NUMBER

BYTES_SUFFIX = "_bytes"
AVAILABLE, UNKNOWN = "AVAILABLE", "UNKNOWN"
_MOST_DIGITS = {2: 5, 4: 9, 8: 17}  # by bytes: C++'s max_digits10


def write_rows(outputs: Mapping[str, NDArray[Any]]) -> str:
    """Return {"predictions": [...]}: one entry for each row, bare where there is one output.

    Raises:
        OutOfContract: the outputs do not have the same number of rows.
    """
    counts = {values.shape[0] if values.ndim else -1 for values in outputs.values()}
    if len(counts) != 1 or -1 in counts:
        raise refuse_for("outputs_differ")
    columns = {name: _write_items(name, values) for name, values in sorted(outputs.items())}
    if len(columns) == 1:
        (rows,) = columns.values()
    else:
        names = [json.dumps(name) for name in columns]
        rows = [_write_object(names, row) for row in zip(*columns.values(), strict=True)]
    return f'{{"predictions": [{", ".join(rows)}]}}'


def write_columns(outputs: Mapping[str, NDArray[Any]]) -> str:
    """Return {"outputs": ...}: a tensor where there is one output, otherwise an object of tensors."""
    written = {name: _write_tensor(name, values) for name, values in sorted(outputs.items())}
    if len(written) == 1:
        (only,) = written.values()
        return f'{{"outputs": {only}}}'
    return f'{{"outputs": {_write_object([json.dumps(name) for name in written], [*written.values()])}}}'


def write_classes(found: Sequence[Sequence[Class]]) -> str:
    """Return {"results": [[[label, score], ...], ...]}."""
    rows = (", ".join(f"[{json.dumps(one.label)}, {_write_score(one.score)}]" for one in row) for row in found)
    return f'{{"results": [{", ".join(f"[{row}]" for row in rows)}]}}'


def write_values(found: Sequence[float]) -> str:
    """Return {"results": [value, ...]}."""
    return f'{{"results": [{", ".join(map(_write_score, found))}]}}'


def write_status(found: Found, *, available: bool) -> str:
    """Return a model's status; the version is a text, as protobuf writes 64 bits in JSON."""
    status = {"error_code": "OK", "error_message": ""}
    state = AVAILABLE if available else UNKNOWN
    entry = {"version": str(found.version), "state": state, "status": status}
    return json.dumps({"model_version_status": [entry]})


def write_metadata(found: Found) -> str:
    """Return a model's signatures as GetModelMetadata tells them."""
    described = describe_signatures(found.contract).signature_def
    signatures = {
        name: {
            "inputs": {key: _describe(info) for key, info in sorted(one.inputs.items())},
            "outputs": {key: _describe(info) for key, info in sorted(one.outputs.items())},
            "method_name": one.method_name,
            "defaults": {},
        }
        for name, one in sorted(described.items())
    }
    spec = {"name": found.contract.model, "signature_name": "", "version": str(found.version)}
    return json.dumps({"model_spec": spec, "metadata": {"signature_def": {"signature_def": signatures}}})


def write_error(message: str) -> str:
    """Return {"error": ...}."""
    return json.dumps({"error": message})


def _describe(info: Any) -> dict[str, Any]:
    dims = [{"size": str(dim.size), "name": ""} for dim in info.tensor_shape.dim]
    dtype = BY_NUMBER[info.dtype].tensorflow_name
    return {"dtype": dtype, "tensor_shape": {"dim": dims, "unknown_rank": False}, "name": info.name}


def _write_object(names: Sequence[str], values: Sequence[str]) -> str:
    return f"{{{', '.join(f'{name}: {value}' for name, value in zip(names, values, strict=True))}}}"


def _write_items(name: str, values: NDArray[Any]) -> list[str]:
    """Return each entry of the first dimension."""
    return _nest([*_write_leaves(name, values)], values.shape, 1)


def _write_tensor(name: str, values: NDArray[Any]) -> str:
    (whole,) = _nest([*_write_leaves(name, values)], values.shape, 0)
    return whole


def _nest(leaves: list[str], shape: tuple[int, ...], outer: int) -> list[str]:
    """Join leaves to lists, from the last dimension to the one before `outer`."""
    for axis in range(len(shape) - 1, outer - 1, -1):
        size, groups = shape[axis], int(np.prod(shape[:axis], dtype=np.int64))
        leaves = [f"[{', '.join(leaves[at * size : (at + 1) * size])}]" for at in range(groups)]
    return leaves


def _write_leaves(name: str, values: NDArray[Any]) -> Iterable[str]:
    kind = values.dtype.kind
    if kind == "f":
        return _write_decimals(values.ravel())
    if kind == "b":
        return ("true" if value else "false" for value in values.ravel().tolist())
    if kind == "O":
        as_bytes = name.endswith(BYTES_SUFFIX)
        return (_write_string(value, as_bytes=as_bytes) for value in values.ravel().tolist())
    return map(str, values.ravel().tolist())


def _write_decimals(values: NDArray[Any]) -> list[str]:
    """Write six digits where they are the number, and otherwise as many as its type may need."""
    numbers = values.tolist()
    texts = [f"{number:g}" for number in numbers]
    same = np.array(texts, dtype=np.float64).astype(values.dtype) == values
    digits = _MOST_DIGITS[values.dtype.itemsize]
    for at in np.flatnonzero(~same).tolist():
        texts[at] = f"{numbers[at]:.{digits}g}"
    return [text if "." in text or "e" in text else f"{text}.0" for text in texts]


def _write_string(value: bytes, *, as_bytes: bool) -> str:
    if not as_bytes:
        try:
            return json.dumps(value.decode("utf-8"))
        except UnicodeDecodeError:
            pass
    return json.dumps({"b64": base64.b64encode(value).decode("ascii")})


def _write_score(value: float) -> str:
    (written,) = _write_decimals(np.array([value], dtype=np.float32))
    return written
