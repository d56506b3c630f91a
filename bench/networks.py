"""The two classifiers whose decisions are compared, trained here: no pretrained weights are needed.

They learn, from stock's own preprocessing, of which photograph and of which quarter a part is (see `pictures`).
"""

import io
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import nn

from bench.models import LightCnn
from bench.pictures import CLASSES, cut_part, list_photographs

BATCH_ITEMS = 32
TRAINING_OFFSET = 1_000_003  # the training parts are others than the measured ones

Transform = Callable[[Image.Image], torch.Tensor]


def plain_network() -> nn.Module:
    """Return the light CNN of the other measurements, for these classes."""
    network = LightCnn()
    network[-1] = nn.Linear(64, CLASSES)
    return network


def normalised_network() -> nn.Module:
    """Return a deeper one with batch normalisation, as nearly every network of pictures has it."""
    layers: list[nn.Module] = []
    for wide, out, kernel, stride in ((3, 16, 7, 4), (16, 32, 3, 2), (32, 64, 3, 2), (64, 128, 3, 2)):
        layers += [nn.Conv2d(wide, out, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, CLASSES))


# name: how to make it, passes over the training parts, learning rate
NETWORKS: dict[str, tuple[Callable[[], nn.Module], int, float]] = {
    "three convolutions": (plain_network, 10, 4e-3),
    "four convolutions, batch norm": (normalised_network, 8, 4e-3),
}


def make_training_set(transform: Transform, count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return preprocessed parts, (count, 3, 224, 224) float32, and their classes; every second one was a JPEG file."""
    random = np.random.default_rng(seed + TRAINING_OFFSET)
    photographs = list_photographs()
    inputs, labels = [], []
    for place in range(count):
        part, label = cut_part(photographs, random)
        if place % 2:
            file = io.BytesIO()
            part.save(file, "JPEG", quality=int(random.integers(40, 96)))
            part = Image.open(file)
        inputs.append(transform(part))
        labels.append(label)
    return torch.stack(inputs), torch.tensor(labels)


def train(name: str, inputs: torch.Tensor, labels: torch.Tensor, seed: int) -> nn.Module:
    """Train one of `NETWORKS`; the same seed gives the same network on the same machine."""
    make, epochs, rate = NETWORKS[name]
    torch.manual_seed(seed)
    network = make().train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.01)
    steps = epochs * -(-len(labels) // BATCH_ITEMS)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    for _ in range(epochs):
        for chosen in torch.split(torch.randperm(len(labels)), BATCH_ITEMS):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(inputs[chosen]), labels[chosen]).backward()
            optimiser.step()
            schedule.step()
    return network.eval()
