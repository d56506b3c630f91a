"""Write the weights of this example: python docs/examples/embedding/make_model.py DIRECTORY.

The network has nothing to learn: it takes the mean colour of 4 x 4 parts of a picture. It stands for any encoder.
"""

import sys
from pathlib import Path

import torch
from torch import nn


class Encoder(nn.Module):
    """float32 (items, 3, 32, 32) in 0..1 in, float32 (items, 48) out."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the mean colours, less the grey between black and white."""
        return (nn.functional.avg_pool2d(x, 8) - 0.5).flatten(1)


def make_model(directory: Path) -> None:
    """Write `model.pt2`, a program of torch.export whose first dimension is free."""
    directory.mkdir(parents=True, exist_ok=True)
    example = torch.zeros(2, 3, 32, 32)
    program = torch.export.export(Encoder().eval(), (example,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    torch.export.save(program, directory / "model.pt2")


if __name__ == "__main__":
    make_model(Path(sys.argv[1]))
