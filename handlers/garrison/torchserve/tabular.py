"""Serve models of table rows.

A row enters by the contract. With labels, `{"label": score, ...}` leaves, the best first; without, the model's number,
or the list of its numbers.
"""

from typing import Any

import torch

from garrison.archive import PackedModel
from garrison.checks import Item
from garrison.torchserve.base import SafeHandler
from garrison.torchserve.policy import model_failed
from garrison.torchserve.probes import TableProbe
from garrison.torchserve.ranking import rank_labels
from garrison.torchserve.weights import load_weights


class Tabular(SafeHandler):
    """Serve a model of rows: float32 (items, columns) in; logits (items, classes) or numbers (items[, n]) out."""

    def load(self, model: PackedModel) -> None:
        """Load the weights."""
        self._model = load_weights(model, self.device)
        self.probe = TableProbe(self._model, model.contract, self.device)

    def infer(self, batch: torch.Tensor) -> Any:
        """Return logits or numbers."""
        return self._model(batch)

    def present(self, output: Any, item: Item) -> Any:
        """Return labels with softmax scores, or numbers."""
        if not isinstance(output, torch.Tensor) or output.dim() > 1:
            raise model_failed("not one row of numbers per item")
        if self.labels:
            return rank_labels(output, self.labels, self.contract.outputs.top_k)
        return output.item() if output.numel() == 1 else output
