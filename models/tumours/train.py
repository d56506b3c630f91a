"""Train, check and export the tumours model: scikit-learn's breast-cancer data in, `model.pt`, `metrics.json` out.

Rows are normalised inside the network, so that a client sends the numbers as they were measured. It writes nothing
outside its own folder. Training repeats bit for bit on the same machine and library versions; another processor may
round differently.
"""

# mypy: disable-error-code="import-untyped"
# scikit-learn has no types.

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import sklearn
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import StratifiedKFold, train_test_split
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository's root: the script is run by its path
from models.export import describe_weights, list_versions, load_torchscript, save_torchscript

Rows = npt.NDArray[np.float32]
Classes = npt.NDArray[np.int64]

FOLDER = Path(__file__).resolve().parent
MODEL_FILE = FOLDER / "model.pt"
METRICS_FILE = FOLDER / "metrics.json"
SAMPLES_FOLDER = FOLDER / "samples"
LABELS = ("malignant", "benign")  # scikit-learn's order

SEED = 20
EPOCHS = 60
BATCH_ITEMS = 32
LEARNING_RATE = 3e-3
TEST_SHARE = 0.2
FOLDS = 10
MIN_ACCURACY = 0.95


@dataclass(frozen=True)
class Split:
    """Rows of shape (n, 30), float32, with their classes of shape (n,): 0 malignant, 1 benign."""

    rows: Rows
    classes: Classes


class Classifier(nn.Module):
    """Return (items, 2) logits for (items, 30) measurements as they are; `split` gives mean and deviation."""

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, split: Split) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(split.rows.mean(axis=0)))
        self.register_buffer("deviation", torch.from_numpy(split.rows.std(axis=0)))
        self.layers = nn.Sequential(
            nn.Linear(split.rows.shape[1], 32),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(32, 16),
            nn.ReLU(),
            nn.Linear(16, 2),
        )

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Normalise, then classify; a value far outside the training data counts as six deviations away."""
        logits: torch.Tensor = self.layers(((rows - self.mean) / self.deviation).clamp(-6, 6))
        return logits


def main(arguments: list[str] | None = None) -> int:
    """Train or check; return 0 if the model is good enough, 1 if not, 2 if there is no model to check."""
    options = _parse_arguments(arguments)
    torch.set_num_threads(1)
    train, test = load_splits()
    if options.check:
        if not MODEL_FILE.is_file():
            print(f"{MODEL_FILE} does not exist; run this script without --check to train it", file=sys.stderr)
            return 2
        return _report(predict(load_model(), test.rows), test)
    save_torchscript(train_model(train, options.epochs), torch.zeros(2, test.rows.shape[1]), MODEL_FILE)
    found = predict(load_model(), test.rows)
    folds = cross_validate(train, options.epochs)
    METRICS_FILE.write_text(json.dumps(_metrics(found, folds, train, test, options.epochs), indent=2) + "\n")
    write_samples(found, test)
    return _report(found, test)


def _parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Train the tumours model and write model.pt, metrics.json and samples/ beside this script.",
        epilog=f"Exit status: 0 the accuracy is at least {MIN_ACCURACY:.0%}, 1 it is not, "
        "2 wrong use, or no model.pt to check.",
    )
    parser.add_argument(
        "--check", action="store_true", help="measure the committed model.pt on the test split; train and write nothing"
    )
    parser.add_argument(
        "--epochs", type=int, default=EPOCHS, metavar="N", help="passes over the training split (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    if options.epochs < 1:
        parser.error("--epochs: must be at least 1")
    return options


def column_names() -> list[str]:
    """Return the names of the 30 measurements in the order in which the network takes them."""
    return [str(name) for name in load_breast_cancer().feature_names]


def load_splits() -> tuple[Split, Split]:
    """Return the training and the test split: 80 % and 20 %, stratified by class, always the same."""
    data = load_breast_cancer()
    train_rows, test_rows, train_classes, test_classes = train_test_split(
        data.data.astype(np.float32),
        data.target.astype(np.int64),
        test_size=TEST_SHARE,
        stratify=data.target,
        random_state=SEED,
    )
    return Split(train_rows, train_classes), Split(test_rows, test_classes)


def load_model() -> nn.Module:
    """Read the committed TorchScript model onto the CPU."""
    return load_torchscript(MODEL_FILE)


def train_model(split: Split, epochs: int) -> nn.Module:
    """Train on one split and return the network in evaluation mode."""
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    model = Classifier(split)
    rows, classes = torch.from_numpy(split.rows), torch.from_numpy(split.classes)
    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    for _ in range(epochs):
        for chosen in torch.split(torch.randperm(len(classes)), BATCH_ITEMS):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(rows[chosen]), classes[chosen]).backward()
            optimiser.step()
        schedule.step()
    return model.eval()


def predict(model: nn.Module, rows: Rows) -> Classes:
    """Return the class, of shape (n,), that the model sees in each row."""
    with torch.inference_mode():
        classes: Classes = model(torch.from_numpy(rows)).argmax(dim=1).numpy()
    return classes


def cross_validate(split: Split, epochs: int) -> list[float]:
    """Return the accuracies of ten networks, each trained on nine tenths of the split, on the tenth left out."""
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED)
    accuracies = []
    for learned, left_out in folds.split(split.rows, split.classes):
        model = train_model(Split(split.rows[learned], split.classes[learned]), epochs)
        accuracies.append(float((predict(model, split.rows[left_out]) == split.classes[left_out]).mean()))
    return accuracies


def write_samples(found: Classes, test: Split) -> None:
    """Write one request per class, the first test row that is recognised: one by column names, one as a list."""
    SAMPLES_FOLDER.mkdir(exist_ok=True)
    for index, label in enumerate(LABELS):
        first = int(np.flatnonzero((test.classes == index) & (found == index))[0])
        values = [float(str(value)) for value in test.rows[first]]  # as short as float32 allows
        row = dict(zip(column_names(), values, strict=True)) if index == 0 else values
        (SAMPLES_FOLDER / f"{label}.json").write_text(json.dumps({"data": row}, indent=1) + "\n")


def _metrics(found: Classes, folds: list[float], train: Split, test: Split, epochs: int) -> dict[str, Any]:
    hits = found == test.classes
    return {
        "accuracy": round(float(hits.mean()), 4),
        "per_class": {label: _class_metrics(hits[test.classes == index]) for index, label in enumerate(LABELS)},
        "cross_validation": {
            "folds": FOLDS,
            "of": "the training split",
            "accuracy_mean": round(float(np.mean(folds)), 4),
            "accuracy_lowest": round(min(folds), 4),
        },
        "rows": {"train": len(train.classes), "test": len(test.classes)},
        "seed": SEED,
        "epochs": epochs,
        **describe_weights(MODEL_FILE),
        "versions": list_versions(torch=torch, numpy=np, scikit_learn=sklearn),
    }


def _class_metrics(hits: npt.NDArray[np.bool_]) -> dict[str, Any]:
    return {"test_rows": len(hits), "correct": int(hits.sum()), "accuracy": round(float(hits.mean()), 4)}


def _report(found: Classes, test: Split) -> int:
    hits = found == test.classes
    print(f"accuracy {hits.mean():.2%}  ({hits.sum()} of {len(hits)})")
    if hits.mean() < MIN_ACCURACY:
        print(f"below {MIN_ACCURACY:.0%}: do not publish this model", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
