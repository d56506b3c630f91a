"""A handler for the tests of faults: it takes as much memory as it is told to, and as long."""

import time
from typing import Any

import torch

from garrison.archive import PackedModel
from garrison.checks import Item
from garrison.torchserve.base import SafeHandler

NUMBERS_IN_A_MEGABYTE = 2**18


class Hungry(SafeHandler):
    """Answers what it was sent: two numbers, megabytes to take and seconds to keep them."""

    def load(self, model: PackedModel) -> None:
        """Need nothing of the model."""

    def infer(self, batch: torch.Tensor) -> torch.Tensor:
        """Take the memory, wait, and give it back."""
        megabytes, seconds = (int(number) for number in batch[0])
        taken = [torch.ones(NUMBERS_IN_A_MEGABYTE) for _ in range(megabytes)]
        time.sleep(seconds)
        return batch + 0 * len(taken)

    def present(self, output: torch.Tensor, item: Item) -> Any:
        """Return the two numbers."""
        return output
