"""Classify images: the safe counterpart of TorchServe's `image_classifier`.

An image enters by the contract; `{"label": score, ...}` leaves, the best first, as stock answers.
"""

from typing import Any

import torch

from garrison.archive import PackedModel
from garrison.checks import Item
from garrison.torchserve.base import SafeHandler
from garrison.torchserve.probes import ImageProbe
from garrison.torchserve.ranking import rank_labels
from garrison.torchserve.vision import Normaliser, load_network, only_image


class ImageClassifier(SafeHandler):
    """Serve a classifier: float32 (items, channels, height, width) in, logits (items, classes) out."""

    def load(self, model: PackedModel) -> None:
        """Load the weights."""
        self._model = load_network(model, self.device)
        self._normalise = Normaliser(only_image(model.contract), self.device)
        self.probe = ImageProbe(self._model, self._normalise, model.contract, self.device)

    def infer(self, batch: torch.Tensor) -> Any:
        """Return logits."""
        return self._model(self._normalise(batch))

    def present(self, output: Any, item: Item) -> dict[str, float]:
        """Return the best labels with their softmax scores."""
        return rank_labels(output, self.labels, self.contract.outputs.top_k)
