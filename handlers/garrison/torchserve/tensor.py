"""Serve models of plain tensors: a tensor enters by the contract, nested lists of numbers leave.

A model with several outputs is answered by a list of them, or by an object of their names.
"""

from typing import Any

import torch

from garrison.archive import PackedModel
from garrison.checks import Item
from garrison.torchserve.base import SafeHandler
from garrison.torchserve.probes import TensorProbe
from garrison.torchserve.weights import load_weights


class TensorModel(SafeHandler):
    """Serve any model whose input and outputs are tensors with the items as first dimension."""

    def load(self, model: PackedModel) -> None:
        """Load the weights."""
        self._model = load_weights(model, self.device)
        self.probe = TensorProbe(self._model, model.contract, self.device)

    def infer(self, batch: torch.Tensor) -> Any:
        """Return the model's outputs."""
        return self._model(batch)

    def present(self, output: Any, item: Item) -> Any:
        """Return an item's outputs as they are."""
        return output
