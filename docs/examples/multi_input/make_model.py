"""Write the weights of this example: python docs/examples/multi_input/make_model.py DIRECTORY.

They are set by hand, so that an answer can be worked out on paper:
rent = 200 + 12 a square metre + 30 a room + 100 in the south + 25 a balcony + 150 for a wholly white picture.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file


def make_model(directory: Path) -> None:
    """Write `model.safetensors`: a state dict for the class in `model.py`."""
    directory.mkdir(parents=True, exist_ok=True)
    state = {
        "facts.weight": torch.tensor([[12.0, 30.0, 100.0, 25.0]]),
        "facts.bias": torch.tensor([200.0]),
        "brightness.weight": torch.tensor([[150.0]]),
    }
    save_file(state, directory / "model.safetensors")


if __name__ == "__main__":
    make_model(Path(sys.argv[1]))
