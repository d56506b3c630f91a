"""Classify images: the safe counterpart of TorchServe's `image_classifier`.

An image enters by the contract; `{"label": score, ...}` leaves, the best first, as stock answers.
"""

import io

import torch

from garrison.archive import PackedModel
from garrison.errors import ConfigError
from garrison.torchserve.base import Pixels, SafeHandler


class ImageClassifier(SafeHandler):
    """Serve a TorchScript classifier: float32 (items, channels, height, width) in, (items, classes) logits out."""

    def load(self, model: PackedModel) -> None:
        """Load TorchScript weights and check that there is one label per class.

        Raises:
            ConfigError: the number of labels is not the number of classes.
        """
        self._model = torch.jit.load(io.BytesIO(model.weights.read_bytes()), map_location=self.device).eval()
        image = model.contract.inputs[0]
        self._mean = torch.tensor(image.mean, device=self.device).view(1, -1, 1, 1)
        self._std = torch.tensor(image.std, device=self.device).view(1, -1, 1, 1)
        height, width, channels = image.shape
        with torch.inference_mode():
            classes = self._model(torch.zeros(1, channels, height, width, device=self.device)).shape[-1]
        if classes != len(model.labels):
            raise ConfigError(f"{model.contract.outputs.labels}: {len(model.labels)} labels for {classes} classes")

    def infer(self, batch: Pixels) -> torch.Tensor:
        """Return logits; pixels travel to the device as uint8 and are scaled there."""
        pixels = torch.from_numpy(batch).to(self.device).permute(0, 3, 1, 2)
        logits: torch.Tensor = self._model((pixels.float().div_(255) - self._mean) / self._std)
        return logits

    def present(self, output: torch.Tensor) -> dict[str, float]:
        """Return the `top_k` labels with their softmax scores, rounded, without those under `min_score`."""
        policy = self.contract.outputs
        scores, classes = output.float().softmax(dim=0).topk(min(policy.top_k, len(self.labels)))
        pairs = zip(classes.tolist(), scores.tolist(), strict=True)
        return {
            self.labels[index]: round(score, policy.decimals) for index, score in pairs if score >= policy.min_score
        }
