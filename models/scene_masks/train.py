"""Train, check and export the scene_masks model: scikit-learn's digits in, `model.pt`, `metrics.json`, `samples/` out.

A small U-Net says for every pixel of a scene whether it is background or which digit it belongs to. Every picture, in
training too, is a PNG or JPEG file that passes the contract's checks as a request does. It writes nothing outside its
own folder. Training repeats bit for bit on the same machine and library versions; another processor may round
differently.
"""

# mypy: disable-error-code="import-untyped"
# scikit-learn has no types.

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL
import sklearn
import torch
from PIL import Image
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository's root: the script is run by its path
from garrison.contract import Contract, load_contract
from models.digits.train import Split, load_splits, to_tensor
from models.export import describe_weights, list_versions, load_torchscript, save_torchscript
from models.scenes.composer import (
    VARIANTS,
    Recipe,
    Scene,
    compose_scene,
    compose_scenes,
    draw_variant,
    parse_variant,
    store_picture,
)

Counts = npt.NDArray[np.int64]

FOLDER = Path(__file__).resolve().parent
MODEL_FILE = FOLDER / "model.pt"
METRICS_FILE = FOLDER / "metrics.json"
LABELS_FILE = FOLDER / "labels.json"
SAMPLES_FOLDER = FOLDER / "samples"

RECIPE = Recipe(side_pixels=64, most_digits=3, smallest_share=0.28, largest_share=0.48)
CLASSES = 11  # the background and ten digits
MASK_LEVELS = 20  # of grey per class in a sample's mask, to be seen by eye
WIDTHS = (16, 32, 40, 48)

SEED = 20
STEPS = 700
BATCH_ITEMS = 32
LEARNING_RATE = 4e-3
BACKGROUND_WEIGHT = 0.5  # there is ten times more of it than of all digits together
TEST_SCENES = 400
MIN_MEAN_IOU = 0.8


class Segmenter(nn.Module):
    """Return {"out": (items, 11, 64, 64)} logits, as torchvision's segmentation models do."""

    def __init__(self) -> None:
        super().__init__()
        first, second, third, fourth = WIDTHS
        self.down = nn.ModuleList(
            [
                _convolve(1, first),
                _convolve(first, second, stride=2),
                _convolve(second, third, stride=2),
                nn.Sequential(_convolve(third, fourth, stride=2), _convolve(fourth, fourth)),
            ]
        )
        self.narrow = nn.ModuleList(
            [nn.Conv2d(fourth, third, 1), nn.Conv2d(third, second, 1), nn.Conv2d(second, first, 1)]
        )
        self.up = nn.ModuleList([_convolve(third, third), _convolve(second, second), _convolve(first, first)])
        self.classify = nn.Conv2d(first, CLASSES, 1)

    def forward(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        """Take (items, 1, 64, 64), 0..1."""
        values, kept = pictures, []
        for step in self.down:
            values = step(values)
            kept.append(values)
        for narrow, step, skipped in zip(self.narrow, self.up, reversed(kept[:-1]), strict=True):
            enlarged = nn.functional.interpolate(narrow(values), scale_factor=2.0, mode="bilinear", align_corners=False)
            values = step(enlarged + skipped)
        return {"out": self.classify(values)}


def _convolve(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


def main(arguments: list[str] | None = None) -> int:
    """Train or check; return 0 if the model is good enough, 1 if not, 2 if there is no model to check."""
    options = _parse_arguments(arguments)
    torch.set_num_threads(1)
    contract = load_contract(FOLDER / "contract.yaml")
    train, test = load_splits()
    scenes = load_test_scenes(test)
    if options.check:
        if not MODEL_FILE.is_file():
            print(f"{MODEL_FILE} does not exist; run this script without --check to train it", file=sys.stderr)
            return 2
        return _report(measure(load_model(), scenes, contract))
    save_torchscript(train_model(train, contract, options.steps), torch.zeros(2, 1, 64, 64), MODEL_FILE)
    overlap = measure(load_model(), scenes, contract)
    METRICS_FILE.write_text(json.dumps(_metrics(overlap, options.steps), indent=2) + "\n")
    write_samples(scenes)
    return _report(overlap)


def _parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Train the scene_masks model and write model.pt, metrics.json and samples/ beside this script.",
        epilog=f"Exit status: 0 the mean IoU is at least {MIN_MEAN_IOU} on every kind of file, 1 it is not, "
        "2 wrong use, or no model.pt to check.",
    )
    parser.add_argument(
        "--check", action="store_true", help="measure the committed model.pt on test scenes; train and write nothing"
    )
    parser.add_argument(
        "--steps", type=int, default=STEPS, metavar="N", help="training steps of 32 scenes (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    if options.steps < 1:
        parser.error("--steps: must be at least 1")
    return options


def load_test_scenes(test: Split) -> list[Scene]:
    """Return the held-out scenes, always the same, of digits that no training scene holds."""
    return compose_scenes(test, RECIPE, TEST_SCENES, SEED + 1)


def load_model() -> nn.Module:
    """Read the committed TorchScript model onto the CPU."""
    return load_torchscript(MODEL_FILE)


def train_model(split: Split, contract: Contract, steps: int) -> Segmenter:
    """Train on new scenes in every step and return the network in evaluation mode."""
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    random = np.random.default_rng(SEED)
    model = Segmenter()
    weights = torch.tensor([BACKGROUND_WEIGHT] + [1.0] * (CLASSES - 1))
    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps + 1, pct_start=0.1)
    for step in range(1, steps + 1):
        scenes = [compose_scene(split, RECIPE, random) for _ in range(BATCH_ITEMS)]
        payloads = [store_picture(scene.picture, draw_variant(RECIPE, random)) for scene in scenes]
        masks = torch.from_numpy(np.stack([scene.mask for scene in scenes]))
        loss = nn.functional.cross_entropy(model(to_tensor(payloads, contract))["out"], masks, weight=weights)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 20 == 0 or step == steps:
            print(f"\rstep {step}/{steps}  loss {loss.item():.4f}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return model.eval()


def predict(model: nn.Module, payloads: list[bytes], contract: Contract) -> Counts:
    """Return the class of every pixel, (n, 64, 64), of encoded files."""
    with torch.inference_mode():
        parts = [model(part)["out"].argmax(dim=1) for part in torch.split(to_tensor(payloads, contract), 50)]
    classes: Counts = torch.cat(parts).numpy()
    return classes


def measure(model: nn.Module, scenes: list[Scene], contract: Contract) -> dict[str, list[float]]:
    """Return the intersection over union of every class over all test scenes, by kind of file."""
    masks = np.stack([scene.mask for scene in scenes])
    overlap = {}
    for name in VARIANTS:
        variant = parse_variant(name, RECIPE)
        classes = predict(model, [store_picture(scene.picture, variant) for scene in scenes], contract)
        overlap[name] = measure_overlap(classes, masks)
    return overlap


def measure_overlap(found: Counts, wanted: Counts) -> list[float]:
    """Return for every class the pixels found and wanted over those found or wanted."""
    pairs = np.bincount((wanted * CLASSES + found).ravel(), minlength=CLASSES**2).reshape(CLASSES, CLASSES)
    both = np.diag(pairs)
    return [float(value) for value in both / (pairs.sum(axis=0) + pairs.sum(axis=1) - both)]


def write_samples(scenes: list[Scene]) -> None:
    """Write the first test scenes with one to three digits, and beside each its mask: class number times 20, as PNG."""
    SAMPLES_FOLDER.mkdir(exist_ok=True)
    for count in range(1, RECIPE.most_digits + 1):
        scene = next(scene for scene in scenes if len(scene.digits) == count)
        name = VARIANTS[count - 1]
        path = SAMPLES_FOLDER / f"{count}.{'jpg' if name.startswith('jpeg') else 'png'}"
        path.write_bytes(store_picture(scene.picture, parse_variant(name, RECIPE)))
        Image.fromarray((scene.mask * MASK_LEVELS).astype(np.uint8)).save(SAMPLES_FOLDER / f"{count}.mask.png")


def read_mask(path: Path) -> Counts:
    """Return the classes (64, 64) that a sample's mask shows."""
    with Image.open(path) as image:
        classes: Counts = np.asarray(image).astype(np.int64) // MASK_LEVELS
    return classes


def _metrics(overlap: dict[str, list[float]], steps: int) -> dict[str, Any]:
    headline = overlap[VARIANTS[0]]
    labels = json.loads(LABELS_FILE.read_text())
    return {
        "mean_iou": round(float(np.mean(headline)), 4),
        "mean_iou_is_of": VARIANTS[0],
        "mean_iou_by_file": {name: round(float(np.mean(each)), 4) for name, each in overlap.items()},
        "iou_by_class": {labels[str(index)]: round(value, 4) for index, value in enumerate(headline)},
        "scenes": {"train": steps * BATCH_ITEMS, "test": TEST_SCENES},
        "seed": SEED,
        "steps": steps,
        **describe_weights(MODEL_FILE),
        "versions": list_versions(torch=torch, numpy=np, pillow=PIL, scikit_learn=sklearn),
    }


def _report(overlap: dict[str, list[float]]) -> int:
    for name, each in overlap.items():
        print(f"{name:<8} mean IoU {np.mean(each):.4f}")
    if min(float(np.mean(each)) for each in overlap.values()) < MIN_MEAN_IOU:
        print(f"below {MIN_MEAN_IOU}: do not publish this model", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
