"""Turn a picture into a vector of length 1."""

from typing import Any

import torch

from garrison.archive import PackedModel
from garrison.checks import Item
from garrison.torchserve.base import SafeHandler
from garrison.torchserve.vision import Normaliser, only_image
from garrison.torchserve.weights import load_weights


class Fingerprints(SafeHandler):
    """The answer is a list of numbers, as long as the model's output."""

    def load(self, model: PackedModel) -> None:
        """Load the program, and what scales the pixels by the contract's `normalise`."""
        self._model = load_weights(model, self.device)
        self._normalise = Normaliser(only_image(model.contract), self.device)

    def infer(self, batch: torch.Tensor) -> torch.Tensor:
        """Return a vector of length 1 per item; an even grey has none, and stays as it is."""
        return torch.nn.functional.normalize(self._model(self._normalise(batch)), dim=1)

    def present(self, output: torch.Tensor, item: Item) -> Any:
        """Return the vector; a tensor becomes a list by itself."""
        return output
