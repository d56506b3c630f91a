"""Compare predictions after our checks with predictions after stock's own preprocessing, on many real pictures.

Stock's way is TorchServe's `image_classifier`, the real class: `ImageClassifier.preprocess`. Ours is `read_request`
by `contracts/agreement.yaml` and the classifier's normalisation. Both tensors go through the same networks.

Where stock cannot answer (its handler never converts colours, so that grey, palette, CMYK and alpha fail), the
reference is what people add to it: `convert("RGB")` before the same transforms. Turned pictures differ on purpose,
as stock ignores EXIF; they are counted apart.

Writes `bench/agreement.json`; `render` makes its section of docs/benchmarks.md. `python -m bench.agreement --quick`
takes a quarter of the pictures and prints only.
"""

import argparse
import importlib
import importlib.metadata
import io
import json
import os
import platform
import sys
import time
import types
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from bench.machine import describe_machine, find_commit
from bench.networks import NETWORKS, make_training_set, train
from bench.pictures import CLASSES, KINDS, make_pictures
from garrison.checks import read_request
from garrison.contract import Contract, load_contract
from garrison.torchserve.vision import Normaliser, only_image

REPOSITORY = Path(__file__).resolve().parents[1]
CONTRACT = Path(__file__).resolve().parent / "contracts" / "agreement.yaml"
RESULTS = Path(__file__).resolve().parent / "agreement.json"
SEED = 3
TRAINING_PARTS = 2000
QUICK_SHARE = 0.25
QUICK_PARTS = 1000
LEAST_AGREEMENT = 0.99
CLOSE_MARGIN = 0.1  # between the best and the second score: a model that could as well have said the other
PACKAGES = ("torch", "torchserve", "torchvision", "pillow", "numpy", "scikit-learn", "scikit-image")


@dataclass(frozen=True)
class Pair:
    """One picture by both ways: float32 (3, 224, 224); arrays, as they travel between processes."""

    kind: str
    size: tuple[int, int]
    label: int
    stock: NDArray[np.float32]
    ours: NDArray[np.float32]
    stock_failed: bool


class StockWay:
    """TorchServe's `image_classifier`, up to the tensor."""

    def __init__(self) -> None:
        self._handler = _import_stock().ImageClassifier()
        self._handler.device, self._handler.context = torch.device("cpu"), None
        self.transform = self._handler.image_processing

    def __call__(self, data: bytes) -> tuple[torch.Tensor, bool]:
        """Return the tensor, and whether stock alone would have failed."""
        try:
            return self._handler.preprocess([{"body": data}])[0], False
        except (RuntimeError, ValueError, TypeError):
            tensor: torch.Tensor = self.transform(Image.open(io.BytesIO(data)).convert("RGB"))
            return tensor, True


class OurWay:
    """The checks by the contract, and the classifier's normalisation."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._normalise = Normaliser(only_image(contract), torch.device("cpu"))

    def __call__(self, data: bytes) -> torch.Tensor:
        """Return the tensor."""
        pixels = torch.from_numpy(np.asarray(read_request(data, self._contract).items[0].value))
        return self._normalise(pixels.unsqueeze(0))[0]


def main() -> int:
    """Compare, write, print; return 1 below the least agreement."""
    options = _parse_arguments()
    began = time.monotonic()
    share, parts = (QUICK_SHARE, QUICK_PARTS) if options.quick else (1.0, TRAINING_PARTS)
    with ProcessPoolExecutor(options.jobs, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        training = [pool.submit(train_one, name, parts, options.seed) for name in NETWORKS]
        comparing = [pool.submit(make_pairs, place, options.seed, share) for place in range(len(KINDS))]
        pairs = [pair for done in comparing for pair in done.result()]
        networks = [done.result() for done in training]
    results = {
        "commit": find_commit(REPOSITORY),
        "seed": options.seed,
        "mode": "quick" if options.quick else "full",
        "machine": describe_machine(),
        "versions": _list_versions(),
        "pictures": sum(pair.kind in UPRIGHT for pair in pairs),
        "classes": CLASSES,
        "training_parts": parts,
        "pixels": [_measure_pixels(name, pairs) for name in KIND_NAMES],
        "networks": [_measure_network(name, one, pairs) for name, one in zip(NETWORKS, networks, strict=True)],
    }
    results["seconds"] = round(time.monotonic() - began)
    sys.stdout.write(render(results))
    if options.output is not None:
        options.output.write_text(json.dumps(results, indent=1) + "\n")
        sys.stdout.write(f"\n{options.output}\n")
    return 0 if min(network["all"]["agreement"] for network in results["networks"]) >= LEAST_AGREEMENT else 1


KIND_NAMES = tuple(kind.name for kind in KINDS)
UPRIGHT = frozenset(kind.name for kind in KINDS if kind.upright)


def train_one(name: str, parts: int, seed: int) -> torch.nn.Module:
    """Train one of the networks on stock's preprocessing."""
    return train(name, *make_training_set(StockWay().transform, parts, seed), seed)


def make_pairs(place: int, seed: int, share: float) -> list[Pair]:
    """Preprocess every picture of one kind by both ways."""
    stock, ours = StockWay(), OurWay(load_contract(CONTRACT))
    pairs = []
    for picture in make_pictures(KINDS[place], seed, share):
        theirs, failed = stock(picture.data)
        own = ours(picture.data)
        pairs.append(Pair(picture.kind, picture.size, picture.label, theirs.numpy(), own.numpy(), failed))
    return pairs


def render(results: dict[str, Any]) -> str:
    """Return the section of docs/benchmarks.md (Markdown)."""
    pixels = {row["kind"]: row for row in results["pixels"]}
    networks = results["networks"]
    lines = [
        "## Agreement with stock's preprocessing",
        "",
        f"{results['pictures']} pictures cut from {CLASSES // 4} photographs (scikit-learn's and scikit-image's wheels)"
        f" in {len(UPRIGHT)} kinds of file, preprocessed by TorchServe's own `image_classifier`"
        f" (torchvision {results['versions']['torchvision']}) and by Garrison's checks; the same networks, trained on"
        f" stock's preprocessing to tell {results['classes']} classes apart, see both. A score is a softmax value,"
        f" from 0 to 1; close calls are those where the best two of stock's scores are less than {CLOSE_MARGIN} apart.",
        "",
        "| network | right (stock) | right (Garrison) | same top-1 | close calls | largest score difference | mean |",
        "|---|--:|--:|--:|--:|--:|--:|",
        *(
            f"| {row['network']} | {row['all']['stock_right']:.1%} | {row['all']['our_right']:.1%}"
            f" | {row['all']['same']} of {row['all']['pictures']} ({row['all']['agreement']:.2%})"
            f" | {row['all']['close_same']} of {row['all']['close']} the same"
            f" | {row['all']['max_score']:.4f} | {row['all']['mean_score']:.6f} |"
            for row in networks
        ),
        "",
        "| kind of file | pictures | mean, largest difference of pixels, in levels of 255 |"
        + "".join(f" same top-1, {row['network']} | largest score difference |" for row in networks),
        "|---|--:|--:|" + "--:|--:|" * len(networks),
        *(_render_kind(name, pixels, networks) for name in KIND_NAMES),
        "",
        '† Stock\'s handler fails on these; compared with its transforms after `convert("RGB")`. ‡ Stock ignores the'
        " orientation, Garrison applies it: different on purpose, and not counted above.",
        "",
        f"Commit {results['commit']}, seed {results['seed']}, {results['seconds']} s; `make campaign-agreement`.",
        "",
    ]
    return "\n".join(lines)


def _render_kind(name: str, pixels: dict[str, Any], networks: Sequence[dict[str, Any]]) -> str:
    row = pixels[name]
    mark = "†" if row["stock_failed"] else "" if name in UPRIGHT else "‡"
    cells = [f"{name}{mark}", str(row["pictures"]), f"{row['mean_levels']:.3f}, {row['max_levels']}"]
    for network in networks:
        of_kind = network["kinds"][name]
        cells += [f"{of_kind['same']} of {of_kind['pictures']}", f"{of_kind['max_score']:.4f}"]
    return f"| {' | '.join(cells)} |"


def _measure_pixels(kind: str, pairs: Sequence[Pair]) -> dict[str, Any]:
    chosen = [pair for pair in pairs if pair.kind == kind]
    theirs, ours = (
        _to_levels(np.stack(arrays)) for arrays in zip(*((pair.stock, pair.ours) for pair in chosen), strict=True)
    )
    levels = np.abs(theirs - ours)
    megapixels = [pair.size[0] * pair.size[1] / 1e6 for pair in chosen]
    return {
        "kind": kind,
        "pictures": len(chosen),
        "megapixels": [round(min(megapixels), 4), round(max(megapixels), 2)],
        "stock_failed": sum(pair.stock_failed for pair in chosen),
        "mean_levels": round(float(levels.mean()), 4),
        "max_levels": int(levels.max()),
        "equal_pixels": round(float((levels == 0).mean()), 4),
    }


def _measure_network(name: str, network: torch.nn.Module, pairs: Sequence[Pair]) -> dict[str, Any]:
    theirs = _score(network, [pair.stock for pair in pairs])
    ours = _score(network, [pair.ours for pair in pairs])
    labels = torch.tensor([pair.label for pair in pairs])
    places = {kind: [n for n, pair in enumerate(pairs) if pair.kind == kind] for kind in KIND_NAMES}
    upright = [n for n, pair in enumerate(pairs) if pair.kind in UPRIGHT]
    differ = [n for n in upright if theirs[n].argmax() != ours[n].argmax()]
    return {
        "network": name,
        "all": _compare(theirs[upright], ours[upright], labels[upright]),
        "kinds": {kind: _compare(theirs[chosen], ours[chosen], labels[chosen]) for kind, chosen in places.items()},
        "different": [
            {"kind": pairs[n].kind, "size": pairs[n].size, "stock_margin": float(_margins(theirs)[n])} for n in differ
        ],
    }


def _score(network: torch.nn.Module, arrays: Sequence[NDArray[np.float32]]) -> torch.Tensor:
    with torch.inference_mode():
        parts = [network(torch.from_numpy(np.stack(arrays[n : n + 32]))) for n in range(0, len(arrays), 32)]
    return torch.softmax(torch.cat(parts), dim=1)


def _compare(theirs: torch.Tensor, ours: torch.Tensor, labels: torch.Tensor) -> dict[str, Any]:
    same = theirs.argmax(1) == ours.argmax(1)
    close = _margins(theirs) < CLOSE_MARGIN
    difference = (theirs - ours).abs()
    return {
        "pictures": len(labels),
        "same": int(same.sum()),
        "agreement": round(float(same.float().mean()), 5),
        "close": int(close.sum()),
        "close_same": int((close & same).sum()),
        "stock_right": round(float((theirs.argmax(1) == labels).float().mean()), 4),
        "our_right": round(float((ours.argmax(1) == labels).float().mean()), 4),
        "max_score": round(float(difference.max()), 6),
        "mean_score": round(float(difference.mean()), 8),
        "mean_top_score": round(float(difference.gather(1, theirs.argmax(1, keepdim=True)).mean()), 6),
    }


def _margins(scores: torch.Tensor) -> torch.Tensor:
    best = scores.topk(2, dim=1).values
    return best[:, 0] - best[:, 1]


def _to_levels(tensors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the pixels, 0 to 255, that were normalised."""
    image = only_image(load_contract(CONTRACT))
    mean, std = np.array(image.mean).reshape(3, 1, 1), np.array(image.std).reshape(3, 1, 1)
    levels: NDArray[np.float32] = ((tensors * std + mean) * 255).round().astype(np.float32)
    return levels


def _import_stock() -> Any:
    """Import the handler over an empty torchvision that finds its submodules in the wheel's folder (see `stock`)."""
    stub = types.ModuleType("torchvision")
    stub.__path__ = [str(importlib.metadata.distribution("torchvision").locate_file("torchvision"))]
    sys.modules.setdefault("torchvision", stub)
    return importlib.import_module("ts.torch_handler.image_classifier")


def _list_versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare predictions with those after stock's preprocessing.")
    parser.add_argument("--quick", action="store_true", help="a quarter of the pictures; writes no file of its own")
    parser.add_argument("--seed", type=int, default=SEED, help="default: %(default)s")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (default: one per core)")
    parser.add_argument("--output", type=Path, help="write there (default: bench/agreement.json; none with --quick)")
    options = parser.parse_args()
    options.output = options.output or (None if options.quick else RESULTS)
    return options


if __name__ == "__main__":
    sys.exit(main())
