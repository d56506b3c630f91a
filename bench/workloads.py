"""What is measured: for each workload a model, its contract, and the bodies that every system gets in turn.

To add one: a contract in `contracts/`, a function here that fills a directory, and an entry in `WORKLOADS`.
"""

import io
import itertools
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from string import Template

import sklearn
import torch
from PIL import Image

from bench.models import (
    LIGHT_CLASSES,
    READINGS,
    RESNET_CLASSES,
    SIDE_PIXELS,
    TEXT_CLASSES,
    VOCABULARY,
    LightCnn,
    Perceptron,
    ResNet18,
    WordAverage,
    export,
)

CONTRACTS = Path(__file__).resolve().parent / "contracts"
BIG_SIZE = (4032, 2688)  # a phone's 12 megapixels in china.jpg's proportions, near enough
BIG_QUALITY = 90
TEXT_WORDS = 80
TEXTS = 8


@dataclass(frozen=True)
class Aims:
    """What issue B asks for: the least that passes, and what is aimed at, against the best stock configuration."""

    least: float
    aim: float


@dataclass(frozen=True)
class Workload:
    """One kind of request.

    `stock_handler` is TorchServe's own by its name, or a file here where it has none; `stock_batches` says whether that
    handler can answer more than one request at a time; `litserve` names the class in `litserve_app`.
    """

    name: str
    title: str
    model: str
    stock_handler: str
    fill: Callable[[Path], None]
    bodies: Callable[[], tuple[bytes, ...]]
    litserve: str = "image"
    content_type: str = "image/jpeg"
    stock_batches: bool = True
    aims: Aims | None = None


@dataclass(frozen=True)
class Prepared:
    """A workload whose files exist: weights, labels and contract in one directory."""

    workload: Workload
    directory: Path
    bodies: tuple[bytes, ...]

    @property
    def contract(self) -> Path:
        """The model's contract."""
        return self.directory / "contract.yaml"

    @property
    def weights(self) -> Path:
        """The model's weights."""
        return self.directory / "model.pt"

    @property
    def labels(self) -> Path:
        """The classes' names, as stock expects them."""
        return self.directory / "index_to_name.json"

    @property
    def model_file(self) -> Path:
        """The model's class, where the weights are a state dict."""
        return self.directory / "model.py"

    @property
    def extra_files(self) -> tuple[Path, ...]:
        """Further files for Garrison's archive."""
        return tuple(sorted((self.directory / "extra").glob("*")))

    @property
    def stock_files(self) -> tuple[Path, ...]:
        """Further files for stock's archive."""
        return tuple(sorted((self.directory / "stock").glob("*")))


def prepare(workload: Workload, directory: Path, workers: int, batch: int, delay_ms: int) -> Prepared:
    """Write a workload's model and contract."""
    directory.mkdir(parents=True)
    workload.fill(directory)
    template = Template((CONTRACTS / f"{workload.model}.yaml").read_text())
    contract = template.substitute(workers=workers, batch=batch, delay_ms=delay_ms)
    (directory / "contract.yaml").write_text(contract)
    return Prepared(workload, directory, workload.bodies())


_PICTURE = torch.zeros(1, 3, SIDE_PIXELS, SIDE_PIXELS)


def _fill_light(directory: Path) -> None:
    export(LightCnn, directory / "model.pt", _PICTURE)
    _write_labels(directory, LIGHT_CLASSES)


def _fill_resnet(directory: Path) -> None:
    export(ResNet18, directory / "model.pt", _PICTURE)
    _write_labels(directory, RESNET_CLASSES)


def _fill_tensor(directory: Path) -> None:
    export(Perceptron, directory / "model.pt", torch.zeros(1, READINGS))


def _fill_text(directory: Path) -> None:
    """Write the model with both vocabularies: ours as JSON, stock's as what `torch.load` gives it, a counter."""
    export(WordAverage, directory / "model.pt")
    _write_labels(directory, TEXT_CLASSES)
    numbers = {"<unk>": 0, "<pad>": 1} | {word: number for number, word in enumerate(_words(), 2)}
    for name in ("extra", "stock"):
        (directory / name).mkdir()
    (directory / "extra" / "vocabulary.json").write_text(json.dumps(numbers))
    torch.save(Counter(numbers), directory / "stock" / "source_vocab.pt")


def _words() -> list[str]:
    """Return made-up words in a fixed order: consonant, vowel, consonant, vowel, consonant."""
    parts = itertools.product("bdfgklmnprst", "aeiou", "bdfgklmnprst", "aeiou", "lnrst")
    return ["".join(part) for part in itertools.islice(parts, VOCABULARY - 2)]


def _texts() -> tuple[bytes, ...]:
    chosen, words = random.Random(3), _words()  # noqa: S311 - no secret
    return tuple(" ".join(chosen.choices(words, k=TEXT_WORDS)).encode() for _ in range(TEXTS))


def _readings() -> tuple[bytes, ...]:
    chosen = random.Random(3)  # noqa: S311 - no secret
    rows = [[round(chosen.uniform(-1, 1), 4) for _ in range(READINGS)] for _ in range(TEXTS)]
    return tuple(json.dumps({"data": row}).encode() for row in rows)


def _write_labels(directory: Path, count: int) -> None:
    labels = {str(index): f"class-{index}" for index in range(count)}
    (directory / "index_to_name.json").write_text(json.dumps(labels))


def _photos() -> tuple[bytes, ...]:
    """Return the two photos in scikit-learn's wheel as they are: 640x427, 197 and 143 kB."""
    folder = Path(sklearn.__file__).parent / "datasets" / "images"
    return tuple((folder / name).read_bytes() for name in ("china.jpg", "flower.jpg"))


def _big_photo() -> tuple[bytes, ...]:
    picture = Image.open(io.BytesIO(_photos()[0])).resize(BIG_SIZE, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=BIG_QUALITY)
    return (buffer.getvalue(),)


WORKLOADS = (
    Workload(
        name="light-640",
        title="light CNN, 640x427 JPEG",
        model="light",
        stock_handler="image_classifier",
        fill=_fill_light,
        bodies=_photos,
        aims=Aims(1.4, 1.8),
    ),
    Workload(
        name="light-12mp",
        title="light CNN, 12-megapixel JPEG",
        model="light",
        stock_handler="image_classifier",
        fill=_fill_light,
        bodies=_big_photo,
        aims=Aims(5, 6),
    ),
    Workload(
        name="resnet18",
        title="ResNet-18-shaped, 640x427 JPEG",
        model="resnet18",
        stock_handler="image_classifier",
        fill=_fill_resnet,
        bodies=_photos,
        aims=Aims(2.3, 2.5),
    ),
    Workload(
        name="tensor",
        title="three linear layers, 256 numbers as JSON",
        model="tensor",
        stock_handler="stock_tensor.py",
        fill=_fill_tensor,
        bodies=_readings,
        litserve="tensor",
        content_type="application/json",
    ),
    Workload(
        name="text",
        title="mean of word vectors, texts of 80 words",
        model="text",
        stock_handler="text_classifier",
        fill=_fill_text,
        bodies=_texts,
        litserve="text",
        content_type="text/plain",
        stock_batches=False,  # it ignores all but the first request of a batch
    ),
)
