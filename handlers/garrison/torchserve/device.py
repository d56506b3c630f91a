"""The device that a worker runs on: what TorchServe names enters, a device leaves, with a bound on its memory."""

import logging
from typing import Any

import torch

from garrison.contract import Contract

log = logging.getLogger("garrison.contract")


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
