"""TensorProto to numpy and back, as core/framework/tensor.cc: FromProto, AsProtoField, AsProtoTensorContent."""

from typing import Any

import numpy as np
import tensorflow as tf

from standins.model_server.failures import invalid

_FIELDS = {
    **dict.fromkeys(("uint8", "int8", "uint16", "int16", "int32"), "int_val"),
    **{"float32": "float_val", "float64": "double_val", "int64": "int64_val", "bool": "bool_val"},
    **{"uint32": "uint32_val", "uint64": "uint64_val"},
}


def read(proto: Any, alias: str) -> Any:
    """Return the array. Dimensions are believed: one value is repeated as often as they say.

    Raises:
        Failure: it is no tensor.
    """
    try:
        return tf.make_ndarray(proto)
    except (TypeError, ValueError, KeyError) as error:
        raise invalid(f"tensor parsing error: {alias}") from error


def write(array: Any, proto: Any, *, content: bool = False) -> None:
    """Write an array into a TensorProto, value by value, or as bytes with `content`."""
    array = np.asarray(array)
    dtype = tf.dtypes.as_dtype(array.dtype) if array.dtype != object else tf.string
    proto.dtype = dtype.as_datatype_enum
    proto.tensor_shape.SetInParent()
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if dtype == tf.string:
        proto.string_val.extend(tf.compat.as_bytes(value) for value in array.ravel())
    elif content:
        proto.tensor_content = array.tobytes()
    elif dtype in (tf.float16, tf.bfloat16):
        proto.half_val.extend(array.view(np.uint16).ravel().tolist())
    else:
        getattr(proto, _FIELDS[dtype.name]).extend(array.ravel().tolist())
