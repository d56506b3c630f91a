"""The device that a worker runs on: what TorchServe names enters, a device leaves, with a bound on its memory."""

import logging
from typing import Any

import torch

from garrison.contract import Contract

log = logging.getLogger("garrison.contract")

_MEMORY_WORDS = ("out of memory", "can't allocate memory", "failed to allocate memory", "alloc_failed", "bad_alloc")


def choose_device(gpu: Any) -> torch.device:
    """Return the GPU of this number, or the CPU where there is none."""
    on_gpu = gpu is not None and int(gpu) >= 0 and torch.cuda.is_available()
    return torch.device(f"cuda:{gpu}" if on_gpu else "cpu")


def bound_gpu_memory(device: torch.device, contract: Contract) -> None:
    """Let this process allocate no more on its GPU than the contract says."""
    most = contract.batch.max_gpu_bytes
    if most is None:
        return
    if device.type != "cuda":
        log.info("%s: batch.max_gpu_bytes has no effect: the model runs on the CPU", contract.model)
        return
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, most / total), device)


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that memory ran out, of the GPU or of the host."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, Exception) and any(words in str(error).lower() for words in _MEMORY_WORDS)
