"""What a SavedModel says it takes and gives: a `SavedModel` message enters, its signatures leave.

They are the author's words about the graph: TensorFlow Serving checks a request's dtypes and shapes against them, and
the guard checks against the contract. `check_against_contract` makes sure that both speak of the same thing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from garrison.contract import Contract, Output, Signature, StringInput, TensorInput
from garrison.contract.bounds import Input
from garrison.contract.signatures import CLASSIFY, METHODS, PREDICT, REGRESS
from garrison.tensorflow.dtypes import BY_NUMBER, STRING

SERVE_TAG = "serve"
METHOD_NAMES = {f"tensorflow/serving/{method}": method for method in METHODS}
# What TensorFlow Serving looks for in a signature that is asked with Classify or Regress.
_CLASSIC = {CLASSIFY: ({"inputs"}, {"classes", "scores"}), REGRESS: ({"inputs"}, {"outputs"})}

Shape = tuple[int | None, ...] | None


@dataclass(frozen=True)
class ServedTensor:
    """One input or output: `tensor` is its name in the graph, `NODE:INDEX`; empty where it is sparse or composite.

    `dtype` is the contract's name, such as float32 or string, or TensorFlow's number where a contract has no name for
    it. `shape` has None where a dimension varies, and is None where not even their number is said. An input with
    `has_default` may be left out of a request.
    """

    name: str
    tensor: str
    dtype: str
    shape: Shape
    has_default: bool = False


@dataclass(frozen=True)
class ServedSignature:
    """One signature; `method` is predict, classify or regress, or the name that stands there instead."""

    name: str
    method: str
    inputs: tuple[ServedTensor, ...]
    outputs: tuple[ServedTensor, ...]

    @property
    def is_served(self) -> bool:
        """Whether TensorFlow Serving answers requests for it, as it does not for what runs while a model loads."""
        return self.method in METHODS


def read_signatures(saved_model: Any) -> tuple[ServedSignature, ...]:
    """Return the signatures of the graph that is served, in the order of their names."""
    graphs = [graph for graph in saved_model.meta_graphs if SERVE_TAG in graph.meta_info_def.tags]
    found = graphs[0].signature_def if graphs else {}
    return tuple(_read_signature(name, found[name]) for name in sorted(found))


def check_against_contract(signatures: Sequence[ServedSignature], contract: Contract) -> list[str]:
    """Return what a contract promises that the SavedModel does not hold, a sentence each with the contract's key."""
    served = {signature.name: signature for signature in signatures if signature.is_served}
    return [
        f"signatures.{declared.name}{problem}"
        for declared in contract.signatures
        for problem in _check_signature(declared, served, contract.batch.max_items)
    ]


def _read_signature(name: str, signature: Any) -> ServedSignature:
    method = METHOD_NAMES.get(signature.method_name, signature.method_name)
    inputs = tuple(
        _read_tensor(key, signature.inputs[key], key in signature.defaults) for key in sorted(signature.inputs)
    )
    outputs = tuple(_read_tensor(key, signature.outputs[key]) for key in sorted(signature.outputs))
    return ServedSignature(name, method, inputs, outputs)


def _read_tensor(name: str, info: Any, has_default: bool = False) -> ServedTensor:
    dtype = BY_NUMBER[info.dtype].name if info.dtype in BY_NUMBER else str(info.dtype)
    sizes = tuple(None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim)
    shape = None if info.tensor_shape.unknown_rank else sizes
    return ServedTensor(name, info.name, dtype, shape, has_default)


def _check_signature(declared: Signature, served: dict[str, ServedSignature], max_items: int) -> Iterator[str]:
    found = served.get(declared.name)
    if found is None:
        yield f": the SavedModel has no such signature; it has {_list(served)}"
        return
    if found.method != declared.method:
        yield f".method: {declared.method} is not what the SavedModel says, {found.method}"
    inputs, outputs = _CLASSIC.get(declared.method, (set(), set()))
    if declared.method != PREDICT and not {one.name for one in declared.inputs} <= inputs:
        yield f".inputs: {declared.method} takes one input named inputs"
    if declared.method != PREDICT and not {one.name for one in declared.outputs} <= outputs:
        yield f".outputs: {declared.method} gives {_list(outputs)}"
    yield from _check_inputs(declared, found, max_items)
    yield from _check_outputs(declared, found)


def _check_inputs(declared: Signature, found: ServedSignature, max_items: int) -> Iterator[str]:
    tensors = {tensor.name: tensor for tensor in found.inputs}
    for item in declared.inputs:
        if item.name not in tensors:
            yield f".inputs.{item.name}: the SavedModel has no such input; it has {_list(tensors)}"
        else:
            problems = _check_input(item, tensors[item.name], declared.batched, max_items)
            yield from (f".inputs.{item.name}{problem}" for problem in problems)
    names = {item.name for item in declared.inputs}
    for name, tensor in tensors.items():
        if name not in names and not tensor.has_default:
            yield f".inputs: the SavedModel also needs {name}; describe it"


def _check_input(item: Input, tensor: ServedTensor, batched: bool, max_items: int) -> Iterator[str]:
    dtype = item.dtype if isinstance(item, TensorInput) else STRING
    yield from _check_kind(dtype, tensor)
    rows = [(1, max_items)] if batched else []
    bounds = [*rows, *(item.shape if isinstance(item, TensorInput | StringInput) else ())]
    if tensor.shape is None:
        return
    if len(bounds) != len(tensor.shape):
        yield f".shape: {_rank(len(bounds), batched)}, but {_rank(len(tensor.shape))} in the SavedModel"
        return
    for place, ((low, high), size) in enumerate(zip(bounds, tensor.shape, strict=True)):
        if size is not None and not low == high == size:
            yield _say_size(place - len(rows), size, low, high)


def _say_size(place: int, size: int, low: int, high: int) -> str:
    if place < 0:
        wanted = "batch.max_items: 1, or export it" if size == 1 else "batched: false, or export it"
        return f": the SavedModel takes {size} rows, always; write {wanted} for any number of rows"
    return f".shape: dimension {place + 1} is {low if low == high else [low, high]}, but {size} in the SavedModel"


def _check_outputs(declared: Signature, found: ServedSignature) -> Iterator[str]:
    tensors = {tensor.name: tensor for tensor in found.outputs}
    for output in declared.outputs:
        if output.name not in tensors:
            yield f".outputs.{output.name}: the SavedModel has no such output; it has {_list(tensors)}"
        else:
            problems = _check_output(output, tensors[output.name], declared.batched)
            yield from (f".outputs.{output.name}{problem}" for problem in problems)


def _check_output(output: Output, tensor: ServedTensor, batched: bool) -> Iterator[str]:
    """Compare an output; a size that only one of the two leaves open is no contradiction: the guard checks answers."""
    yield from _check_kind(output.dtype, tensor)
    sizes = [*([None] if batched else []), *output.shape]
    if tensor.shape is None:
        return
    if len(sizes) != len(tensor.shape):
        yield f".shape: {_rank(len(sizes), batched)}, but {_rank(len(tensor.shape))} in the SavedModel"
        return
    for place, (declared, size) in enumerate(zip(sizes, tensor.shape, strict=True)):
        if None not in (declared, size) and declared != size:
            yield f".shape: dimension {place + 1 - batched} is {declared}, but {size} in the SavedModel"


def _check_kind(dtype: str, tensor: ServedTensor) -> Iterator[str]:
    if not tensor.tensor:
        yield ": it is sparse or composite in the SavedModel, which cannot be served; export it as plain tensors"
    if dtype != tensor.dtype:
        known = tensor.dtype if not tensor.dtype.isdigit() else f"TensorFlow's type {tensor.dtype}, which is not served"
        yield f": {dtype} is not what the SavedModel has, {known}"


def _rank(count: int, batched: bool = False) -> str:
    number = "1 dimension" if count == 1 else f"{count} dimensions"
    return f"{number} with that of the rows" if batched else number


def _list(names: Any) -> str:
    return ", ".join(sorted(names)[:10]) or "none"
