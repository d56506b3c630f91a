"""Serve a model of two inputs: a picture and a row of facts in, a rent out."""

from typing import Any

import torch

from garrison.archive import PackedModel
from garrison.checks import Item
from garrison.torchserve.base import SafeHandler
from garrison.torchserve.weights import load_weights


class Rents(SafeHandler):
    """`prepare` is not needed: with several inputs each item is its checked arrays, by the contract's names."""

    def load(self, model: PackedModel) -> None:
        """Load the state dict into the class of `model.py`."""
        self._model = load_weights(model, self.device)

    def infer(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Run the model: `batch` has each input stacked, and is on the device already."""
        picture = batch["picture"].permute(0, 3, 1, 2).float() / 255  # uint8 (items, height, width, channels)
        rents: torch.Tensor = self._model(picture, batch["facts"])
        return rents

    def present(self, output: torch.Tensor, item: Item) -> dict[str, Any]:
        """Name the number; the contract's decimals are applied afterwards."""
        return {"rent": output}
