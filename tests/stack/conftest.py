"""One stack with every kind of model, for the tests that leave it as it is, or wait until it is so again."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from stack.running import (
    SAMPLE_MODELS,
    RunningStack,
    Target,
    pack_contract,
    pack_sample,
)

SERVED = (*SAMPLE_MODELS, "sums", "moody")
SUMS = """\
garrison: 1
model: sums
version: "1"
task: tensor
inputs:
  numbers: {kind: tensor, dtype: float32, shape: [[1, 4], 3], min: -1000, max: 1000}
batch: {max_items: 8, max_delay_ms: 5, max_bytes: 1MiB, max_instances: 4}
workers: {count: 1, queue: 64, timeout_s: 10}
outputs: {decimals: 2}
"""
MOODY = """\
garrison: 1
model: moody
version: "1"
task: custom
inputs:
  text: {kind: text, max_bytes: 1KiB, max_characters: 200, max_tokens: 8}
batch: {max_items: 8, max_delay_ms: 5, max_bytes: 1MiB, max_instances: 4}
workers: {count: 1, queue: 64, timeout_s: 2}
outputs: {decimals: 2, max_bytes: 10kB}
"""
# A handler of the worst kind: what it does is the client's to choose.
MOODY_HANDLER = """\
import time

import numpy as np

from garrison.errors import OutOfContract
from garrison.torchserve.base import SafeHandler

MOODS = ("hang", "raise", "nan")


class Rude(OutOfContract):
    def __init__(self, how):
        super().__init__("rude", "Not today.")
        reasons = {"line break": "a\\r\\nset-cookie: b", "other letters": "no\\u00e9", "empty": "", "not text": {}}
        statuses = {"status 200": 200, "status 0": 0, "status text": "text"}
        if how in reasons:
            self.reason = reasons[how]
        if how == "long":
            self.reason = "a" * 100_000
        if how == "not JSON":
            self.public_message = b"bytes"
        if how == "long message":
            self.public_message = "a" * 100_000_000
        if how == "detail":
            self.detail = object()
        if how in statuses:
            self.http_status = statuses[how]
        if how == "own answer":
            self.public = lambda: {"secret": 1}


class Moody(SafeHandler):
    def load(self, model):
        pass

    def prepare(self, item):
        word, _, rest = item.value.partition(" ")
        if word == "refuse":
            raise OutOfContract(rest, "Not today.")
        if word == "rude":
            raise Rude(rest)
        return np.array([word == mood for mood in MOODS], np.float32)

    def infer(self, batch):
        if batch[:, 0].any():
            time.sleep(600)
        if batch[:, 1].any():
            raise RuntimeError("/a/path and a secret of the model" + "\\u00e9" * 1000)
        return batch / (1 - batch)

    def present(self, output, item):
        word, _, rest = item.value.partition(" ")
        return {"said": item.value, "padding": "x" * int(rest) if word == "large" else "", "length": len(item.value)}
"""


class RowSums(torch.nn.Module):
    """What it answers can be told from what was sent."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum(dim=2)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """All sample models, a tensor model, and a model whose handler does what it is told: one `garrison serve`."""
    sources = tmp_path_factory.mktemp("library")
    models = sources / "models"
    for name in SAMPLE_MODELS:
        pack_sample(name, models)
    weights, handler = sources / "model.pt", sources / "moody.py"
    save_sums(weights)
    handler.write_text(MOODY_HANDLER)
    pack_contract(SUMS, weights, models)
    pack_contract(MOODY, weights, models, "--handler", handler)
    with RunningStack(models, served=SERVED, settings="protocols: [torchserve, kserve-v1, kserve-v2]\n") as stack:
        yield stack


@pytest.fixture
def all_models(library: RunningStack) -> Target:
    """The gateway before all models, as a client sees it."""
    return library.target


def save_sums(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript's; it is what the contract's task takes
        torch.jit.script(RowSums()).save(str(path))
