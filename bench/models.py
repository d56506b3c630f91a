"""The models that are measured: random weights, as only their cost matters."""

import warnings
from pathlib import Path

import torch
from torch import nn

LIGHT_CLASSES = 10
RESNET_CLASSES = 1000
TEXT_CLASSES = 4
READINGS = 256
VOCABULARY = 20_000
SIDE_PIXELS = 224
SEED = 3


class LightCnn(nn.Sequential):
    """Three convolutions, about a millisecond of one core: decoding the picture dominates."""

    def __init__(self) -> None:
        super().__init__(
            *(nn.Conv2d(3, 16, 5, stride=4, padding=2), nn.ReLU()),
            *(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU()),
            *(nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, LIGHT_CLASSES)),
        )


class ResNet18(nn.Sequential):
    """The layers of ResNet-18 (He et al. 2015, table 1): 11.7 million weights, 1.8 billion multiplications."""

    def __init__(self) -> None:
        blocks = [(64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)]
        super().__init__(
            *(nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(64), nn.ReLU()),
            nn.MaxPool2d(3, stride=2, padding=1),
            *(
                block
                for wide, out, stride in blocks
                for block in (_Residual(wide, out, stride), _Residual(out, out, 1))
            ),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, RESNET_CLASSES)),
        )


class _Residual(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False), nn.BatchNorm2d(channels_out), nn.ReLU()),
            *(nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False), nn.BatchNorm2d(channels_out)),
        )
        shortcut = (nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out))
        self.shortcut = nn.Sequential(*(shortcut if stride > 1 else ()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = torch.relu(self.body(x) + self.shortcut(x))
        return result


class Perceptron(nn.Sequential):
    """Three layers over a row of readings."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(READINGS, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 16))


class WordAverage(nn.Module):
    """The model of TorchServe's own text example: the mean of the words' vectors, and a linear layer.

    Stock gives all words in one row with `offsets`, Garrison one row per text; `EmbeddingBag` takes both.
    """

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.EmbeddingBag(VOCABULARY, 64)
        self.fc = nn.Linear(64, TEXT_CLASSES)

    def forward(self, text: torch.Tensor, offsets: torch.Tensor | None = None) -> torch.Tensor:
        """Return logits."""
        classes: torch.Tensor = self.fc(self.embedding(text, offsets))
        return classes


def export(model: type[nn.Module], path: Path, example: torch.Tensor | None = None) -> None:
    """Write a model as TorchScript, which is what people pack for TorchServe; traced if there is an example."""
    torch.manual_seed(SEED)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.\w+` is deprecated", category=DeprecationWarning)
        made = model().eval()
        torch.jit.save(torch.jit.script(made) if example is None else torch.jit.trace(made, example), str(path))
