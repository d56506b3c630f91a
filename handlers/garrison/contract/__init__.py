"""The model's contract: what may go in, what may come out, and how much at once.

A YAML file enters, frozen dataclasses leave. It is the single source of truth: the handler's checks, the gateway's
route, body limit and timeout, the batch and queue bounds and `garrison describe` all come from it. A limit that is
missing, zero or negative is an error; there is no value that means "unlimited".

It does not defend against a careless author: limits that are far too wide are accepted up to the ceilings in `bounds`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from garrison.contract.bounds import FILE_NAME, INPUT_NAME, JSON_NAME, MAX_BATCH_BYTES, MODEL_NAME, Input
from garrison.contract.explanations import ABLATION, GRADIENTS, Explanations, read_explanations
from garrison.contract.image import ImageInput, Resize, Stretch, read_image_input
from garrison.contract.signatures import (
    BytesElement,
    ExampleElement,
    ImageElement,
    Output,
    Signature,
    StringInput,
    TextElement,
    read_signatures,
)
from garrison.contract.table import Column, TableInput, read_table_input
from garrison.contract.tensor import TensorInput, read_tensor_input
from garrison.contract.text import TextInput, read_text_input
from garrison.settings import Settings, load_settings, parse_settings

__all__ = [
    "ABLATION",
    "FILE_NAME",
    "GRADIENTS",
    "MODEL_NAME",
    "TASKS",
    "TENSORFLOW",
    "TFSERVING",
    "TORCHSERVE",
    "Batch",
    "BytesElement",
    "Column",
    "Contract",
    "ExampleElement",
    "Explanations",
    "ImageElement",
    "ImageInput",
    "Input",
    "Output",
    "Outputs",
    "Resize",
    "Signature",
    "Stretch",
    "StringInput",
    "TableInput",
    "TensorInput",
    "TextElement",
    "TextInput",
    "Workers",
    "count_room",
    "count_server_bytes",
    "load_contract",
    "parse_contract",
]

READERS: dict[str, Callable[[str, Settings], Input]] = {
    "image": read_image_input,
    "tensor": read_tensor_input,
    "text": read_text_input,
    "table": read_table_input,
}
TASKS = {  # task: the kind of its one input, or nothing where the author chooses
    "image-classification": "image",
    "object-detection": "image",
    "image-segmentation": "image",
    "text-classification": "text",
    "tabular": "table",
    "tensor": "tensor",
    "custom": "",
}
TENSORFLOW = "tensorflow"  # the task of a SavedModel, which has signatures instead of inputs
TORCHSERVE, TFSERVING = "torchserve", "tfserving"  # which server a model is for
LABEL = r"[A-Za-z0-9_.-]{1,64}"
LABELLED_TASKS = ("image-classification", "object-detection", "text-classification")
VERSION = r"[0-9]{1,6}(\.[0-9]{1,6}){0,2}"
WHOLE_VERSION = r"[1-9][0-9]{0,5}"  # TensorFlow Serving counts versions, from 1
WORKERS = "{count: 2, queue: 64, timeout_s: 10}"
MAX_INPUTS = 16
MAX_ANSWER_BYTES = 16 * 2**20
MIN_SERVER_BYTES = 512 * 2**20
MAX_SERVER_BYTES = 2 * 2**30
BODY_COPIES = 2  # a request's body in the model server's memory, while it is received and while it waits
MAX_GPU_BYTES = 2**40


@dataclass(frozen=True)
class Batch:
    """Bounds of what is put through the model at once.

    A batch holds at most `max_items` items from any number of requests; one request brings at most `max_instances`.
    `max_gpu_bytes` bounds what a worker may allocate on its GPU; None where the contract does not say.
    """

    max_items: int
    max_delay_ms: int
    max_bytes: int
    max_instances: int
    max_gpu_bytes: int | None = None


@dataclass(frozen=True)
class Workers:
    """Worker processes of one model, and how long a request may wait and run."""

    count: int
    queue: int
    timeout_s: int


@dataclass(frozen=True)
class Outputs:
    """What a client may learn from one answer; `labels` is empty where a model has none."""

    labels: str
    top_k: int
    decimals: int
    min_score: float
    label_only: bool
    max_bytes: int


@dataclass(frozen=True)
class Contract:
    """Everything that is promised about one version of one model; no client is told why without `explanations`.

    A SavedModel has `signatures` and no `inputs`; clients may ask for its version by one of `version_labels`.
    """

    model: str
    version: str
    task: str
    inputs: tuple[Input, ...]
    batch: Batch
    workers: Workers
    outputs: Outputs
    explanations: Explanations | None = None
    signatures: tuple[Signature, ...] = ()
    version_labels: tuple[str, ...] = ()

    @property
    def server(self) -> str:
        """Which server it is for: `torchserve` or `tfserving`."""
        return TFSERVING if self.task == TENSORFLOW else TORCHSERVE

    @property
    def item_bytes(self) -> int:
        """Bytes of one item as it reaches the model, all inputs together; of the largest signature, if it has some."""
        if self.signatures:
            return max(signature.row_bytes for signature in self.signatures)
        return sum(item.item_bytes for item in self.inputs)

    @property
    def max_body_bytes(self) -> int:
        """Largest request body that can hold what the contract accepts, in any of the accepted forms."""
        if self.signatures:
            return self.batch.max_instances * max(signature.row_json_bytes for signature in self.signatures)
        raw = max((item.max_bytes for item in self.inputs if "raw" in item.forms), default=0)
        forms = {form for item in self.inputs for form in item.forms}
        one = sum(item.max_json_bytes for item in self.inputs) if forms - {"raw"} or len(self.inputs) > 1 else 0
        return max(raw, one * self.batch.max_instances)


def count_room(contracts: Sequence[Contract]) -> int:
    """Count the requests that the model server is given at once: what queues and batches hold, and memory allows."""
    wanted = sum(c.workers.queue + c.workers.count * c.batch.max_items for c in contracts)
    return max(1, min(wanted, MAX_SERVER_BYTES // (BODY_COPIES * _largest_body(contracts))))


def count_server_bytes(contracts: Sequence[Contract]) -> int:
    """Return how much memory the model server needs for as many of the largest requests as it is given at once."""
    return max(MIN_SERVER_BYTES, BODY_COPIES * _largest_body(contracts) * count_room(contracts))


def _largest_body(contracts: Sequence[Contract]) -> int:
    return max((contract.max_body_bytes for contract in contracts), default=1)


def load_contract(path: Path) -> Contract:
    """Read a contract from a file.

    Raises:
        ConfigError: with every problem of the file, each naming the key and what to write instead.
    """
    return _read_contract(load_settings(path))


def parse_contract(data: bytes, file: str) -> Contract:
    """Read a contract from bytes, as found in an archive; `file` names it in messages.

    Raises:
        ConfigError: as for `load_contract`.
    """
    return _read_contract(parse_settings(data, file))


def _read_contract(settings: Settings) -> Contract:
    settings.integer("garrison", 1, 1)
    task = settings.choice("task", (*TASKS, TENSORFLOW))
    if task == TENSORFLOW:
        contract = _read_tensorflow(settings)
    else:
        contract = Contract(
            model=_read_model(settings),
            version=settings.text("version", VERSION, 'a version such as "3" or "1.2", in quotes'),
            task=task,
            inputs=(inputs := _read_inputs(settings.section("inputs", "a mapping of input names"), task)),
            batch=_read_batch(settings.section("batch", "{max_items: 8, max_delay_ms: 1, max_bytes: 256MiB}")),
            workers=_read_workers(settings.section("workers", WORKERS)),
            outputs=_read_outputs(settings.section("outputs", "{labels: labels.json, top_k: 5, decimals: 3}"), task),
            explanations=read_explanations(settings, task, inputs),
        )
        _check_together(settings, contract)
    settings.finish()
    return contract


def _read_tensorflow(settings: Settings) -> Contract:
    """Read the contract of a SavedModel. What it gives is said by its signatures, all but the size of an answer."""
    outputs = settings.section("outputs", "{max_bytes: 1MiB}", required=False)
    most = outputs.size("max_bytes", MAX_ANSWER_BYTES, default=2**20)
    contract = Contract(
        model=_read_model(settings),
        version=settings.text("version", WHOLE_VERSION, 'a whole number such as "3", in quotes'),
        task=TENSORFLOW,
        inputs=(),
        batch=_read_batch(settings.section("batch", "{max_items: 8, max_delay_ms: 1, max_bytes: 256MiB}")),
        workers=_read_workers(settings.section("workers", WORKERS)),
        outputs=Outputs(labels="", top_k=1, decimals=9, min_score=0.0, label_only=False, max_bytes=most),
        signatures=read_signatures(settings),
        version_labels=settings.texts("version_labels", LABEL, "a label such as stable", default=(), may_be_empty=True),
    )
    if settings.sound("batch") and contract.batch.max_instances > contract.batch.max_items:
        settings.problem(
            "batch.max_instances", "a request may bring no more rows than the model takes at once: max_items"
        )
    _check_batch_bytes(settings, contract, "signatures")
    return contract


def _read_model(settings: Settings) -> str:
    return settings.text("model", MODEL_NAME, "a name of letters, digits, - and _, at most 64 long")


def _read_inputs(settings: Settings, task: str) -> tuple[Input, ...]:
    return tuple(_read_input(name, item, task) for name, item in settings.sections(INPUT_NAME, "an input's name"))


def _read_input(name: str, settings: Settings, task: str) -> Input:
    kinds = (TASKS[task],) if TASKS[task] else tuple(READERS)
    return READERS[settings.choice("kind", kinds)](name, settings)


def _read_batch(settings: Settings) -> Batch:
    return Batch(
        max_items=settings.integer("max_items", 1, 1024),
        max_delay_ms=settings.integer("max_delay_ms", 1, 10_000),
        max_bytes=settings.size("max_bytes", MAX_BATCH_BYTES),
        max_instances=settings.integer("max_instances", 1, 1024, default=1),
        max_gpu_bytes=settings.size("max_gpu_bytes", MAX_GPU_BYTES) if "max_gpu_bytes" in settings else None,
    )


def _read_workers(settings: Settings) -> Workers:
    return Workers(
        count=settings.integer("count", 1, 64),
        queue=settings.integer("queue", 1, 10_000),
        timeout_s=settings.integer("timeout_s", 1, 600),
    )


def _read_outputs(settings: Settings, task: str) -> Outputs:
    meaning = "the name of a .json file beside the contract"
    labelled = task in LABELLED_TASKS or "labels" in settings
    ranked = task in LABELLED_TASKS or (task == "tabular" and labelled) or "top_k" in settings
    return Outputs(
        labels=settings.text("labels", JSON_NAME, meaning) if labelled else "",
        top_k=settings.integer("top_k", 1, 1000) if ranked else 1,
        decimals=settings.integer("decimals", 0, 9),
        min_score=settings.number("min_score", 0, 1, default=0.0),
        label_only=settings.flag("label_only", default=False),
        max_bytes=settings.size("max_bytes", MAX_ANSWER_BYTES, default=2**20),
    )


def _check_together(settings: Settings, contract: Contract) -> None:
    most = 1 if TASKS[contract.task] else MAX_INPUTS
    if not 1 <= len(contract.inputs) <= most and settings.sound("inputs"):
        wanted = "exactly one input" if most == 1 else f"1 to {most} inputs"
        settings.problem("inputs", f"{contract.task} takes {wanted}")
        return
    if contract.explanations is not None and contract.outputs.label_only:
        settings.problem("explanations", "its numbers are what outputs.label_only holds back; take one of the two out")
    _check_batch_bytes(settings, contract, "inputs")


def _check_batch_bytes(settings: Settings, contract: Contract, key: str) -> None:
    if settings.sound(key, "batch") and contract.item_bytes > contract.batch.max_bytes:
        settings.problem("batch.max_bytes", f"one item needs {contract.item_bytes} bytes; write at least that")
