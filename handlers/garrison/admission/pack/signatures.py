"""Say what a SavedModel takes and gives, to its author: a directory enters, plain values or plain words leave.

These are the program's own words. What clients are promised, the contract says.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from garrison.admission.pack.saved_model import check_saved_model
from garrison.admission.scan.saved_model import ServedSignature, ServedTensor, read_program, read_signatures

ANY = "any"


def load_signatures(directory: Path) -> tuple[ServedSignature, ...]:
    """Return the signatures of a SavedModel.

    Raises:
        ConfigError: it is no SavedModel's directory.
        ArtifactRefused: it is a Keras file, or the program cannot be read.
    """
    check_saved_model(directory)
    return read_signatures(read_program(directory))


def describe_signatures(signatures: Sequence[ServedSignature]) -> dict[str, Any]:
    """Return what a SavedModel takes and gives, as values for JSON; a size that varies is null."""
    return {
        one.name: {
            "method": one.method,
            "served": one.is_served,
            "inputs": {tensor.name: _describe_tensor(tensor) for tensor in one.inputs},
            "outputs": {tensor.name: _describe_tensor(tensor) for tensor in one.outputs},
        }
        for one in signatures
    }


def describe_signatures_in_words(directory: Path, signatures: Sequence[ServedSignature]) -> str:
    """Return the same as a page for a person."""
    lines = [f"{directory}: a SavedModel without a contract; what its program says:"]
    for one in signatures:
        if one.method:  # what has none is run while the model loads
            lines += ["", *_say_signature(one)]
    advice = "--contract-draft writes a contract to begin with; without one it can be neither packed nor served"
    return "\n".join([*lines, "", advice])


def say_shape(tensor: ServedTensor) -> str:
    """Return a shape as a person reads it."""
    if tensor.shape is None:
        return "any shape"
    return f"shape [{', '.join(ANY if size is None else str(size) for size in tensor.shape)}]"


def _say_signature(signature: ServedSignature) -> Iterator[str]:
    told = signature.method if signature.is_served else f"{signature.method}, not for clients"
    yield f"{signature.name}: {told}"
    for word, tensors in (("in", signature.inputs), ("out", signature.outputs)):
        yield from (f"  {word:<4}{tensor.name}: {tensor.dtype}, {say_shape(tensor)}" for tensor in tensors)


def _describe_tensor(tensor: ServedTensor) -> dict[str, Any]:
    shape = None if tensor.shape is None else list(tensor.shape)
    return {"dtype": tensor.dtype, "shape": shape, "may_be_left_out": tensor.has_default}
