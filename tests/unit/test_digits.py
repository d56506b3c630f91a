"""The digits sample: what is committed in `models/digits` does what its model card says."""

import hashlib
import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
import torch

from garrison.contract import Contract, load_contract

FOLDER = Path(__file__).resolve().parents[2] / "models" / "digits"
SAMPLES = sorted((FOLDER / "samples").iterdir())
MAX_MODEL_BYTES = 500_000


@pytest.fixture(scope="module")
def contract() -> Contract:
    """Load the contract as committed."""
    return load_contract(FOLDER / "contract.yaml")


@pytest.fixture(scope="module")
def train() -> ModuleType:
    """Import `models/digits/train.py`, which reads images through the serving path, `garrison.checks.read_input`."""
    spec = importlib.util.spec_from_file_location("digits_train", FOLDER / "train.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def model(train: ModuleType) -> torch.nn.Module:
    """Load the committed weights onto the CPU."""
    loaded: torch.nn.Module = train.load_model()
    return loaded


@pytest.fixture(scope="module")
def metrics() -> dict[str, object]:
    """Load what training wrote about the committed weights."""
    loaded: dict[str, object] = json.loads((FOLDER / "metrics.json").read_text())
    return loaded


def test_contract_takes_what_the_network_takes(contract: Contract, model: torch.nn.Module) -> None:
    height, width, channels = contract.inputs[0].shape
    with torch.inference_mode():
        assert model(torch.zeros(contract.batch.max_items, channels, height, width)).shape == (8, 10)


def test_labels_name_every_output() -> None:
    labels = json.loads((FOLDER / "labels.json").read_text())
    assert list(labels) == [str(digit) for digit in range(10)]


def test_weights_are_small() -> None:
    assert (FOLDER / "model.pt").stat().st_size < MAX_MODEL_BYTES


def test_metrics_are_of_the_committed_weights(metrics: dict[str, object]) -> None:
    assert metrics["model_sha256"] == hashlib.sha256((FOLDER / "model.pt").read_bytes()).hexdigest()


def test_there_is_one_sample_per_digit_in_both_formats() -> None:
    assert [path.name for path in SAMPLES] == [f"{digit}.{('png', 'jpg')[digit % 2]}" for digit in range(10)]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_sample_is_the_digit_in_its_name(
    sample: Path, train: ModuleType, model: torch.nn.Module, contract: Contract
) -> None:
    assert train.predict(model, [sample.read_bytes()], contract).tolist() == [int(sample.stem)]


def test_accuracy_on_the_test_split(
    train: ModuleType, model: torch.nn.Module, contract: Contract, metrics: dict[str, object]
) -> None:
    _, test = train.load_splits()
    accuracy = {name: float(hits.mean()) for name, hits in train.measure(model, test, contract).items()}
    assert min(accuracy.values()) >= train.MIN_ACCURACY
    # Two images of 360: another library version may round a pixel differently.
    assert accuracy == pytest.approx(metrics["accuracy_by_file"], abs=0.006)


def test_splits_share_no_image(train: ModuleType) -> None:
    first, second = ({image.tobytes() for image in split.images} for split in train.load_splits())
    assert not first & second


def test_check_without_a_model_says_what_to_do(
    train: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(train, "MODEL_FILE", tmp_path / "model.pt")
    assert train.main(["--check"]) == 2
    assert "without --check" in capsys.readouterr().err
