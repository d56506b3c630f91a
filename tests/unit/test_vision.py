"""Networks for pictures are changed for speed when they are loaded, and answer as they did before."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from garrison.archive import open_packed_model
from garrison.torchserve.vision import load_network
from garrison.torchserve.weights import load_weights

CPU = torch.device("cpu")


class Normalised(torch.nn.Module):
    """A convolution and a batch normalisation, which freezing makes one."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.body = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
        self.head = torch.nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        classes: torch.Tensor = self.head(torch.relu(self.body(x)).mean(dim=[2, 3]))
        return classes


class Deep(Normalised):
    """Has weights of five dimensions, which channels last is not defined for."""

    def __init__(self) -> None:
        super().__init__()
        self.volume = torch.nn.Conv3d(1, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.volume(x.unsqueeze(1)).squeeze(1)
        classes: torch.Tensor = self.head(torch.relu(self.body(x)).mean(dim=[2, 3]))
        return classes


class Standardised(Normalised):
    """Looks at its weights as rows, which it can only while the channels are not last."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.body[0].weight
        rows = weight.view(weight.size(0), -1)
        classes: torch.Tensor = self.head(torch.relu(self.body(x)).mean(dim=[2, 3]) - rows.mean(dim=1))
        return classes


@pytest.mark.parametrize("module", [Normalised(), Deep(), Standardised()], ids=lambda module: type(module).__name__)
def test_it_answers_as_it_was_packed(packed_model: Callable[..., Path], module: torch.nn.Module) -> None:
    model = open_packed_model(packed_model(module=module))
    pictures = torch.rand(8, 3, 16, 16).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        torch.testing.assert_close(load_network(model, CPU)(pictures), load_weights(model, CPU)(pictures))


def test_normalisation_is_folded_into_the_convolution(packed_model: Callable[..., Path]) -> None:
    model = open_packed_model(packed_model(module=Normalised()))
    assert "batch_norm" in str(load_weights(model, CPU).inlined_graph)
    assert "batch_norm" not in str(load_network(model, CPU).graph)
