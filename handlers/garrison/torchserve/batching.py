"""Put prepared items through a model at a bounded cost: tensors per item enter, one outcome per item leaves.

Items of one shape go together, as many as the contract's items and bytes allow. When a batch fails, its halves are
tried, down to a single item: out of memory costs the item that does not fit alone, and an item on which the model
raises costs no other its answer. That is at most twice as many runs as there are items.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from garrison.contract import Contract
from garrison.errors import Overloaded, Refused
from garrison.torchserve.device import is_out_of_memory
from garrison.torchserve.policy import drop_frames, model_failed
from garrison.torchserve.source import describe_error

log = logging.getLogger("garrison.contract")

Tensors = torch.Tensor | dict[str, torch.Tensor]
Array = NDArray[Any] | torch.Tensor
Infer = Callable[[Any], Any]


def as_tensors(prepared: Array | Mapping[str, Array]) -> Tensors:
    """Return what a handler prepared for one item as tensors on the CPU.

    Raises:
        TypeError: it is neither an array, nor a tensor, nor a mapping of names to those.
    """
    if isinstance(prepared, Mapping):
        return {name: _as_tensor(value) for name, value in prepared.items()}
    return _as_tensor(prepared)


def count_bytes(tensors: Tensors) -> int:
    """Return how much memory an item's tensors take."""
    return sum(tensor.nbytes for tensor in _parts(tensors).values())


def plan_batches(items: Sequence[Tensors], contract: Contract, most: int) -> Iterator[list[int]]:
    """Group items of one shape, and cut each group to the contract's items and bytes; gives their places."""
    groups: dict[Any, list[int]] = {}
    for place, tensors in enumerate(items):
        key = tuple((name, part.shape, part.dtype) for name, part in _parts(tensors).items())
        groups.setdefault(key, []).append(place)
    for places in groups.values():
        cost = max(contract.item_bytes, count_bytes(items[places[0]]), 1)
        size = max(1, min(most, contract.batch.max_items, contract.batch.max_bytes // cost))
        yield from (places[start : start + size] for start in range(0, len(places), size))


def infer_each(infer: Infer, items: Sequence[Tensors], device: torch.device) -> list[Any]:
    """Return one output, or `Refused`, for each item of one batch."""
    refusal: Refused
    try:
        return infer_together(infer, items, device)
    except Exception as error:  # noqa: BLE001 - a model may raise anything; the client learns nothing of it
        refusal = say_why(error, len(items))
    # Outside `except`: the exception holds on to the tensors of the failed run.
    if device.type == "cuda":
        torch.cuda.empty_cache()
    if len(items) == 1:
        return [refusal]
    half = len(items) // 2
    return infer_each(infer, items[:half], device) + infer_each(infer, items[half:], device)


def infer_together(infer: Infer, items: Sequence[Tensors], device: torch.device) -> list[Any]:
    """Run the model once and return its output for each item.

    Raises:
        Exception: whatever the model raises.
        Failed: the output has not one entry per item.
    """
    with torch.inference_mode():
        return split_output(infer(_stack(items, device)), len(items))


def split_output(output: Any, count: int) -> list[Any]:
    """Cut an output into one per item: tensors by their first dimension, also in a tuple or dict; lists as they are.

    Raises:
        Failed: there is not one entry per item.
    """
    if isinstance(output, np.ndarray):
        output = torch.from_numpy(output)
    if isinstance(output, torch.Tensor):
        if output.dim() == 0 or len(output) != count:
            raise model_failed(f"an output of shape {tuple(output.shape)} for {count} item(s)")
        return list(output.cpu())
    if isinstance(output, list):
        if len(output) != count:
            raise model_failed(f"{len(output)} outputs for {count} item(s)")
        return [_to_cpu(entry) for entry in output]
    if isinstance(output, tuple) and output:
        return list(zip(*(split_output(part, count) for part in output), strict=True))
    if isinstance(output, dict) and output:
        parts = {name: split_output(part, count) for name, part in output.items()}
        return [{name: part[place] for name, part in parts.items()} for place in range(count)]
    raise model_failed(f"an output of type {type(output).__name__}")


def say_why(error: Exception, count: int) -> Refused:
    """Return the refusal of the items of a run that failed.

    Raises:
        SystemExit: the device is broken.
    """
    if is_out_of_memory(error):
        log.warning("out of memory with %d item(s)", count)
        return out_of_memory(repr(error)[:200])
    if isinstance(error, torch.AcceleratorError):
        # The device gives no right answer to this process any more; TorchServe starts another.
        log.critical("the device failed: %s", error)
        raise SystemExit(1) from error
    if isinstance(error, Refused):
        return drop_frames(error)
    if count == 1:
        log.error("the model raised %s", type(error).__name__, exc_info=error)
    return model_failed(describe_error(error))


def out_of_memory(detail: str) -> Overloaded:
    """Return the refusal of an item for which there is no room now."""
    message = "There is not enough memory for this input at the moment; try again later."
    return Overloaded("out_of_memory", message, detail)


def _stack(items: Sequence[Tensors], device: torch.device) -> Tensors:
    first = items[0]
    if isinstance(first, torch.Tensor):
        return torch.stack([item for item in items if isinstance(item, torch.Tensor)]).to(device)
    return {name: torch.stack([_parts(item)[name] for item in items]).to(device) for name in first}


def _parts(tensors: Tensors) -> dict[str, torch.Tensor]:
    return tensors if isinstance(tensors, dict) else {"": tensors}


def _as_tensor(value: Any) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, np.ndarray | np.generic):
        return torch.from_numpy(np.require(value, requirements=["C", "W"]))
    raise TypeError(f"prepare gave {type(value).__name__}; return an array, a tensor, or a mapping of names to those")


def _to_cpu(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.cpu()
    if isinstance(value, dict):
        return {name: _to_cpu(inner) for name, inner in value.items()}
    return type(value)(_to_cpu(inner) for inner in value) if isinstance(value, list | tuple) else value
