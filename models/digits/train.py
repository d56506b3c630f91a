"""Train, check and export the digits model: scikit-learn's digits in, `model.pt`, `metrics.json` and `samples/` out.

Every image, in training too, is a PNG or JPEG file that passes the contract's checks as a request does. It writes
nothing outside its own folder. Training repeats bit for bit on the same machine and library versions; another
processor may round differently.
"""

# mypy: disable-error-code="import-untyped"
# scikit-learn has no types.

import argparse
import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import PIL
import sklearn
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository's root: the script is run by its path
from garrison.checks import read_request
from garrison.contract import Contract, ImageInput, load_contract
from models.export import describe_weights, list_versions, load_torchscript, save_torchscript

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]

FOLDER = Path(__file__).resolve().parent
MODEL_FILE = FOLDER / "model.pt"
METRICS_FILE = FOLDER / "metrics.json"
SAMPLES_FOLDER = FOLDER / "samples"

SEED = 20
EPOCHS = 40
BATCH_ITEMS = 64
LEARNING_RATE = 3e-3
TEST_SHARE = 0.2
MIN_ACCURACY = 0.97
SAMPLE_SIDES_PIXELS = (64, 96, 128, 192, 256)
FILTERS = (
    Image.Resampling.NEAREST,
    Image.Resampling.BILINEAR,
    Image.Resampling.BICUBIC,
)


@dataclass(frozen=True)
class Variant:
    """One way in which a client may store a digit before sending it."""

    side_pixels: int
    filter: Image.Resampling
    format: str

    @property
    def name(self) -> str:
        """Name used in the output and in `metrics.json`."""
        return f"{self.format.lower()}-{self.side_pixels}-{self.filter.name.lower()}"


# The first one is the headline; all of them must reach MIN_ACCURACY.
VARIANTS = (
    Variant(64, Image.Resampling.BILINEAR, "PNG"),
    Variant(64, Image.Resampling.BILINEAR, "JPEG"),
    Variant(8, Image.Resampling.NEAREST, "PNG"),
    Variant(8, Image.Resampling.NEAREST, "JPEG"),
    Variant(32, Image.Resampling.BICUBIC, "PNG"),
    Variant(128, Image.Resampling.NEAREST, "PNG"),
    Variant(256, Image.Resampling.BICUBIC, "JPEG"),
)


@dataclass(frozen=True)
class Split:
    """Images of shape (n, 8, 8), uint8, bright strokes on dark, with their digits of shape (n,)."""

    images: Pixels
    digits: Labels


def main(arguments: list[str] | None = None) -> int:
    """Train or check; return 0 if the model is good enough, 1 if not, 2 if there is no model to check."""
    options = _parse_arguments(arguments)
    torch.set_num_threads(1)
    contract = load_contract(FOLDER / "contract.yaml")
    train, test = load_splits()
    if options.check:
        if not MODEL_FILE.is_file():
            print(f"{MODEL_FILE} does not exist; run this script without --check to train it", file=sys.stderr)
            return 2
        return _report(measure(load_model(), test, contract), len(test.digits))
    model = train_model(train, contract, options.epochs)
    save_torchscript(model, torch.zeros(2, 1, 32, 32), MODEL_FILE)
    model = load_model()
    correct = measure(model, test, contract)
    METRICS_FILE.write_text(json.dumps(_metrics(correct, train, test, options.epochs), indent=2) + "\n")
    write_samples(model, test, contract)
    return _report(correct, len(test.digits))


def _parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Train the digits model and write model.pt, metrics.json and samples/ beside this script.",
        epilog=f"Exit status: 0 the accuracy is at least {MIN_ACCURACY:.0%} on every kind of file, 1 it is not, "
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


def load_splits() -> tuple[Split, Split]:
    """Return the training and the test split: 80 % and 20 %, stratified by digit, always the same."""
    data = load_digits()
    images = np.rint(data.images * (255 / 16)).astype(np.uint8)
    train_images, test_images, train_digits, test_digits = train_test_split(
        images, data.target, test_size=TEST_SHARE, stratify=data.target, random_state=SEED
    )
    return Split(train_images, train_digits), Split(test_images, test_digits)


def encode(pixels: Pixels, variant: Variant) -> bytes:
    """Scale one (8, 8) image and store it as the file that a client would send."""
    picture = Image.fromarray(pixels).resize((variant.side_pixels,) * 2, variant.filter)
    return _compress(picture, variant.format, quality=90)


def _compress(picture: Image.Image, file_format: str, quality: int) -> bytes:
    buffer = io.BytesIO()
    if file_format == "JPEG":
        picture.save(buffer, "JPEG", quality=quality)
    else:
        picture.save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def to_tensor(payloads: list[bytes], contract: Contract) -> torch.Tensor:
    """Read files as the server does: the model's input, (n, 1, height, width), float32, normalised."""
    image = cast(ImageInput, contract.inputs[0])  # the task takes nothing else
    pixels = np.stack([np.asarray(read_request(payload, contract).items[0].value) for payload in payloads])
    scaled = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    return (scaled - image.mean[0]) / image.std[0]


def build_model() -> nn.Module:
    """Return the untrained network: (n, 1, 32, 32) float32 to (n, 10) logits, about 34,000 weights."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((1, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 4 * 4, 10))


def train_model(split: Split, contract: Contract, epochs: int) -> nn.Module:
    """Train on freshly varied images in every epoch and return the model in evaluation mode."""
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    random = np.random.default_rng(SEED)
    model = build_model()
    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    digits = torch.from_numpy(split.digits)
    for epoch in range(1, epochs + 1):
        inputs = to_tensor([vary(pixels, random) for pixels in split.images], contract)
        loss = _train_epoch(model, optimiser, inputs, digits)
        schedule.step()
        print(f"\repoch {epoch}/{epochs}  loss {loss:.4f}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return model.eval()


def _train_epoch(
    model: nn.Module, optimiser: torch.optim.Optimizer, inputs: torch.Tensor, digits: torch.Tensor
) -> float:
    total = 0.0
    for chosen in torch.split(torch.randperm(len(digits)), BATCH_ITEMS):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs[chosen]), digits[chosen])
        loss.backward()
        optimiser.step()
        total += loss.item() * len(chosen)
    return total / len(digits)


def vary(pixels: Pixels, random: np.random.Generator) -> bytes:
    """Return one (8, 8) image as some client might send it.

    Varied: size from 8 to 256 pixels and filter, position, angle, brightness, format and compression.
    """
    side = round(float(np.exp(random.uniform(np.log(8), np.log(256)))))
    picture = Image.fromarray(pixels).resize((side, side), FILTERS[random.integers(len(FILTERS))])
    angle = random.uniform(-8, 8)
    shift = random.uniform(-0.08, 0.08, 2) * side
    if side >= 16:  # a smaller image would be torn, not moved
        picture = picture.rotate(angle, Image.Resampling.BILINEAR, translate=(round(shift[0]), round(shift[1])))
    gain, offset = random.uniform(0.75, 1.15), random.uniform(0, 20)
    picture = picture.point([min(255, round(level * gain + offset)) for level in range(256)])
    file_format = "JPEG" if random.random() < 0.4 else "PNG"
    return _compress(picture, file_format, quality=int(random.integers(60, 96)))


def load_model() -> nn.Module:
    """Read the committed TorchScript model onto the CPU."""
    return load_torchscript(MODEL_FILE)


def predict(model: nn.Module, payloads: list[bytes], contract: Contract) -> Labels:
    """Return the digit, of shape (n,), that the model sees in each encoded file."""
    with torch.inference_mode():
        logits = model(to_tensor(payloads, contract))
    digits: Labels = logits.argmax(dim=1).numpy()
    return digits


def measure(model: nn.Module, split: Split, contract: Contract) -> dict[str, npt.NDArray[np.bool_]]:
    """Return, for every variant's name, which images of the split are recognised."""
    return {
        variant.name: predict(model, [encode(pixels, variant) for pixels in split.images], contract) == split.digits
        for variant in VARIANTS
    }


def write_samples(model: nn.Module, split: Split, contract: Contract) -> None:
    """Write one test image per digit, the first that is recognised: even digits as PNG, odd ones as JPEG."""
    SAMPLES_FOLDER.mkdir(exist_ok=True)
    for digit in range(10):
        file_format, suffix = ("JPEG", "jpg") if digit % 2 else ("PNG", "png")
        variant = Variant(SAMPLE_SIDES_PIXELS[digit // 2], Image.Resampling.BILINEAR, file_format)
        payloads = [encode(pixels, variant) for pixels in split.images[split.digits == digit]]
        first = int(np.flatnonzero(predict(model, payloads, contract) == digit)[0])
        (SAMPLES_FOLDER / f"{digit}.{suffix}").write_bytes(payloads[first])


def _metrics(correct: dict[str, npt.NDArray[np.bool_]], train: Split, test: Split, epochs: int) -> dict[str, Any]:
    headline = VARIANTS[0].name
    return {
        "accuracy": round(float(correct[headline].mean()), 4),
        "accuracy_is_of": headline,
        "accuracy_by_file": {name: round(float(hits.mean()), 4) for name, hits in correct.items()},
        "per_class": {str(digit): _class_metrics(correct[headline], test.digits == digit) for digit in range(10)},
        "images": {"train": len(train.digits), "test": len(test.digits)},
        "seed": SEED,
        "epochs": epochs,
        **describe_weights(MODEL_FILE),
        "versions": list_versions(torch=torch, numpy=np, pillow=PIL, scikit_learn=sklearn),
    }


def _class_metrics(hits: npt.NDArray[np.bool_], chosen: npt.NDArray[np.bool_]) -> dict[str, Any]:
    return {
        "test_images": int(chosen.sum()),
        "correct": int(hits[chosen].sum()),
        "accuracy": round(float(hits[chosen].mean()), 4),
    }


def _report(correct: dict[str, npt.NDArray[np.bool_]], images: int) -> int:
    for name, hits in correct.items():
        print(f"{name:<20} {hits.mean():7.2%}  ({hits.sum()} of {images})")
    if min(float(hits.mean()) for hits in correct.values()) < MIN_ACCURACY:
        print(f"below {MIN_ACCURACY:.0%}: do not publish this model", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
