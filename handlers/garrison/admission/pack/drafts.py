"""Contracts for stock archives: what stock's handlers do, written as what is promised, with limits that stock lacks.

A draft is for a person to read and to keep. It says what is known from the archive and from stock's handler; where
neither says it, there is no draft.
"""

from collections.abc import Collection
from dataclasses import dataclass

from garrison.admission.rules.server_settings import ServerSettings
from garrison.admission.settings import Limits

ITEM_BYTES = 224 * 224 * 3 * 4  # float32
MAX_ITEMS, MAX_DELAY_MS, QUEUE, TIMEOUT_S = 8, 5, 64, 60
CEILINGS = {"count": 64, "queue": 10_000, "timeout_s": 600, "max_items": 1024, "max_delay_ms": 10_000}  # of contracts
MIB = 2**20
STOCK_VOCABULARY = "source_vocab.pt"

_HEAD = """\
# Written by `garrison pack --from`: what the archive says, what stock's {stock} does, and limits that stock lacks.
# Read it, change what does not fit, keep it beside the weights, and give it with --contract from then on.
garrison: 1
model: {model}
version: "{version}"              # raise it with every release: an older version never replaces a newer one
task: {task}

inputs:
  image:
    kind: image
    formats: [jpeg, png]          # stock takes whatever Pillow can open: every further decoder is more code to attack
    max_bytes: 8MiB               # a 12-megapixel photo is 2 to 6 MB
    min_side: 8
    max_side: 8192                # the longest side of today's cameras
    max_pixels: 25_000_000        # a 24-megapixel photo; from the header, before any pixel is decoded
    max_frames: 1
    colour: rgb
    resize: {{short_side: 256, crop: 224}}    # as stock: the shorter side to 256, then a centred square
    normalise: {{mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}}  # as stock: ImageNet's

batch:
  max_items: {max_items}
  max_delay_ms: {max_delay_ms}
  max_bytes: {max_mib}MiB

workers:
  count: {count}
  queue: {queue}
  timeout_s: {timeout_s}

outputs:
"""
_CLASSES = """\
  labels: {labels}
  top_k: 5                        # as stock
  decimals: 4                     # enough to rank; more would leak the model's exact scores
"""
_PIXELS = """\
  decimals: 4                     # enough to rank; an answer has 50,176 scores
  max_bytes: 2MiB                 # as many pairs such as [10, 0.9712]
"""


@dataclass(frozen=True)
class Numbers:
    """The numbers of a draft that a stock archive may choose, within the operator's bounds."""

    count: int
    queue: int
    timeout_s: int
    max_items: int
    max_delay_ms: int


def choose_numbers(settings: ServerSettings, limits: Limits) -> tuple[Numbers, list[str]]:
    """Return what an archive asks for, or what is usual, and a sentence for each number that had to be lowered."""
    usual = {"count": 1, "queue": QUEUE, "timeout_s": TIMEOUT_S, "max_items": MAX_ITEMS, "max_delay_ms": MAX_DELAY_MS}
    asked = {
        "count": settings.workers,
        "queue": settings.queue,
        "timeout_s": settings.timeout_s,
        "max_items": settings.max_items,
        "max_delay_ms": settings.max_delay_ms,
    }
    bounds = {"count": limits.max_workers, "queue": limits.max_queue, "timeout_s": limits.max_timeout_s}
    chosen: dict[str, int] = {}
    changes = []
    for key, value in asked.items():
        most = min(CEILINGS[key], bounds.get(key, CEILINGS[key]))
        chosen[key] = min(usual[key] if value is None else value, most)
        if value is not None and value > most:
            changes.append(f"{key}: {value} is more than is allowed here; the contract says {most}")
    return Numbers(**chosen), changes


def draft_contract(stock: str, task: str, model: str, version: str, labels: str, numbers: Numbers) -> str:
    """Return the contract (YAML) of an image classifier or segmenter; `labels` is empty where there are none."""
    needed = -(-ITEM_BYTES * numbers.max_items // MIB)
    head = _HEAD.format(stock=stock, task=task, model=model, version=version, max_mib=max(64, needed), **vars(numbers))
    if task == "image-segmentation":
        return head + (f"  labels: {labels}\n" if labels else "") + _PIXELS
    return head + _CLASSES.format(labels=labels)


def explain_missing(stock: str, task: str, files: Collection[str]) -> str:
    """Say what has to be written where an archive does not say enough for a contract."""
    if task == "object-detection":
        return (
            "handler object_detector: stock gives the network pictures of any size, one by one; here a contract says "
            "the size. Copy models/scenes/contract.yaml, write the size that the network was trained with under "
            "inputs.image.resize, such as {width: 800, height: 800}, colour: rgb, and the labels; give it with "
            "--contract"
        )
    if task == "text-classification":
        found = (
            f"{STOCK_VOCABULARY} is a pickle, which runs code when it is read; " if STOCK_VOCABULARY in files else ""
        )
        return (
            f'handler text_classifier: {found}write the vocabulary as JSON, {{"<unk>": 0, "first": 1, ...}}, name it '
            "under inputs.text.vocabulary in a contract such as models/languages/contract.yaml, and give both with "
            "--contract and --extra-files. The network gets (items, tokens) there, not stock's tokens and offsets"
        )
    return f"handler {stock}: the archive does not say what goes in and out; write a contract, give it with --contract"
