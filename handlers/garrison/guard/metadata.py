"""What a model takes and gives, in TensorFlow Serving's words: a contract enters, a SignatureDefMap leaves.

It says what the contract promises, not what stands in the SavedModel: sizes that may vary are -1, as is the number of
rows, and the names of tensors in the graph, which are nobody's business, are those of the inputs and outputs.
"""

from typing import Any

from garrison.contract import Contract, Signature, TensorInput
from garrison.contract.signatures import CLASSIFY, PREDICT, REGRESS
from garrison.tensorflow.dtypes import BY_NAME, STRING
from garrison.tensorflow.messages import messages

FIELD = "signature_def"
TYPE_URL = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
METHOD_NAMES = {method: f"tensorflow/serving/{method}" for method in (PREDICT, CLASSIFY, REGRESS)}
ANY_SIZE = -1


def describe_signatures(contract: Contract) -> Any:
    """Return all signatures of a contract as a SignatureDefMap."""
    described = messages.SignatureDefMap()
    for signature in contract.signatures:
        written = described.signature_def[signature.name]
        written.method_name = METHOD_NAMES[signature.method]
        for item in signature.inputs:
            dtype = item.dtype if isinstance(item, TensorInput) else STRING
            sizes = [low if low == high else ANY_SIZE for low, high in _bounds(item)]
            _describe(written.inputs[item.name], item.name, dtype, _with_rows(signature, sizes))
        for output in signature.outputs:
            sizes = [ANY_SIZE if size is None else size for size in output.shape]
            _describe(written.outputs[output.name], output.name, output.dtype, _with_rows(signature, sizes))
    return described


def _bounds(item: Any) -> Any:
    return item.shape


def _with_rows(signature: Signature, sizes: list[int]) -> list[int]:
    return [ANY_SIZE, *sizes] if signature.batched else sizes


def _describe(info: Any, name: str, dtype: str, sizes: list[int]) -> None:
    info.name = f"{name}:0"
    info.dtype = BY_NAME[dtype].number
    info.tensor_shape.SetInParent()
    for size in sizes:
        info.tensor_shape.dim.add(size=size)
