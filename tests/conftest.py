"""Fixtures that several tests share; each is a factory, so that a test says what it needs."""

import copy
import io
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from garrison.admission.pack import PackOrder, pack_model
from stack.running import RunningStack, Target, pack_digits

REPOSITORY = Path(__file__).resolve().parent.parent
LABELS = {"0": "red", "1": "green", "2": "blue"}
CONTRACT: dict[str, Any] = {
    "garrison": 1,
    "model": "tiny",
    "version": "1",
    "task": "image-classification",
    "inputs": {
        "image": {
            "kind": "image",
            "formats": ["png", "jpeg"],
            "max_bytes": "64KiB",
            "min_side": 2,
            "max_side": 64,
            "max_pixels": 4096,
            "max_frames": 1,
            "colour": "rgb",
            "exact": [4, 4, 3],
            "normalise": {"mean": [0, 0, 0], "std": [1, 1, 1]},
        }
    },
    "batch": {"max_items": 8, "max_delay_ms": 5, "max_bytes": "1MiB"},
    "workers": {"count": 1, "queue": 8, "timeout_s": 10},
    "outputs": {"labels": "labels.json", "top_k": 3, "decimals": 4, "min_score": 0.0},
}


class MeanColour(torch.nn.Module):
    """A classifier whose logits are the mean of each channel: what it answers can be told by looking at the image."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=[2, 3]) * 10


@pytest.fixture
def repository() -> Path:
    """The root of the source checkout."""
    return REPOSITORY


@pytest.fixture
def make_contract() -> Callable[..., str]:
    """Return a valid contract's text; a keyword `inputs__image__max_side` changes that key, `...` takes it out."""

    def make(**changes: Any) -> str:
        values = copy.deepcopy(CONTRACT)
        for name, value in changes.items():
            *path, key = name.split("__")
            section = values
            for part in path:
                section = section[part]
            if value is ...:
                del section[key]
            else:
                section[key] = value
        return yaml.safe_dump(values, sort_keys=False)

    return make


@pytest.fixture
def model_sources(tmp_path: Path, make_contract: Callable[..., str]) -> Callable[..., Path]:
    """Write contract.yaml, labels.json and model.pt (TorchScript) to a new directory, as an author has them."""

    def write(directory: str = "sources", **changes: Any) -> Path:
        sources = tmp_path / directory
        sources.mkdir()
        (sources / "contract.yaml").write_text(make_contract(**changes))
        (sources / "labels.json").write_text(json.dumps(LABELS))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript's; it is what the contract's task takes
            torch.jit.script(MeanColour()).save(str(sources / "model.pt"))
        return sources

    return write


@pytest.fixture
def packed_model(tmp_path: Path, model_sources: Callable[..., Path]) -> Callable[..., Path]:
    """Pack a tiny model as `garrison pack` does and return its directory."""

    def pack(directory: str = "models", **changes: Any) -> Path:
        sources = model_sources(f"sources-of-{directory}", **changes)
        order = PackOrder(
            contract=sources / "contract.yaml",
            serialized_file=sources / "model.pt",
            extra_files=(),
            export_path=tmp_path / directory,
        )
        return pack_model(order)

    return pack


@pytest.fixture
def make_image() -> Callable[..., bytes]:
    """Return an image file of one colour."""

    def make(colour: tuple[int, int, int] = (255, 0, 0), size: tuple[int, int] = (4, 4), form: str = "png") -> bytes:
        buffer = io.BytesIO()
        Image.new("RGB", size, colour).save(buffer, form)
        return buffer.getvalue()

    return make


# The running stack, shared by tests/stack and tests/attacks -----------------------------------------------------------


@pytest.fixture(scope="session")
def packed_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of packed models that `garrison serve` takes, with the digits in it; not to be written to."""
    return pack_digits(tmp_path_factory.mktemp("digits") / "models")


@pytest.fixture(scope="session")
def running(packed_digits: Path) -> Iterator[RunningStack]:
    """One stack for all tests that leave it as it is: TorchServe, a worker, Envoy, as `garrison serve` starts them."""
    with RunningStack(packed_digits) as stack:
        yield stack


@pytest.fixture
def target(running: RunningStack) -> Target:
    """The running stack's gateway, as a client sees it."""
    return running.target
