"""Segment images: the safe counterpart of TorchServe's `image_segmenter`.

An image enters by the contract; rows of pixels leave, `[[[class, score], ...], ...]`, as stock answers, in the size in
which the model sees the picture. Under `min_score` a pixel is of class -1. With `label_only`: `[[class, ...], ...]`.
"""

from typing import Any

import torch

from garrison.archive import PackedModel
from garrison.checks import Item
from garrison.errors import ConfigError
from garrison.torchserve.base import SafeHandler
from garrison.torchserve.policy import model_failed
from garrison.torchserve.vision import Normaliser, load_network, only_image

UNDECIDED_CLASS = -1


class ImageSegmenter(SafeHandler):
    """Serve a segmenter: float32 (items, channels, height, width) in, logits (items, classes, height, width) out.

    The logits may be under the key `out`, as torchvision's models give them.
    """

    def load(self, model: PackedModel) -> None:
        """Load the weights."""
        self._model = load_network(model, self.device)
        self._normalise = Normaliser(only_image(model.contract), self.device)

    def infer(self, batch: torch.Tensor) -> Any:
        """Return the score and the class of every pixel, (items, height, width) each."""
        logits = self._model(self._normalise(batch))
        if isinstance(logits, dict):
            logits = logits["out"]
        if logits.dim() != 4:
            raise model_failed(f"an output of shape {tuple(logits.shape)} instead of (items, classes, height, width)")
        if logits.shape[1] < 2:
            raise ConfigError(
                "image-segmentation: the model has one class; give it one more for what is not of that class"
            )
        scores, classes = logits.float().softmax(dim=1).max(dim=1)  # here: all classes' scores stay on the device
        return scores, classes

    def present(self, output: Any, item: Item) -> Any:
        """Return class and score of every pixel."""
        scores, classes = output
        weak = scores < self.contract.outputs.min_score
        classes = classes.masked_fill(weak, UNDECIDED_CLASS)
        if self.contract.outputs.label_only:
            return classes
        return torch.stack([classes.to(scores.dtype), scores.masked_fill(weak, 0.0)], dim=2)
