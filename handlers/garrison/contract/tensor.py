"""Tensor inputs: numbers of one dtype, in a shape with a range per dimension and a range of values."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from garrison.contract.bounds import JSON_OVERHEAD_BYTES, MAX_INPUT_BYTES
from garrison.settings import Settings

DTYPES = {
    "float32": 4,
    "float64": 8,
    "float16": 2,
    "int8": 1,
    "int16": 2,
    "int32": 4,
    "int64": 8,
    "uint8": 1,
    "bool": 1,
}
SIZES = {**DTYPES, "uint16": 2, "uint32": 4, "uint64": 8}  # bytes of one value, also of types that only TensorFlow has
TENSOR_FORMS = ("raw", "json")
MAX_RANK = 8
MAX_DIMENSION = 2**24
NPY_HEADER_BYTES = 1_024  # numpy writes 128; what is longer is not written by numpy
JSON_BYTES_PER_VALUE = 32  # a float64 in full takes 25 characters


@dataclass(frozen=True)
class TensorInput:
    """One tensor: an array of `dtype` whose every dimension lies between its bounds, both included.

    Forms: `raw` for a NumPy .npy file without pickle, `json` for nested lists. Values must be finite and, where given,
    between `minimum` and `maximum`.
    """

    name: str
    forms: tuple[str, ...]
    dtype: str
    shape: tuple[tuple[int, int], ...]
    minimum: float | None
    maximum: float | None

    @property
    def max_values(self) -> int:
        """Number of values in the largest acceptable tensor."""
        return math.prod(high for _, high in self.shape)

    @property
    def item_bytes(self) -> int:
        """Bytes of the largest acceptable tensor."""
        return self.max_values * SIZES[self.dtype]

    @property
    def max_bytes(self) -> int:
        """Bytes of the largest acceptable .npy file."""
        return self.item_bytes + NPY_HEADER_BYTES

    @property
    def max_json_bytes(self) -> int:
        """Bytes of the largest acceptable tensor as nested lists."""
        return self.max_values * JSON_BYTES_PER_VALUE + JSON_OVERHEAD_BYTES


def read_tensor_input(
    name: str, settings: Settings, dtypes: Sequence[str] = tuple(DTYPES), *, in_signature: bool = False
) -> TensorInput:
    """Read the section of a tensor input; problems are noted in `settings`.

    With `in_signature` it belongs to a signature: its shape may be [], and it has one form, values in a message.
    """
    dtype = settings.choice("dtype", tuple(dtypes))
    low = settings.number("min", -1e300, 1e300) if "min" in settings else None
    high = settings.number("max", -1e300, 1e300) if "max" in settings else None
    if low is not None and high is not None and settings.sound("min", "max") and low > high:
        settings.problem("min", f"{low} is more than max {high}")
    tensor = TensorInput(
        name=name,
        forms=("json",) if in_signature else settings.choices("forms", TENSOR_FORMS, default=TENSOR_FORMS),
        dtype=dtype,
        shape=read_shape(settings, scalar=in_signature),
        minimum=low,
        maximum=high,
    )
    if settings.sound("shape") and tensor.item_bytes > MAX_INPUT_BYTES:
        settings.problem(
            "shape", f"the largest tensor has {tensor.item_bytes} bytes; at most {MAX_INPUT_BYTES} are possible"
        )
    return tensor


def read_shape(settings: Settings, *, scalar: bool = False, may_vary: bool = False) -> tuple[tuple[int, int], ...]:
    """Read a shape as the bounds of each dimension.

    With `scalar` it may be [], and with `may_vary` a dimension may be null, which is any size.
    """
    listed = settings.listing(
        "shape", "[3, [1, 512]]: a size, or the smallest and largest, per dimension", empty=scalar
    )
    if len(listed) > MAX_RANK:
        settings.problem("shape", f"{len(listed)} dimensions are more than {MAX_RANK}")
        return ((1, 1),)
    bounds = [(1, MAX_DIMENSION) if may_vary and entry is None else _read_dimension(entry) for entry in listed]
    if any(bound is None for bound in bounds):
        settings.problem(
            "shape", f"write each dimension as a size or as [smallest, largest], from 1 to {MAX_DIMENSION}"
        )
    return tuple(bound or (1, 1) for bound in bounds)


def _read_dimension(entry: Any) -> tuple[int, int] | None:
    pair = entry if isinstance(entry, list) else [entry, entry]
    if len(pair) != 2 or any(isinstance(n, bool) or not isinstance(n, int) for n in pair):
        return None
    low, high = pair
    return (low, high) if 1 <= low <= high <= MAX_DIMENSION else None
