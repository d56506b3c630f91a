"""Train, check and export the scenes model: scikit-learn's digits in, `model.pt`, `metrics.json` and `samples/` out.

A one-stage detector: every cell of a 12 x 12 grid says whether a digit's centre lies in it, which digit, and how large
its box is. Every picture, in training too, is a PNG or JPEG file that passes the contract's checks as a request does.
It writes nothing outside its own folder. Training repeats bit for bit on the same machine and library versions;
another processor may round differently.
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
import PIL
import sklearn
import torch
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

Boxes = npt.NDArray[np.float32]
Answer = dict[str, torch.Tensor]

FOLDER = Path(__file__).resolve().parent
MODEL_FILE = FOLDER / "model.pt"
METRICS_FILE = FOLDER / "metrics.json"
SAMPLES_FOLDER = FOLDER / "samples"

RECIPE = Recipe(side_pixels=96, most_digits=4, smallest_share=0.19, largest_share=0.36)
CELL_PIXELS = 8
CELLS = RECIPE.side_pixels // CELL_PIXELS
CLASSES = 10
MOST_ANSWERS = 16
USUAL_SIDE_PIXELS = 24.0  # boxes are learned as logarithms relative to it

SEED = 20
STEPS = 1100
BATCH_ITEMS = 32
LEARNING_RATE = 4e-3
TEST_SCENES = 500
MATCH_IOU = 0.5
MIN_MEAN_AP = 0.8


@dataclass(frozen=True)
class Matches:
    """Answers of one class over all test scenes, best first: scores and hits (n,), and how many there were to find."""

    scores: npt.NDArray[np.float32]
    hits: npt.NDArray[np.bool_]
    wanted: int


class Detector(nn.Module):
    """Return (items, 15, 12, 12): objectness, centre within the cell, log of width and height, ten digits."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs, side, stride in (
            (1, 16, 5, 2),
            (16, 32, 3, 2),
            (32, 32, 3, 1),
            (32, 56, 3, 2),
            (56, 56, 3, 1),
            (56, 56, 3, 1),
        ):
            layers += [nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=False)]
            layers += [nn.BatchNorm2d(outputs), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(56, 5 + CLASSES, 1))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Take (items, 1, 96, 96), 0..1."""
        output: torch.Tensor = self.layers(pictures)
        return output


class Answers(nn.Module):
    """Turn the grid into the same number of boxes for every item, best first, so that a batch stays one tensor.

    A cell counts only where none of its eight neighbours scores higher; it stands in for the usual suppression of
    overlapping boxes, whose number of results differs from item to item. Places left over have the score 0.
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector
        rows, columns = torch.meshgrid(torch.arange(CELLS), torch.arange(CELLS), indexing="ij")
        self.register_buffer("corners", torch.stack([columns, rows]).flatten(1).T.float() * CELL_PIXELS)

    def forward(self, pictures: torch.Tensor) -> Answer:
        """Return boxes (items, 16, 4) in pixels of the input, labels (items, 16) int64, scores (items, 16)."""
        grid = self.detector(pictures)
        chances, digits = grid[:, 5:].softmax(dim=1).max(dim=1, keepdim=True)
        scores = grid[:, :1].sigmoid() * chances
        highest = nn.functional.max_pool2d(scores, 3, stride=1, padding=1)
        peaks = torch.where(scores == highest, scores, torch.zeros_like(scores)).flatten(1)
        best, places = peaks.topk(MOST_ANSWERS, dim=1)
        values = grid[:, 1:5].flatten(2).transpose(1, 2)
        centres = self.corners + values[..., :2].sigmoid() * CELL_PIXELS
        halves = values[..., 2:].exp() * (USUAL_SIDE_PIXELS / 2)
        boxes = torch.cat([centres - halves, centres + halves], dim=2).clamp(0, RECIPE.side_pixels)
        return {
            "boxes": boxes.gather(1, places.unsqueeze(2).expand(-1, -1, 4)),
            "labels": digits.flatten(1).gather(1, places),
            "scores": best,
        }


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
    save_torchscript(Answers(train_model(train, contract, options.steps)).eval(), torch.zeros(2, 1, 96, 96), MODEL_FILE)
    matches = measure(load_model(), scenes, contract)
    METRICS_FILE.write_text(json.dumps(_metrics(matches, contract, options.steps), indent=2) + "\n")
    write_samples(scenes)
    return _report(matches)


def _parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Train the scenes model and write model.pt, metrics.json and samples/ beside this script.",
        epilog=f"Exit status: 0 the mean average precision is at least {MIN_MEAN_AP} on every kind of file, 1 it is "
        "not, 2 wrong use, or no model.pt to check.",
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


def train_model(split: Split, contract: Contract, steps: int) -> Detector:
    """Train on new scenes in every step and return the network in evaluation mode."""
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    random = np.random.default_rng(SEED)
    model = Detector()
    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps + 1, pct_start=0.1)
    for step in range(1, steps + 1):
        scenes = [compose_scene(split, RECIPE, random) for _ in range(BATCH_ITEMS)]
        payloads = [store_picture(scene.picture, draw_variant(RECIPE, random)) for scene in scenes]
        loss = compute_loss(model(to_tensor(payloads, contract)), scenes)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 20 == 0 or step == steps:
            print(f"\rstep {step}/{steps}  loss {loss.item():.4f}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return model.eval()


def compute_loss(grid: torch.Tensor, scenes: list[Scene]) -> torch.Tensor:
    """Compare the network's grid with the scenes: focal loss of objectness, boxes and digits where centres lie."""
    items, rows, columns, boxes, digits = _find_cells(scenes)
    wanted = torch.zeros(len(scenes), CELLS, CELLS)
    wanted[items, rows, columns] = 1
    plain = nn.functional.binary_cross_entropy_with_logits(grid[:, 0], wanted, reduction="none")
    focus = (wanted - grid[:, 0].sigmoid()).abs().square()
    found = grid[items, :, rows, columns]
    offsets = nn.functional.smooth_l1_loss(found[:, 1:3].sigmoid(), boxes[:, :2], beta=0.1, reduction="sum")
    sizes = nn.functional.smooth_l1_loss(found[:, 3:5], boxes[:, 2:], beta=0.1, reduction="sum")
    named = nn.functional.cross_entropy(found[:, 5:], digits, reduction="sum")
    total: torch.Tensor = (focus * plain).sum() * 4 + (offsets + sizes) * 2 + named
    return total / len(items)


def _find_cells(
    scenes: list[Scene],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    items = torch.from_numpy(np.repeat(np.arange(len(scenes)), [len(scene.digits) for scene in scenes]))
    boxes = torch.from_numpy(np.concatenate([scene.boxes for scene in scenes]))
    digits = torch.from_numpy(np.concatenate([scene.digits for scene in scenes]))
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 / CELL_PIXELS
    cells = centres.floor()
    sizes = ((boxes[:, 2:] - boxes[:, :2]) / USUAL_SIDE_PIXELS).log()
    return items, cells[:, 1].long(), cells[:, 0].long(), torch.cat([centres - cells, sizes], dim=1), digits


def predict(model: nn.Module, payloads: list[bytes], contract: Contract) -> Answer:
    """Return what the model finds in each encoded file, (n, 16, ...)."""
    with torch.inference_mode():
        parts = [model(part) for part in torch.split(to_tensor(payloads, contract), 50)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def measure(model: nn.Module, scenes: list[Scene], contract: Contract) -> dict[str, list[Matches]]:
    """Return what was found of every digit, by kind of file."""
    matches = {}
    for name in VARIANTS:
        variant = parse_variant(name, RECIPE)
        answers = predict(model, [store_picture(scene.picture, variant) for scene in scenes], contract)
        matches[name] = [match_answers(answers, scenes, digit) for digit in range(CLASSES)]
    return matches


def match_answers(answers: Answer, scenes: list[Scene], digit: int) -> Matches:
    """Compare the boxes found of one digit, best first, with the true ones, from an IoU of 0.5 on.

    A true box is found by one answer at most: a second one is wrong.
    """
    wanted = [scene.boxes[scene.digits == digit] for scene in scenes]
    found = [set[int]() for _ in scenes]
    chosen = (answers["labels"] == digit) & (answers["scores"] > 0)
    items, places = (indices.numpy() for indices in torch.nonzero(chosen, as_tuple=True))
    scores, boxes = answers["scores"].numpy()[items, places], answers["boxes"].numpy()[items, places]
    order = np.argsort(-scores, kind="stable")
    hits = []
    for index in order:
        item = items[index]
        overlap = measure_overlap(boxes[index], wanted[item])
        match = int(overlap.argmax()) if len(overlap) else -1
        hit = match >= 0 and overlap[match] >= MATCH_IOU and match not in found[item]
        hits.append(hit)
        if hit:
            found[item].add(match)
    return Matches(scores[order], np.array(hits, bool), sum(len(boxes) for boxes in wanted))


def measure_overlap(box: Boxes, others: Boxes) -> npt.NDArray[np.float32]:
    """Return the intersection over union of one box (4,) with others (n, 4)."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = np.clip(sides, 0, None).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod() - shared
    overlap: npt.NDArray[np.float32] = shared / areas
    return overlap


def average_precision(matches: Matches) -> float:
    """Return the area under precision over recall; every point counts, as in PASCAL VOC since 2010."""
    precision = np.cumsum(matches.hits) / np.arange(1, len(matches.hits) + 1)
    best_from_here_on = np.maximum.accumulate(precision[::-1])[::-1]
    return float(best_from_here_on[matches.hits].sum() / matches.wanted)


def mean_precision(matches: list[Matches]) -> float:
    """Return the mean of the digits' average precisions."""
    return float(np.mean([average_precision(each) for each in matches]))


def write_samples(scenes: list[Scene]) -> None:
    """Write the first test scenes with one to four digits, and beside each what is in it."""
    SAMPLES_FOLDER.mkdir(exist_ok=True)
    for count in range(1, RECIPE.most_digits + 1):
        scene = next(scene for scene in scenes if len(scene.digits) == count)
        name = VARIANTS[count - 1]
        path = SAMPLES_FOLDER / f"{count}.{'jpg' if name.startswith('jpeg') else 'png'}"
        path.write_bytes(store_picture(scene.picture, parse_variant(name, RECIPE)))
        factor = int(name[-1])
        truth = [
            {"digit": int(digit), "box": [int(edge) * factor for edge in box]}
            for digit, box in zip(scene.digits, scene.boxes, strict=True)
        ]
        path.with_suffix(".json").write_text(json.dumps(truth) + "\n")


def _metrics(matches: dict[str, list[Matches]], contract: Contract, steps: int) -> dict[str, Any]:
    headline = matches[VARIANTS[0]]
    return {
        "mean_average_precision": round(mean_precision(headline), 4),
        "mean_average_precision_is_of": VARIANTS[0],
        "mean_average_precision_by_file": {name: round(mean_precision(each), 4) for name, each in matches.items()},
        "match_iou": MATCH_IOU,
        "as_served": _measure_served(headline, contract.outputs.min_score),
        "per_class": {
            str(digit): {"test_digits": each.wanted, "average_precision": round(average_precision(each), 4)}
            for digit, each in enumerate(headline)
        },
        "scenes": {"train": steps * BATCH_ITEMS, "test": TEST_SCENES},
        "seed": SEED,
        "steps": steps,
        **describe_weights(MODEL_FILE),
        "versions": list_versions(torch=torch, numpy=np, pillow=PIL, scikit_learn=sklearn),
    }


def _measure_served(matches: list[Matches], min_score: float) -> dict[str, Any]:
    """Count what a client is told: answers under the contract's `min_score` are not."""
    hits = sum(int(each.hits[each.scores >= min_score].sum()) for each in matches)
    told = sum(int((each.scores >= min_score).sum()) for each in matches)
    wanted = sum(each.wanted for each in matches)
    rates = {"precision": round(hits / max(told, 1), 4), "recall": round(hits / wanted, 4)}
    return {"min_score": min_score, "boxes": told, "right": hits, "digits": wanted, **rates}


def _report(matches: dict[str, list[Matches]]) -> int:
    for name, each in matches.items():
        print(f"{name:<8} mean average precision {mean_precision(each):.4f}")
    if min(mean_precision(each) for each in matches.values()) < MIN_MEAN_AP:
        print(f"below {MIN_MEAN_AP}: do not publish this model", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
