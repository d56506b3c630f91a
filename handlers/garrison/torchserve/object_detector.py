"""Detect objects: the safe counterpart of TorchServe's `object_detector`.

An image enters by the contract; `[{"label": [x1, y1, x2, y2], "score": s}, ...]` leaves, the best first, in pixels of
the picture as it was sent (after its EXIF orientation), whatever size the model saw. With `label_only` the scores are
left out and the boxes come to whole pixels.
"""

from collections.abc import Sequence
from typing import Any

import torch

from garrison.archive import PackedModel
from garrison.checks import Item
from garrison.contract import ImageInput, Resize
from garrison.errors import ConfigError
from garrison.torchserve.base import SafeHandler
from garrison.torchserve.policy import model_failed
from garrison.torchserve.vision import Normaliser, load_network, only_image

PARTS = ("boxes", "labels", "scores")


class ObjectDetector(SafeHandler):
    """Serve a detector: float32 (items, channels, height, width) in, boxes, labels and scores out.

    Out, in any of these forms: a list with a dict of `boxes` (n, 4), `labels` (n) and `scores` (n) per item, as
    torchvision's models give; that list as the second of two outputs, as they give when scripted; or one dict, or a
    tuple in this order, of (items, n, 4), (items, n) and (items, n), where a score of 0 means no box.
    Boxes are x1, y1, x2, y2 in pixels of what the model sees.
    """

    def load(self, model: PackedModel) -> None:
        """Load the weights.

        Raises:
            ConfigError: pixels may be sent as lists, and would be mistaken for a picture that was scaled and cropped.
        """
        image = only_image(model.contract)
        if isinstance(image.resize, Resize) and "list" in image.forms:
            raise ConfigError(f"inputs.{image.name}.forms: list needs resize: {{width: ..., height: ...}} or exact")
        self._image = image
        self._model = load_network(model, self.device)
        self._normalise = Normaliser(image, self.device)

    def infer(self, batch: torch.Tensor) -> Any:
        """Return boxes, labels and scores."""
        output = self._model(self._normalise(batch))
        if isinstance(output, tuple) and len(output) == 2 and isinstance(output[1], list):
            output = output[1]
        return dict(zip(PARTS, output, strict=True)) if isinstance(output, tuple) else output

    def present(self, output: Any, item: Item) -> list[dict[str, Any]]:
        """Return the best boxes with their labels and scores."""
        boxes, classes, scores = _read_parts(output)
        policy = self.contract.outputs
        best = torch.argsort(scores, descending=True, stable=True)
        kept = [n for n in best.tolist() if scores[n] > 0 and scores[n] >= policy.min_score][: policy.top_k]
        placed = _place(boxes.float(), self._image, item.source_size)
        return [{self._label(int(classes[n])): placed[n].tolist(), "score": float(scores[n])} for n in kept]

    def _label(self, index: int) -> str:
        if not 0 <= index < len(self.labels):
            raise model_failed(f"class {index}, but there are {len(self.labels)} labels")
        return self.labels[index]


def _read_parts(output: Any) -> Sequence[torch.Tensor]:
    if not isinstance(output, dict) or not all(isinstance(output.get(part), torch.Tensor) for part in PARTS):
        raise model_failed("not boxes, labels and scores")
    boxes, classes, scores = (output[part] for part in PARTS)
    if boxes.shape != (len(scores), 4) or classes.shape != scores.shape or scores.dim() != 1:
        raise model_failed(f"boxes {tuple(boxes.shape)}, labels {tuple(classes.shape)}, scores {tuple(scores.shape)}")
    return boxes, classes, scores


def _place(boxes: torch.Tensor, image: ImageInput, source_size: tuple[int, int] | None) -> torch.Tensor:
    """Move boxes from the pixels that the model saw to those of the picture as sent, and into it."""
    height, width, _ = image.shape
    if source_size is None:
        source_size = (width, height)
    placed = []
    for axis, (source, seen) in enumerate(zip(source_size, (width, height), strict=True)):
        resized, margin = seen, 0
        if isinstance(image.resize, Resize):  # as `checks.image` scales and crops
            resized = int(image.resize.short_side_pixels * source / min(source_size))
            margin = round((resized - seen) / 2)
        placed.append(((boxes[:, axis::2] + margin) * (source / resized)).clamp(0, source))
    return torch.stack([placed[0][:, 0], placed[1][:, 0], placed[0][:, 1], placed[1][:, 1]], dim=1)
