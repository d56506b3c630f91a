"""Write the weights of this example: python docs/examples/two_stage/make_model.py DIRECTORY.

Neither network has anything to learn; they stand for a detector and a classifier.
"""

import sys
from pathlib import Path

import torch
from torch import nn


class Finder(nn.Module):
    """float32 (items, 3, 64, 64) in 0..1 in, the brightness of 13 x 13 windows, float32 (items, 169), out."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the brightness of windows of 16 x 16 pixels, 4 pixels apart."""
        return nn.functional.avg_pool2d(x.sum(dim=1, keepdim=True), 16, stride=4).flatten(1)


class Reader(nn.Module):
    """float32 (items, 3, 16, 16) in 0..1 in, logits (items, 3) out: red, green, blue."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return how much of each colour there is."""
        return x.mean(dim=(2, 3)) * 5


def make_model(directory: Path) -> None:
    """Write `finder.pt2` and `reader.pt2`."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, network, side in (("finder", Finder(), 64), ("reader", Reader(), 16)):
        shapes = ({0: torch.export.Dim.DYNAMIC},)
        program = torch.export.export(network.eval(), (torch.zeros(2, 3, side, side),), dynamic_shapes=shapes)
        torch.export.save(program, directory / f"{name}.pt2")


if __name__ == "__main__":
    make_model(Path(sys.argv[1]))
