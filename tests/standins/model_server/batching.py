"""What upstream's batching refuses and where it hangs: batching/batching_session.cc, and basic_batch_scheduler.h.

Requests are not merged here; each is a batch of its own.
"""

import threading
from typing import Any

import grpc

from standins.model_server.failures import Failure, invalid

_DEFAULT_MAX_BATCH_SIZE = 1000
_NEVER = threading.Event()


def check_batch(parameters: Any, inputs: dict[str, Any]) -> None:
    """Let a request into the queue of batches.

    Raises:
        Failure: it is none of rows, or it has too many of them.
    """
    sizes = [array.shape[0] if array.ndim else None for array in inputs.values()]
    if None in sizes:
        raise invalid("Batching Run() input tensors must have at least one dimension.")
    if len(set(sizes)) > 1:
        raise invalid("Batching Run() input tensors must have equal 0th-dimension size.")
    rows = sizes[0] if sizes else 0
    if rows == 0:
        _NEVER.wait()  # an empty task closes no batch: the thread that asked never hears again
    most = parameters.max_batch_size.value if parameters.HasField("max_batch_size") else _DEFAULT_MAX_BATCH_SIZE
    splits = parameters.HasField("enable_large_batch_splitting") and parameters.enable_large_batch_splitting.value
    if rows > most and not splits:
        raise invalid(f"Task size {rows} is larger than maximum input batch size {most}")


def check_outputs(inputs: dict[str, Any], outputs: list[Any]) -> None:
    """Take a batch apart.

    Raises:
        Failure: an output does not have a row for each row of the inputs.
    """
    rows = next(iter(inputs.values())).shape[0]
    for array in outputs:
        if getattr(array, "ndim", 0) == 0:
            raise _precondition("Batched output tensor has 0 dimensions")
        if array.shape[0] != rows:
            raise _precondition(
                "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input "
                "tensors"
            )


def _precondition(message: str) -> Failure:
    return Failure(grpc.StatusCode.FAILED_PRECONDITION, message)
