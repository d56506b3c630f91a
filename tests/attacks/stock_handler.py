"""What TorchServe's own `image_classifier` does with a request, step by step, for the digits.

The stock module itself needs torchvision, whose wheel does not fit a CPU torch; the steps are those of
`ts.torch_handler.vision_handler`: any format that Pillow knows, decoded whole, resized, cropped, normalised.
It is packed by torch-model-archiver and served by TorchServe without Garrison; the tests never import it.
"""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

MEAN, STD, SIDE = 0.306, 0.321, 32


class StockClassifier:
    """Decode whatever comes and classify it."""

    def initialize(self, context: Any) -> None:
        directory = Path(context.system_properties["model_dir"])
        self.model = torch.jit.load(str(directory / context.manifest["model"]["serializedFile"])).eval()
        self.labels = json.loads((directory / "labels.json").read_text())

    def handle(self, data: Any, context: Any) -> list[dict[str, float]]:
        images = []
        for row in data:
            image = row.get("data") or row.get("body")
            if isinstance(image, str):
                image = base64.b64decode(image)
            images.append(self.prepare(Image.open(io.BytesIO(image))))
        with torch.inference_mode():
            scores = self.model(torch.stack(images)).softmax(dim=1)
        return [self.name(row) for row in scores]

    def prepare(self, image: Image.Image) -> torch.Tensor:
        fitted = ImageOps.fit(image.convert("L"), (SIDE, SIDE), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.asarray(fitted, dtype=np.float32) / 255)
        return ((pixels - MEAN) / STD).unsqueeze(0)

    def name(self, row: torch.Tensor) -> dict[str, float]:
        scores, classes = row.topk(3)
        return {self.labels[str(int(c))]: float(score) for c, score in zip(classes, scores, strict=True)}
