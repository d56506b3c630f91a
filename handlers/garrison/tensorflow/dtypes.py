"""TensorFlow's types: the number on the wire, the contract's name, the bytes of one value.

From tensorflow/core/framework/types.proto. Types that no contract can name (complex, quantised, bfloat16, resources,
variants) are not here: what has one is refused.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

STRING = "string"


@dataclass(frozen=True)
class DType:
    """One type: `number` in a TensorProto, `name` in a contract, `numpy` None for strings.

    `field` is the TensorProto field that holds its values one by one, beside `tensor_content`.
    """

    number: int
    name: str
    numpy: "np.dtype[Any] | None"
    field: str

    @property
    def tensorflow_name(self) -> str:
        """Return the name in TensorFlow's own enumeration, as metadata shows it."""
        return _TENSORFLOW_NAMES.get(self.name, f"DT_{self.name.upper()}")


def _number(number: int, name: str, field: str) -> DType:
    return DType(number, name, np.dtype(name).newbyteorder("<"), field)


_TENSORFLOW_NAMES = {"float16": "DT_HALF", "float32": "DT_FLOAT", "float64": "DT_DOUBLE"}
DTYPES = (
    _number(1, "float32", "float_val"),
    _number(2, "float64", "double_val"),
    _number(3, "int32", "int_val"),
    _number(4, "uint8", "int_val"),
    _number(5, "int16", "int_val"),
    _number(6, "int8", "int_val"),
    DType(7, STRING, None, "string_val"),
    _number(9, "int64", "int64_val"),
    _number(10, "bool", "bool_val"),
    _number(17, "uint16", "int_val"),
    _number(19, "float16", "half_val"),
    _number(22, "uint32", "uint32_val"),
    _number(23, "uint64", "uint64_val"),
)
BY_NUMBER = {dtype.number: dtype for dtype in DTYPES}
BY_NAME = {dtype.name: dtype for dtype in DTYPES}
