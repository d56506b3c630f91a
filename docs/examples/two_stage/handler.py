"""Find the brightest place of a picture with one model, and ask a second one what colour it has."""

from typing import Any

import torch

from garrison.archive import PackedModel
from garrison.checks import Item
from garrison.torchserve.base import SafeHandler
from garrison.torchserve.vision import Normaliser, only_image
from garrison.torchserve.weights import load_weights

SIDE = 16  # of a window, in the pixels that the finder sees
STEP = 4  # between two windows
WINDOWS = 13  # in a row: (64 - 16) / 4 + 1


class Lights(SafeHandler):
    """Both models run in `infer`, on the whole batch."""

    def load(self, model: PackedModel) -> None:
        """Load the packed model's weights, and a second file that was packed with --extra-files."""
        self._finder = load_weights(model, self.device)
        self._reader = load_weights(model, self.device, "reader.pt2")
        self._normalise = Normaliser(only_image(model.contract), self.device)

    def infer(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return colour logits (items, 3) and the window's top left corner (items, 2) for every item."""
        pictures = self._normalise(batch)
        best = self._finder(pictures).argmax(dim=1)
        corners = torch.stack([best % WINDOWS, best // WINDOWS], dim=1) * STEP
        crops = [picture[:, y : y + SIDE, x : x + SIDE] for picture, (x, y) in zip(pictures, corners, strict=True)]
        return {"logits": self._reader(torch.stack(crops)), "corners": corners}

    def present(self, output: dict[str, torch.Tensor], item: Item) -> dict[str, Any]:
        """Return the colour and the window, in pixels of the picture as it was sent."""
        score, index = output["logits"].softmax(dim=0).max(dim=0)
        width, height = item.source_size or (64, 64)
        x, y = output["corners"].tolist()
        corners = (x, y, x + SIDE, y + SIDE)
        box = [n * side / 64 for n, side in zip(corners, (width, height, width, height), strict=True)]
        return {"label": self.labels[int(index)], "score": float(score), "box": box}
