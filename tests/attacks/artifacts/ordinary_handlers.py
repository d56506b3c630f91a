"""Ordinary handlers and model files: what people write for TorchServe, over `SafeHandler`, and typical networks.

They are here to be accepted as they are: each uses something that a strict policy easily refuses by mistake.
"""

HANDLERS: dict[str, str] = {
    "bare": '''
from garrison.torchserve.base import SafeHandler
from garrison.torchserve.weights import load_weights


class Own(SafeHandler):
    def load(self, model):
        self.model = load_weights(model, self.device)

    def infer(self, batch):
        return self.model(batch)

    def present(self, output, item):
        return output
''',
    "classifier-with-logging": '''
"""Classify pictures, and say how long it took."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from garrison.torchserve.base import SafeHandler
from garrison.torchserve.vision import Normaliser, only_image
from garrison.torchserve.weights import load_weights

if TYPE_CHECKING:
    from garrison.archive import PackedModel
    from garrison.checks import Item

logger = logging.getLogger(__name__)
logging.basicConfig(level=logging.INFO)

TOP_K = 5
THRESHOLD = 1e-3


class Classifier(SafeHandler):
    """Softmax, the best five, and a fallback label."""

    top_k = TOP_K

    def load(self, model: PackedModel) -> None:
        start = time.perf_counter()
        self._model = load_weights(model, self.device)
        self._normalise = Normaliser(only_image(model.contract), self.device)
        logger.info("loaded %s in %.1f s on %s", type(self).__name__, time.perf_counter() - start, self.device)

    @torch.inference_mode()
    def infer(self, batch: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device_type=self.device.type, enabled=self.device.type == "cuda"):
            return F.softmax(self._model(self._normalise(batch)), dim=1)

    def present(self, output: torch.Tensor, item: Item) -> dict[str, Any]:
        values, indices = output.topk(min(self.top_k, output.numel()))
        found = {self.labels[int(i)]: float(v) for v, i in zip(values, indices, strict=True) if v > THRESHOLD}
        if not found:
            logger.warning(f"no class above {THRESHOLD:.1e} of {output.shape!r}")
        return found or {"unknown": 1.0}
''',
    "text-with-vocabulary": '''
import json
import re
import string
import unicodedata
from collections import Counter, OrderedDict, defaultdict

import numpy as np
import torch

from garrison.errors import OutOfContract
from garrison.torchserve.base import SafeHandler
from garrison.torchserve.weights import load_weights

TOKEN = re.compile(r"[a-z0-9']+|[^\\w\\s]", re.IGNORECASE)
CONTRACTIONS = {"can't": "cannot", "won't": "will not", "n't": " not"}
PUNCTUATION = frozenset(string.punctuation)
MAX_LENGTH = 256


def clean(text: str) -> str:
    text = unicodedata.normalize("NFKD", text)
    text = "".join(c for c in text if unicodedata.category(c) != "Mn")
    for short, full in CONTRACTIONS.items():
        text = text.replace(short, full)
    return re.sub(r"\\s+", " ", text).strip().lower()


class Sentiment(SafeHandler):
    PAD, UNKNOWN = 0, 1

    def load(self, model):
        self.model = load_weights(model, self.device)
        words = json.loads(model.read("vocab.json"))
        self.vocabulary = OrderedDict((word, i + 2) for i, word in enumerate(words))
        self.seen = defaultdict(int)

    def prepare(self, item):
        tokens = [t for t in TOKEN.findall(clean(item.value)) if t not in PUNCTUATION]
        if len(tokens) == 0:
            raise OutOfContract("no_words", "There is no word in the text.")
        ids = [self.vocabulary.get(t, self.UNKNOWN) for t in tokens][:MAX_LENGTH]
        ids += [self.PAD] * (MAX_LENGTH - len(ids))
        return np.asarray(ids, dtype=np.int64)

    def infer(self, batch):
        with torch.no_grad():
            return self.model(batch).sigmoid()

    def present(self, output, item):
        most, = Counter(item.value.split()).most_common(1)
        return {"positive": round(output.item(), 4), "word": most[0], "length": len(item.value)}
''',
    "byte-level-tokens": '''
from functools import lru_cache

import torch

from garrison.torchserve.base import SafeHandler
from garrison.torchserve.weights import load_weights


@lru_cache(maxsize=1)
def bytes_to_unicode():
    """GPT-2's table of printable stand-ins for bytes."""
    bs = list(range(ord("!"), ord("~") + 1)) + list(range(ord("¡"), ord("¬") + 1)) + list(range(ord("®"), ord("ÿ") + 1))
    cs = bs[:]
    n = 0
    for b in range(2**8):
        if b not in bs:
            bs.append(b)
            cs.append(2**8 + n)
            n += 1
    return dict(zip(bs, [chr(c) for c in cs]))


class Tokens(SafeHandler):
    def load(self, model):
        self.model = load_weights(model, self.device)
        self.encoder = bytes_to_unicode()
        self.decoder = {v: k for k, v in self.encoder.items()}

    def prepare(self, item):
        text = "".join(self.encoder[b] for b in item.value.encode("utf-8"))
        return torch.tensor([ord(c) % 512 for c in text])

    def infer(self, batch):
        return self.model(batch)

    def present(self, output, item):
        return bytes(self.decoder.get(chr(int(i)), 63) for i in output.argmax(-1)).decode("utf-8", errors="replace")
''',
    "mask-as-png": '''
import base64
import io

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from garrison.torchserve.base import SafeHandler
from garrison.torchserve.weights import load_weights

PALETTE = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]], dtype=np.uint8)


class Segmenter(SafeHandler):
    def load(self, model):
        self.model = load_weights(model, self.device).eval()

    def prepare(self, item):
        image = Image.fromarray(item.value).convert("RGB").resize((256, 256), Image.BILINEAR)
        image = ImageOps.autocontrast(image.filter(ImageFilter.GaussianBlur(radius=1)))
        array = np.asarray(image, dtype=np.float32) / 255.0
        return np.ascontiguousarray(array.transpose(2, 0, 1))

    def infer(self, batch):
        return self.model(batch)["out"].argmax(dim=1)

    def present(self, output, item):
        buffer = io.BytesIO()
        Image.fromarray(PALETTE[output.numpy()]).resize(item.source_size, Image.Resampling.NEAREST).save(buffer, format="PNG")
        with io.BytesIO() as second:
            Image.new("L", (1, 1)).save(second, "PNG")
        return {"mask": base64.b64encode(buffer.getvalue()).decode("ascii")}
''',
    "picture-in-json": '''
import base64
import io

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from garrison.errors import Malformed
from garrison.torchserve.base import SafeHandler
from garrison.torchserve.weights import load_weights


class Decoder(SafeHandler):
    def load(self, model):
        self.model = load_weights(model, self.device)

    def prepare(self, item):
        data = item.value
        if isinstance(data, str):
            data = base64.b64decode(data)
        try:
            with Image.open(io.BytesIO(data), formats=["JPEG", "PNG"]) as image:
                image.load()
                pixels = np.array(image.convert("RGB"))
        except (UnidentifiedImageError, OSError, ValueError) as error:
            raise Malformed("no_picture", "The field holds no picture.") from error
        return torch.from_numpy(pixels).permute(2, 0, 1).float().div_(255)

    def infer(self, batch):
        return self.model(batch)

    def present(self, output, item):
        return output.tolist()
''',
    "detector": '''
"""Object detection with non-maximum suppression of its own."""

import math
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import NamedTuple

import torch

from garrison.torchserve.base import SafeHandler
from garrison.torchserve.weights import load_weights


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


class Point(NamedTuple):
    x: float
    y: float


@dataclass(frozen=True)
class Settings:
    iou: float = 0.5
    min_score: float = 0.3
    strides: tuple[int, ...] = (8, 16, 32)
    names: list[str] = field(default_factory=list)

    @property
    def levels(self) -> int:
        return len(self.strides)


SETTINGS = Settings(iou=0.45)
ANCHORS = torch.tensor([[10, 13], [16, 30], [33, 23]], dtype=torch.float32)


def nms(boxes: torch.Tensor, scores: torch.Tensor, threshold: float) -> list[int]:
    keep: list[int] = []
    order = scores.argsort(descending=True).tolist()
    while order:
        first = order.pop(0)
        keep.append(first)
        order = [i for i in order if iou(boxes[first], boxes[i]) <= threshold]
    return keep


def iou(a, b):
    x1, y1 = max(a[0], b[0]), max(a[1], b[1])
    x2, y2 = min(a[2], b[2]), min(a[3], b[3])
    inter = max(0.0, float(x2 - x1)) * max(0.0, float(y2 - y1))
    area = lambda box: float((box[2] - box[0]) * (box[3] - box[1]))  # noqa: E731
    return inter / (area(a) + area(b) - inter + math.ulp(1.0))


class Detector(SafeHandler):
    def load(self, model):
        self.net = load_weights(model, self.device)
        self.settings = SETTINGS
        assert self.settings.levels == len(self.settings.strides), "one stride a level"

    def infer(self, batch):
        boxes, scores = self.net(batch)
        return [dict(boxes=b, scores=s) for b, s in zip(boxes, scores)]

    def present(self, output, item):
        keep = nms(output["boxes"], output["scores"], self.settings.iou)
        found = []
        for i in keep:
            if (score := output["scores"][i].item()) < self.settings.min_score:
                continue
            x1, y1, x2, y2 = output["boxes"][i].tolist()
            centre = Point((x1 + x2) / 2, (y1 + y2) / 2)
            size = Size.LARGE if (x2 - x1) * (y2 - y1) > 96**2 else Size.SMALL
            found.append({"box": [x1, y1, x2, y2], "score": score, "centre": centre._asdict(), "size": size.value})
        return {"objects": found, "settings": asdict(self.settings), "version": "{:.1f}".format(1.0)}
''',
    "stock-image-handler-in-our-way": '''
# The mnist handler of TorchServe's examples, over SafeHandler.
import torch.nn.functional as F
from torch import nn

from garrison.torchserve.base import SafeHandler
from garrison.torchserve.weights import load_weights


class MNISTDigitClassifier(SafeHandler):
    """
    MNISTDigitClassifier handler class. Extends SafeHandler; takes an image of a handwritten digit.
    """

    def __init__(self):
        super(MNISTDigitClassifier, self).__init__()
        self.profiler_args = {"activities": ["cpu"], "record_shapes": True}

    def load(self, model):
        self.model = load_weights(model, self.device)
        self.norm = nn.BatchNorm2d(1).eval()

    def prepare(self, item):
        return (item.value.astype("float32") / 255.0 - 0.1307) / 0.3081

    def infer(self, batch):
        return F.log_softmax(self.model(batch.permute(0, 3, 1, 2)), dim=1)

    def present(self, output, item):
        return output.argmax().item()
''',
    "time-series": '''
import datetime
import itertools
import statistics
from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from garrison.torchserve.base import SafeHandler
from garrison.torchserve.weights import load_weights

WEEK = datetime.timedelta(days=7)
EPOCH = datetime.date(2020, 1, 1)
PERIODS = {"day": 1, "week": 7, "year": 365.25}
FEATURES = [f"{name}_{kind}" for name, kind in itertools.product(PERIODS, ("sin", "cos"))]


def windows(values: Sequence[float], size: int) -> Iterator[list[float]]:
    """Yield windows that slide by one."""
    window: deque[float] = deque(maxlen=size)
    for value in values:
        window.append(value)
        if len(window) == size:
            yield list(window)


class Forecast(SafeHandler):
    def load(self, model):
        self.model = load_weights(model, self.device)
        self.stats = {k: statistics.fmean(v) for k, v in {"a": [1.0, 2.0]}.items()}

    def prepare(self, item):
        values = np.nan_to_num(item.values["series"].astype(np.float32))
        trend = np.polyfit(np.arange(len(values)), values, 1)
        lags = np.stack(list(windows(values, 4)))
        rng = np.random.default_rng(0)
        noise = rng.normal(0, 1e-6, size=lags.shape)
        return {"lags": lags + noise, "trend": np.tile(trend, (1, 1))}

    def infer(self, batch):
        outputs = []
        for lag, trend in zip(torch.unbind(batch["lags"]), batch["trend"]):
            outputs.append(self.model(lag[None], trend[None]).squeeze(0))
        return torch.stack(outputs)

    def present(self, output, item):
        days = [(EPOCH + i * datetime.timedelta(days=1)).isoformat() for i in range(len(output))]
        return dict(zip(days, output.numpy().round(3).tolist()))
''',
    "ensemble": '''
import copy

import torch
from torch import nn

from garrison.archive import PackedModel
from garrison.torchserve.base import SafeHandler
from garrison.torchserve.vision import Normaliser, load_network, only_image
from garrison.torchserve.weights import load_weights as load_file

FILES = ("first.pt2", "second.pt2")
REDUCE = {"mean": torch.mean, "max": torch.amax}
ACTIVATIONS = {"relu": nn.ReLU(), "gelu": nn.GELU()}


class Ensemble(SafeHandler):
    def load(self, model: PackedModel) -> None:
        self.main = load_network(model, self.device)
        self.others = [load_file(model, self.device, name) for name in FILES]
        self.normalise = Normaliser(only_image(model.contract), self.device)
        self.reduce = REDUCE["mean"]
        self.settings = copy.deepcopy({"act": "gelu"})
        self.act = ACTIVATIONS.get(self.settings["act"], nn.Identity())
        torch.backends.cudnn.benchmark = True
        torch.set_num_threads(1)

    def infer(self, batch):
        batch = self.normalise(batch)
        scores = torch.stack([self.act(m(batch)) for m in (self.main, *self.others)])
        return self.reduce(scores, dim=0)

    def present(self, output, item):
        try:
            best = self.labels[int(output.argmax())]
        except IndexError:
            best = str(int(output.argmax()))
        finally:
            del output
        return {"label": best}
''',
    "embeddings-and-search": '''
import hashlib
import heapq
from functools import cached_property, partial, reduce
from operator import itemgetter, mul

import torch
from torch import Tensor

from garrison.torchserve.base import SafeHandler
from garrison.torchserve.weights import load_weights


def cosine(a: Tensor, b: Tensor, *, eps: float = 1e-8) -> Tensor:
    return torch.einsum("nd,md->nm", a, b) / (a.norm(dim=1)[:, None] * b.norm(dim=1)[None] + eps)


class Search(SafeHandler):
    similarity = staticmethod(partial(cosine, eps=1e-6))

    def load(self, model):
        self.encoder = load_weights(model, self.device)
        self.index = load_weights(model, self.device, "index.pt2")
        self.key = hashlib.sha256(model.contract.model.encode()).hexdigest()[:8]

    @cached_property
    def count(self) -> int:
        return reduce(mul, self.index.shape, 1)

    def infer(self, batch):
        return self.encoder(batch)

    def present(self, output, item):
        scores = self.similarity(output[None], self.index)[0].tolist()
        best = heapq.nlargest(3, enumerate(scores), key=itemgetter(1))
        return [{"id": f"{self.key}-{i:06d}", "score": s} for i, s in sorted(best, key=lambda pair: -pair[1])]
''',
    "audio": '''
import math

import numpy as np
import torch

from garrison.torchserve.base import SafeHandler
from garrison.torchserve.weights import load_weights

RATE, N_FFT, HOP, N_MELS = 16_000, 400, 160, 80


def mel_filters(n_mels=N_MELS, n_fft=N_FFT, rate=RATE):
    to_mel = lambda f: 2595.0 * math.log10(1.0 + f / 700.0)  # noqa: E731
    edges = np.linspace(to_mel(0.0), to_mel(rate / 2), n_mels + 2)
    hertz = 700.0 * (10.0 ** (edges / 2595.0) - 1.0)
    bins = np.floor((n_fft + 1) * hertz / rate).astype(int)
    bank = np.zeros((n_mels, n_fft // 2 + 1), dtype=np.float32)
    for m in range(1, n_mels + 1):
        left, centre, right = bins[m - 1 : m + 2]
        for k in range(left, centre):
            bank[m - 1, k] = (k - left) / max(1, centre - left)
        for k in range(centre, right):
            bank[m - 1, k] = (right - k) / max(1, right - centre)
    return bank


class Speech(SafeHandler):
    def load(self, model):
        self.net = load_weights(model, self.device)
        self.window = torch.hann_window(N_FFT, device=self.device)
        self.bank = torch.from_numpy(mel_filters()).to(self.device)

    def infer(self, batch):
        spectrum = torch.stft(batch, N_FFT, HOP, window=self.window, return_complex=True).abs() ** 2
        mel = torch.clamp(self.bank @ spectrum, min=1e-10).log10()
        mel = torch.maximum(mel, mel.amax(dim=(1, 2), keepdim=True) - 8.0)
        return self.net((mel + 4.0) / 4.0)

    def present(self, output, item):
        best = output.argmax(-1)
        letters = [self.labels[i] for i, j in zip(best[1:], best[:-1]) if i != j and i != 0]
        return {"text": "".join(letters).replace("|", " ").strip()}
''',
    "generic-types-and-protocols": '''
from abc import ABC, abstractmethod
from contextlib import contextmanager, suppress
from typing import Any, Callable, ClassVar, Dict, Final, Generic, List, Literal, Optional, Protocol, Tuple, TypeVar, Union, cast

import torch

from garrison.torchserve.base import Array, SafeHandler
from garrison.torchserve.weights import Model, load_weights

T = TypeVar("T", bound=torch.Tensor)
Batch = Union[torch.Tensor, Dict[str, torch.Tensor]]
Step = Callable[[torch.Tensor], torch.Tensor]
Mode = Literal["fast", "exact"]
DEFAULT: Final = "fast"


class Transform(Protocol):
    def __call__(self, x: torch.Tensor) -> torch.Tensor: ...


class Stage(ABC, Generic[T]):
    name: ClassVar[str] = "stage"
    registry: ClassVar[Dict[str, Any]] = {}

    @abstractmethod
    def apply(self, x: T) -> T:
        """Do the step."""

    @classmethod
    def make(cls, **options: Any) -> "Stage[T]":
        return cls(**options)

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.name})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stage) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)


class Scale(Stage[torch.Tensor]):
    name = "scale"
    __slots__ = ("factor",)

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor


@contextmanager
def evaluating(model: Model):
    training = getattr(model, "training", False)
    try:
        yield model
    finally:
        if hasattr(model, "train"):
            model.train(training)


class Typed(SafeHandler):
    _model: Model
    _stages: List[Stage[torch.Tensor]]

    def load(self, model: "PackedModel") -> None:
        self._model = load_weights(model, self.device)
        self._stages = [Scale.make(factor=2.0), Scale(0.5)]
        self._mode: Mode = cast(Mode, DEFAULT)
        self._cache: Optional[Tuple[int, ...]] = None

    @property
    def mode(self) -> Mode:
        return self._mode

    @mode.setter
    def mode(self, value: Mode) -> None:
        if value not in ("fast", "exact"):
            raise ValueError(f"{value!r}: neither fast nor exact")
        self._mode = value

    def prepare(self, item: Any) -> Array:
        with suppress(KeyError):
            return cast(Array, item.values["x"])
        return item.value

    def infer(self, batch: Batch) -> Any:
        x = batch if isinstance(batch, torch.Tensor) else next(iter(batch.values()))
        for stage in self._stages:
            x = stage.apply(x)
        with evaluating(self._model) as net:
            return net(x)

    def present(self, output: Any, item: Any) -> Any:
        match output.tolist():
            case [single]:
                return single
            case [first, *rest]:
                return {"first": first, "rest": len(rest)}
            case _:
                return None
''',
    "text-generation": '''
import json

import torch

from garrison.torchserve.base import SafeHandler
from garrison.torchserve.weights import load_weights

PROMPT = "Question: {question}\\nAnswer:"
MAX_NEW, EOS = 32, 2


class Generator(SafeHandler):
    template = "<s>{0}</s>"

    def load(self, model):
        self.lm = load_weights(model, self.device)
        merges = model.read("merges.txt").decode("utf-8").splitlines()
        self.ranks = {tuple(line.split()): i for i, line in enumerate(merges) if line and not line.startswith("#")}
        self.vocab = json.loads(model.read("vocab.json"))
        self.inverse = {index: token for token, index in self.vocab.items()}

    def _pairs(self, word):
        return {(a, b) for a, b in zip(word, word[1:])}

    def _bpe(self, token):
        word = tuple(token)
        while len(word) > 1:
            best = min(self._pairs(word), key=lambda pair: self.ranks.get(pair, float("inf")))
            if best not in self.ranks:
                break
            merged, i = [], 0
            while i < len(word):
                if word[i : i + 2] == best:
                    merged.append("".join(best))
                    i += 2
                else:
                    merged.append(word[i])
                    i += 1
            word = tuple(merged)
        return word

    def prepare(self, item):
        text = self.template.format(PROMPT.format(question=item.value))
        ids = [self.vocab.get(piece, 0) for word in text.split(" ") for piece in self._bpe(word)]
        return torch.tensor(ids, dtype=torch.long)

    @torch.no_grad()
    def infer(self, batch):
        ids = batch
        for _ in range(MAX_NEW):
            logits = self.lm(ids)[:, -1]
            ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], dim=1)
            if bool((ids[:, -1] == EOS).all()):
                break
        return ids[:, batch.shape[1] :]

    def present(self, output, item):
        return {"answer": "".join(self.inverse.get(i, "?") for i in output.tolist() if i != EOS), "tokens": output.numel()}
''',
    "recommender": '''
import csv
import io
import random

import numpy as np
import torch

from garrison.errors import ConfigError
from garrison.torchserve.base import SafeHandler
from garrison.torchserve.weights import load_weights

SEED = 7
random.seed(SEED)
torch.manual_seed(SEED)


class Recommender(SafeHandler):
    def load(self, model):
        self.model = load_weights(model, self.device)
        rows = csv.DictReader(io.StringIO(model.read("items.csv").decode()))
        self.titles = {int(row["id"]): row["title"] for row in rows}
        if not self.titles:
            raise ConfigError("items.csv: no rows; pack it again")
        self.popular = sorted(self.titles, key=lambda i: (-i, self.titles[i]))[:10]

    def prepare(self, item):
        history = np.unique(item.values["history"])
        return {"user": np.int64(item.values["user"]), "history": np.pad(history, (0, 20 - len(history)))}

    def infer(self, batch):
        scores = self.model(batch["user"], batch["history"])
        scores.scatter_(1, batch["history"].long(), float("-inf"))
        return {"best": scores.topk(5, dim=1).indices, "scores": scores.amax(1)}

    def present(self, output, item):
        chosen = [self.titles.get(int(i)) or random.choice(self.popular) for i in output["best"]]
        return {"items": chosen, "score": output["scores"], "group": item.values.get("group", "a")}
''',
    "main-block": '''
import torch

from garrison.torchserve.base import SafeHandler
from garrison.torchserve.weights import load_weights


class Own(SafeHandler):
    def load(self, model):
        self.model = load_weights(model, self.device)

    def infer(self, batch):
        return self.model(batch)

    def present(self, output, item):
        return {"sum": output.sum(), "text": str(type(output)), "kind": type(item).__name__}


def main():
    print(Own.__name__, torch.__version__)


if __name__ == "__main__":
    main()
''',
    "extends-a-task": '''
import torch

from garrison.torchserve.image_classifier import ImageClassifier


class WithTemperature(ImageClassifier):
    temperature = 1.5

    def load(self, model):
        super().load(model)
        self.scale = torch.tensor(1 / self.temperature, device=self.device)

    def infer(self, batch):
        return super().infer(batch) * self.scale
''',
    "torchvision-transforms": '''
import torch
from torchvision import transforms
from torchvision.transforms import functional as TF

from garrison.torchserve.base import SafeHandler
from garrison.torchserve.weights import load_weights

PIPELINE = transforms.Compose([
    transforms.Resize(256),
    transforms.CenterCrop(224),
    transforms.ToTensor(),
    transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
])


class Vision(SafeHandler):
    image_processing = PIPELINE

    def load(self, model):
        self.model = load_weights(model, self.device)

    def prepare(self, item):
        return self.image_processing(TF.to_pil_image(item.value))

    def infer(self, batch):
        return torch.softmax(self.model(batch), dim=1)

    def present(self, output, item):
        return output
''',
}

MODELS: dict[str, str] = {
    "mnist": '''
import torch
import torch.nn as nn
import torch.nn.functional as F


class Net(nn.Module):
    def __init__(self):
        super(Net, self).__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, 1)
        self.conv2 = nn.Conv2d(32, 64, 3, 1)
        self.dropout1 = nn.Dropout2d(0.25)
        self.fc1 = nn.Linear(9216, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x):
        x = F.relu(self.conv2(F.relu(self.conv1(x))))
        x = torch.flatten(self.dropout1(F.max_pool2d(x, 2)), 1)
        output = F.log_softmax(self.fc2(F.relu(self.fc1(x))), dim=1)
        return output
''',
    "torchserve-resnet": '''
from torchvision.models.resnet import BasicBlock, ResNet


class ImageClassifier(ResNet):
    def __init__(self):
        super(ImageClassifier, self).__init__(BasicBlock, [2, 2, 2, 2])
''',
    "torchserve-densenet": '''
import re
from collections import OrderedDict

from torchvision.models.densenet import DenseNet


class ImageClassifier(DenseNet):
    def __init__(self):
        super(ImageClassifier, self).__init__(48, (6, 12, 36, 24), 96)

    def load_state_dict(self, state_dict, strict=True):
        pattern = re.compile(r"^(.*denselayer\\d+\\.(?:norm|relu|conv))\\.((?:[12])\\.(?:weight|bias|running_mean|running_var))$")
        for key in list(state_dict.keys()):
            res = pattern.match(key)
            if res:
                state_dict[res.group(1) + res.group(2)] = state_dict.pop(key)
        return super(ImageClassifier, self).load_state_dict(OrderedDict(state_dict), strict)
''',
    "resnet": '''
"""ResNet-18, after He et al."""

from typing import Callable, List, Optional, Type, Union

import torch
from torch import Tensor, nn

__all__ = ["ResNet18"]


def conv3x3(inp: int, out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inp, out, kernel_size=3, stride=stride, padding=1, bias=False)


class BasicBlock(nn.Module):
    expansion: int = 1

    def __init__(self, inp: int, out: int, stride: int = 1, norm: Optional[Callable[..., nn.Module]] = None) -> None:
        super().__init__()
        norm = norm or nn.BatchNorm2d
        self.conv1, self.bn1 = conv3x3(inp, out, stride), norm(out)
        self.conv2, self.bn2 = conv3x3(out, out), norm(out)
        self.relu = nn.ReLU(inplace=True)
        self.down = nn.Sequential(nn.Conv2d(inp, out, 1, stride, bias=False), norm(out)) if stride != 1 or inp != out else None

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.down is None else self.down(x)
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y += identity
        return self.relu(y)


class ResNet18(nn.Module):
    def __init__(self, layers: List[int] = [2, 2, 2, 2], classes: int = 1000, block: Type[BasicBlock] = BasicBlock) -> None:
        super().__init__()
        self.inplanes = 64
        self.stem = nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(True), nn.MaxPool2d(3, 2, 1))
        self.layers = nn.ModuleList(self._make_layer(block, 64 * 2**i, n, 1 if i == 0 else 2) for i, n in enumerate(layers))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(512 * block.expansion, classes)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(m, (nn.BatchNorm2d, nn.GroupNorm)):
                nn.init.constant_(m.weight, 1)
                nn.init.constant_(m.bias, 0)

    def _make_layer(self, block, planes: int, blocks: int, stride: int) -> nn.Sequential:
        out = [block(self.inplanes, planes, stride)]
        self.inplanes = planes * block.expansion
        out += [block(self.inplanes, planes) for _ in range(1, blocks)]
        return nn.Sequential(*out)

    def _forward_impl(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for layer in self.layers:
            x = layer(x)
        return self.fc(torch.flatten(self.avgpool(x), 1))

    def forward(self, x: Tensor) -> Tensor:
        return self._forward_impl(x)
''',
    "unet": '''
import torch
import torch.nn as nn
import torch.nn.functional as F


class DoubleConv(nn.Module):
    """(convolution => [BN] => ReLU) * 2"""

    def __init__(self, in_channels, out_channels, mid_channels=None):
        super().__init__()
        if not mid_channels:
            mid_channels = out_channels
        self.double_conv = nn.Sequential(
            nn.Conv2d(in_channels, mid_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(mid_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(mid_channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, input):
        return self.double_conv(input)


class Up(nn.Module):
    def __init__(self, in_channels, out_channels, bilinear=True):
        super().__init__()
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True) if bilinear else nn.ConvTranspose2d(in_channels, in_channels // 2, 2, 2)
        self.conv = DoubleConv(in_channels, out_channels, in_channels // 2)

    def forward(self, x1, x2):
        x1 = self.up(x1)
        diff_y, diff_x = x2.size()[2] - x1.size()[2], x2.size()[3] - x1.size()[3]
        x1 = F.pad(x1, [diff_x // 2, diff_x - diff_x // 2, diff_y // 2, diff_y - diff_y // 2])
        return self.conv(torch.cat([x2, x1], dim=1))


class UNet(nn.Module):
    def __init__(self, n_channels: int = 3, n_classes: int = 2):
        super().__init__()
        widths = [64, 128, 256, 512]
        self.inc = DoubleConv(n_channels, widths[0])
        self.downs = nn.ModuleList()
        self.ups = nn.ModuleList()
        for a, b in zip(widths[:-1], widths[1:]):
            self.downs.append(nn.Sequential(nn.MaxPool2d(2), DoubleConv(a, b)))
        for a, b in zip(reversed(widths[1:]), reversed(widths[:-1])):
            self.ups.append(Up(a + b, b))
        self.outc = nn.Conv2d(widths[0], n_classes, kernel_size=1)

    def forward(self, x):
        skips = [self.inc(x)]
        for down in self.downs:
            skips.append(down(skips[-1]))
        x = skips.pop()
        for up in self.ups:
            x = up(x, skips.pop())
        return {"out": self.outc(x)}
''',
    "transformer": '''
from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Optional

import torch
from torch import nn


@dataclass
class Config:
    vocab: int = 1000
    width: int = 64
    heads: int = 4
    depth: int = 2
    max_len: int = 512
    dropout: float = 0.1


class PositionalEncoding(nn.Module):
    pe: torch.Tensor

    def __init__(self, d_model: int, dropout: float = 0.1, max_len: int = 5000) -> None:
        super().__init__()
        self.dropout = nn.Dropout(p=dropout)
        position = torch.arange(max_len).unsqueeze(1)
        div_term = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
        pe = torch.zeros(max_len, 1, d_model)
        pe[:, 0, 0::2] = torch.sin(position * div_term)
        pe[:, 0, 1::2] = torch.cos(position * div_term)
        self.register_buffer("pe", pe, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dropout(x + self.pe[: x.size(0)])


class Attention(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        assert config.width % config.heads == 0
        self.heads, self.scale = config.heads, (config.width // config.heads) ** -0.5
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.out = nn.Linear(config.width, config.width)

    def forward(self, x: torch.Tensor, mask: Optional[torch.Tensor] = None) -> torch.Tensor:
        b, n, d = x.shape
        q, k, v = (t.view(b, n, self.heads, -1).transpose(1, 2) for t in self.qkv(x).chunk(3, dim=-1))
        scores = torch.einsum("bhid,bhjd->bhij", q, k) * self.scale
        if mask is not None:
            scores = scores.masked_fill(mask == 0, float("-inf"))
        return self.out((scores.softmax(dim=-1) @ v).transpose(1, 2).reshape(b, n, d))


class Encoder(nn.Module):
    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        config = config or Config()
        self.config = config
        self.embed = nn.Embedding(config.vocab, config.width)
        self.positions = PositionalEncoding(config.width, config.dropout, config.max_len)
        layer = nn.TransformerEncoderLayer(config.width, config.heads, batch_first=True, norm_first=True)
        self.layers = nn.ModuleList([copy.deepcopy(layer) for _ in range(config.depth)])
        self.attention = Attention(config)
        self.head = nn.Linear(config.width, config.vocab, bias=False)
        self.head.weight = self.embed.weight
        self.apply(self._init_weights)

    @staticmethod
    def _init_weights(module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if getattr(module, "bias", None) is not None:
                nn.init.zeros_(module.bias)
        if type(module) == nn.LayerNorm:
            module.bias.data.zero_()

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.positions(self.embed(ids))
        for i, layer in enumerate(self.layers):
            x = layer(x) if i % 2 else x + self.attention(x)
        return self.head(x)

    def extra_repr(self) -> str:
        return "{vocab}, {width}".format(**self.config.__class__.__name__ and {"vocab": 1, "width": 2})
''',
    "lstm-crf": '''
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

START_TAG, STOP_TAG = "<START>", "<STOP>"
TAGS = {"B": 0, "I": 1, "O": 2, START_TAG: 3, STOP_TAG: 4}


def log_sum_exp(vec):
    max_score = vec[0, torch.argmax(vec, 1)[0]]
    return max_score + torch.log(torch.sum(torch.exp(vec - max_score.view(1, -1).expand(1, vec.size()[1]))))


class Tagger(nn.Module):
    __constants__ = ["hidden"]

    def __init__(self, vocab_size=5000, tags=TAGS, embedding_dim=32, hidden=64, bidirectional: bool = True):
        super(Tagger, self).__init__()
        self.tags = tags
        self.word_embeds = nn.Embedding(vocab_size, embedding_dim, padding_idx=0)
        self.lstm = nn.LSTM(embedding_dim, hidden // 2, num_layers=1, bidirectional=bidirectional, batch_first=True)
        self.hidden2tag = nn.Linear(hidden, len(tags))
        self.transitions = nn.Parameter(torch.randn(len(tags), len(tags)))
        self.transitions.data[tags[START_TAG], :] = -10000
        self.transitions.data[:, tags[STOP_TAG]] = -10000
        self._reset()

    def _reset(self):
        for name, param in self.named_parameters():
            if "weight_hh" in name:
                nn.init.orthogonal_(param.data)
            elif "bias" in name:
                param.data.fill_(0)
                n = param.size(0)
                param.data[n // 4 : n // 2].fill_(1.0)

    def forward(self, sentence, lengths=None):
        embeds = self.word_embeds(sentence)
        if lengths is not None:
            embeds = pack_padded_sequence(embeds, lengths.cpu(), batch_first=True, enforce_sorted=False)
        out, (h, c) = self.lstm(embeds)
        if lengths is not None:
            out, _ = pad_packed_sequence(out, batch_first=True)
        return self._viterbi(self.hidden2tag(out))

    def _viterbi(self, feats):
        score = feats[:, 0]
        history = []
        for t in range(1, feats.size(1)):
            best, index = (score.unsqueeze(2) + self.transitions).max(dim=1)
            score = best + feats[:, t]
            history.append(index)
        return score
''',
    "vision-transformer": '''
import math
from collections import OrderedDict
from functools import partial
from itertools import repeat
from typing import Callable, Sequence

import torch
import torch.nn as nn
from torch.nn.init import trunc_normal_
from torch.nn.parameter import Parameter
from torch.utils.checkpoint import checkpoint


def to_2tuple(x):
    return tuple(x) if isinstance(x, Sequence) else tuple(repeat(x, 2))


class Patches(nn.Module):
    def __init__(self, size=32, patch=4, width=64):
        super().__init__()
        size, patch = to_2tuple(size), to_2tuple(patch)
        self.num = (size[0] // patch[0]) * (size[1] // patch[1])
        self.proj = nn.Conv2d(3, width, kernel_size=patch, stride=patch)

    def forward(self, x):
        B, C, H, W = x.shape
        assert H % 4 == 0 and W % 4 == 0, f"Input image size ({H}*{W}) doesn't match."
        return self.proj(x).flatten(2).transpose(1, 2)


class Mlp(nn.Module):
    def __init__(self, width, hidden=None, act: Callable[..., nn.Module] = nn.GELU, drop=0.0):
        super().__init__()
        hidden = hidden or 4 * width
        self.net = nn.Sequential(OrderedDict([("fc1", nn.Linear(width, hidden)), ("act", act()), ("fc2", nn.Linear(hidden, width)), ("drop", nn.Dropout(drop))]))

    def forward(self, x):
        return self.net(x)


class DropPath(nn.Module):
    def __init__(self, p: float = 0.0):
        super().__init__()
        self.p = p

    def forward(self, x):
        if self.p == 0.0 or not self.training:
            return x
        keep = 1 - self.p
        mask = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)
        return x * mask.div_(keep)


class Block(nn.Module):
    def __init__(self, width, heads, norm=partial(nn.LayerNorm, eps=1e-6), drop_path=0.0):
        super().__init__()
        self.norm1, self.norm2 = norm(width), norm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = Mlp(width)
        self.gamma = Parameter(torch.ones(width) * 1e-4)
        self.drop_path = DropPath(drop_path) if drop_path > 0.0 else nn.Identity()

    def forward(self, x):
        y = self.norm1(x)
        x = x + self.drop_path(self.gamma * self.attn(y, y, y, need_weights=False)[0])
        return x + self.drop_path(self.mlp(self.norm2(x)))


class ViT(nn.Module):
    def __init__(self, width=64, depth=4, heads=4, classes=10, use_checkpoint=False):
        super().__init__()
        self.patches = Patches(width=width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, self.patches.num + 1, width))
        dpr = [x.item() for x in torch.linspace(0, 0.1, depth)]
        self.blocks = nn.ModuleDict({f"block{i}": Block(width, heads, drop_path=dpr[i]) for i in range(depth)})
        self.use_checkpoint = use_checkpoint
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes) if classes > 0 else nn.Identity()
        trunc_normal_(self.pos_embed, std=0.02)
        self.apply(init_weights)

    def forward(self, x):
        x = self.patches(x)
        x = torch.cat((self.cls_token.expand(x.shape[0], -1, -1), x), dim=1) + self.pos_embed
        for name, block in self.blocks.items():
            x = checkpoint(block, x, use_reentrant=False) if self.use_checkpoint and self.training else block(x)
        return self.head(self.norm(x)[:, 0])


def init_weights(m):
    if isinstance(m, nn.Linear):
        trunc_normal_(m.weight, std=1 / math.sqrt(m.in_features))
''',
    "variational-autoencoder": '''
from typing import NamedTuple

import torch
from torch import nn
from torch.distributions import Normal, kl_divergence


class Output(NamedTuple):
    reconstruction: torch.Tensor
    mu: torch.Tensor
    logvar: torch.Tensor


class VAE(nn.Module):
    def __init__(self, inputs: int = 784, hidden: int = 400, latent: int = 20) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU())
        self.mu, self.logvar = nn.Linear(hidden, latent), nn.Linear(hidden, latent)
        self.decoder = nn.Sequential(nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, inputs), nn.Sigmoid())

    def encode(self, x):
        h = self.encoder(x)
        return self.mu(h), self.logvar(h)

    def reparameterize(self, mu: torch.Tensor, logvar: torch.Tensor) -> torch.Tensor:
        std = torch.exp(0.5 * logvar)
        eps = torch.randn_like(std)
        return mu + eps * std

    def forward(self, x: torch.Tensor) -> Output:
        mu, logvar = self.encode(x.view(-1, 784))
        return Output(self.decoder(self.reparameterize(mu, logvar)), mu, logvar)

    def divergence(self, out: Output) -> torch.Tensor:
        return kl_divergence(Normal(out.mu, out.logvar.exp().sqrt()), Normal(0.0, 1.0)).sum()
''',
    "efficientnet-parts": '''
import torch
from torch import nn
from torch.autograd import Function
from torch.nn import functional as F


class SwishImplementation(Function):
    @staticmethod
    def forward(ctx, i):
        result = i * torch.sigmoid(i)
        ctx.save_for_backward(i)
        return result

    @staticmethod
    def backward(ctx, grad_output):
        i = ctx.saved_tensors[0]
        sigmoid_i = torch.sigmoid(i)
        return grad_output * (sigmoid_i * (1 + i * (1 - sigmoid_i)))


class Swish(nn.Module):
    def forward(self, x):
        return SwishImplementation.apply(x)


class SqueezeExcite(nn.Module):
    def __init__(self, channels, reduction=4):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(nn.Conv2d(channels, channels // reduction, 1), Swish(), nn.Conv2d(channels // reduction, channels, 1), nn.Sigmoid())

    def forward(self, x):
        return x * self.fc(self.pool(x))


class MBConv(nn.Module):
    SETTINGS = [
        # expand, channels, repeats, stride, kernel
        (1, 16, 1, 1, 3),
        (6, 24, 2, 2, 3),
        (6, 40, 2, 2, 5),
    ]

    def __init__(self):
        super().__init__()
        blocks, width = [], 32
        for t, c, n, s, k in self.SETTINGS:
            for i in range(n):
                blocks.append(nn.Conv2d(width, c, k, s if i == 0 else 1, k // 2))
                width = c
        self.blocks = nn.Sequential(*blocks)
        self.se = SqueezeExcite(width)
        self.upsample = lambda x: F.interpolate(x, scale_factor=2.0, mode="nearest")

    def forward(self, x):
        return self.upsample(self.se(self.blocks(x))).mean([2, 3])
''',
    "graph-network": '''
from collections import defaultdict

import torch
from torch import Tensor, nn


class GraphConv(nn.Module):
    """A layer of a graph network over a list of edges."""

    def __init__(self, inp: int, out: int, *, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inp, out))
        if bias:
            self.bias = nn.Parameter(torch.zeros(out))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.xavier_uniform_(self.weight, gain=nn.init.calculate_gain("relu"))

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        source, target = edges
        messages = (x @ self.weight).index_select(0, source)
        out = torch.zeros(x.size(0), messages.size(1), device=x.device, dtype=x.dtype)
        out = out.index_add(0, target, messages)
        degree = torch.bincount(target, minlength=x.size(0)).clamp_(min=1).unsqueeze(1)
        out = out / degree
        return out if self.bias is None else out + self.bias


class GraphNet(nn.Module):
    LAYERS = 3

    def __init__(self) -> None:
        super().__init__()
        sizes = [16] + [32] * self.LAYERS
        self.convs = nn.ModuleList(GraphConv(a, b) for a, b in zip(sizes, sizes[1:]))
        self.counts: dict[str, int] = defaultdict(int)
        for i, conv in enumerate(self.convs, start=1):
            setattr(conv, "level", i)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        for conv in self.convs:
            x = torch.relu(conv(x, edges))
        return x.mean(0, keepdim=True)
''',
    "complex-fourier": '''
import torch
import torch.fft
from torch import nn


class SpectralConv2d(nn.Module):
    """Fourier layer: FFT, a linear transform, inverse FFT."""

    def __init__(self, in_channels, out_channels, modes1, modes2):
        super().__init__()
        self.modes1, self.modes2 = modes1, modes2
        scale = 1 / (in_channels * out_channels)
        self.weights1 = nn.Parameter(scale * torch.rand(in_channels, out_channels, modes1, modes2, dtype=torch.cfloat))

    def compl_mul2d(self, input, weights):
        # (batch, in_channel, x,y ), (in_channel, out_channel, x,y) -> (batch, out_channel, x,y)
        return torch.einsum("bixy,ioxy->boxy", input, weights)

    def forward(self, x):
        x_ft = torch.fft.rfft2(x)
        out_ft = torch.zeros(x.shape[0], 8, x.size(-2), x.size(-1) // 2 + 1, dtype=torch.cfloat, device=x.device)
        out_ft[:, :, : self.modes1, : self.modes2] = self.compl_mul2d(x_ft[:, :, : self.modes1, : self.modes2], self.weights1)
        return torch.fft.irfft2(out_ft, s=(x.size(-2), x.size(-1)))


class FNO(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = SpectralConv2d(8, 8, 4, 4)
        self.w = nn.Conv2d(8, 8, 1)

    def forward(self, x):
        return torch.nn.functional.gelu(self.layer(x) + self.w(x))
''',
    "yolo-head": '''
import math

import torch
import torch.nn as nn

ANCHORS = (
    (10, 13, 16, 30, 33, 23),
    (30, 61, 62, 45, 59, 119),
)


def autopad(k, p=None):
    if p is None:
        p = k // 2 if isinstance(k, int) else [x // 2 for x in k]
    return p


class Conv(nn.Module):
    default_act = nn.SiLU()

    def __init__(self, c1, c2, k=1, s=1, p=None, g=1, act=True):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, autopad(k, p), groups=g, bias=False)
        self.bn = nn.BatchNorm2d(c2)
        self.act = self.default_act if act is True else act if isinstance(act, nn.Module) else nn.Identity()

    def forward(self, x):
        return self.act(self.bn(self.conv(x)))

    def forward_fuse(self, x):
        return self.act(self.conv(x))


class Detect(nn.Module):
    stride = None
    export = False

    def __init__(self, nc=80, anchors=ANCHORS, ch=(64, 128)):
        super().__init__()
        self.nc, self.no = nc, nc + 5
        self.nl, self.na = len(anchors), len(anchors[0]) // 2
        self.grid = [torch.empty(0) for _ in range(self.nl)]
        self.register_buffer("anchors", torch.tensor(anchors).float().view(self.nl, -1, 2))
        self.m = nn.ModuleList(nn.Conv2d(x, self.no * self.na, 1) for x in ch)
        self.obj = Conv(ch[0], 1)
        for mi, s in zip(self.m, (8, 16)):
            b = mi.bias.view(self.na, -1)
            b.data[:, 4] += math.log(8 / (640 / s) ** 2)
            mi.bias = torch.nn.Parameter(b.view(-1), requires_grad=True)

    def forward(self, x):
        z = []
        for i in range(self.nl):
            bs, _, ny, nx = x[i].shape
            y = self.m[i](x[i]).view(bs, self.na, self.no, ny, nx).permute(0, 1, 3, 4, 2).contiguous()
            if self.grid[i].shape[2:4] != y.shape[2:4]:
                self.grid[i] = self._make_grid(nx, ny).to(x[i].device)
            z.append(y.sigmoid().view(bs, -1, self.no))
        return torch.cat(z, 1), self.obj(x[0])

    @staticmethod
    def _make_grid(nx=20, ny=20):
        yv, xv = torch.meshgrid([torch.arange(ny), torch.arange(nx)], indexing="ij")
        return torch.stack((xv, yv), 2).view((1, 1, ny, nx, 2)).float()
''',
    "mixture-of-experts": '''
import typing as t

import numpy as np
import torch
from torch import nn


class Expert(nn.Sequential):
    def __init__(self, width: int, hidden: t.Optional[int] = None):
        super().__init__(nn.Linear(width, hidden or width * 4), nn.SiLU(), nn.Linear(hidden or width * 4, width))


class Router(nn.Module):
    def __init__(self, width: int, experts: int, k: int = 2, noise: float = 0.0):
        super().__init__()
        self.gate = nn.Linear(width, experts, bias=False)
        self.k, self.noise = k, noise

    @torch.jit.ignore
    def describe(self) -> str:
        return f"{self.k} of {self.gate.out_features}"

    def forward(self, x):
        logits = self.gate(x)
        if self.training and self.noise > 0:
            logits = logits + torch.randn_like(logits) * self.noise
        weights, chosen = logits.softmax(-1).topk(self.k, dim=-1)
        return weights / weights.sum(-1, keepdim=True), chosen


class MixtureOfExperts(nn.Module):
    def __init__(self, width: int = 32, experts: int = 4):
        nn.Module.__init__(self)
        self.router = Router(width, experts)
        self.experts = nn.ModuleList([Expert(width) for _ in range(experts)])
        init = np.random.RandomState(0).normal(size=(width,)).astype("float32")
        self.scale = nn.Parameter(torch.from_numpy(init))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.reshape(-1, x.size(-1))
        weights, chosen = self.router(flat)
        out = torch.zeros_like(flat)
        for index, expert in enumerate(self.experts):
            rows, place = torch.where(chosen == index)
            if rows.numel() == 0:
                continue
            out.index_add_(0, rows, expert(flat[rows]) * weights[rows, place, None])
        return (out * self.scale).view_as(x)

    def __len__(self) -> int:
        return len(self.experts)

    def __getitem__(self, index: int) -> nn.Module:
        return self.experts[index]
''',
    "two-towers": '''
import torch
import torch.nn as nn

ACTIVATIONS = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "leaky": lambda: nn.LeakyReLU(0.1),
}


class Tower(nn.Module):
    """Layers by a list of sizes."""

    class Residual(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return x + self.inner(x)

    def __init__(self, sizes, activation="relu", bn=True):
        super().__init__()
        try:
            make = ACTIVATIONS[activation]
        except KeyError as e:
            raise ValueError(f"unknown activation {activation}: one of {', '.join(ACTIVATIONS)}") from e
        layers = []
        for i, (a, b) in enumerate(zip(sizes, sizes[1:])):
            layers.append((f"lin{i}", nn.Linear(a, b)))
            if bn:
                layers.append((f"bn{i}", nn.BatchNorm1d(b)))
            layers.append((f"act{i}", make()))
        for name, layer in layers:
            self.add_module(name, layer)
        self.last = self.Residual(nn.Linear(sizes[-1], sizes[-1]))

    def forward(self, x):
        for name, child in self.named_children():
            x = child(x)
        return x


class TwoTowers(nn.Module):
    def __init__(self, user=(16, 32), item=(24, 32)):
        super().__init__()
        self.user, self.item = Tower(user), Tower(item, "tanh")
        self.log_temperature = nn.Parameter(torch.tensor(0.0))

    def forward(self, user, item):
        u = nn.functional.normalize(self.user(user), dim=-1)
        i = nn.functional.normalize(self.item(item), dim=-1)
        return (u * i).sum(-1) / self.log_temperature.exp()
''',
}
