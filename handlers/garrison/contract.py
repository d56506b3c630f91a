"""The model's contract: what may go in, what may come out, and how much at once.

A YAML file enters, frozen dataclasses leave. It is the single source of truth: the handler's checks, the gateway's
route, body limit and timeout, the batch and queue bounds and `garrison describe` all come from it. A limit that is
missing, zero or negative is an error; there is no value that means "unlimited".

It does not defend against a careless author: limits that are far too wide are accepted up to the ceilings below.
"""

from dataclasses import dataclass
from pathlib import Path

from garrison.settings import Settings, load_settings, parse_settings

MODEL_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
FILE_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}"
TASKS = ("image-classification",)
IMAGE_FORMATS = ("jpeg", "png", "webp", "gif", "bmp", "tiff")
IMAGE_FORMS = ("raw", "json")
CHANNELS = {"grey": 1, "rgb": 3}

MAX_INPUT_BYTES = 64 * 2**20  # TorchServe holds a request in memory several times
MAX_BATCH_BYTES = 16 * 2**30
MAX_SIDE_PIXELS = 65_535  # JPEG's own limit
MAX_TENSOR_SIDE_PIXELS = 4_096
JSON_OVERHEAD_BYTES = 4_096  # keys, quotes and white space around one base64 string


@dataclass(frozen=True)
class Resize:
    """Scale the shorter side to `short_side_pixels`, then cut a centred square of `crop_pixels`."""

    short_side_pixels: int
    crop_pixels: int


@dataclass(frozen=True)
class ImageInput:
    """One image: uint8 pixels of shape (height, width, channels) after the checks.

    Exactly one of `resize` and `exact` is set. `mean` and `std` have one value per channel and apply to pixels
    scaled to 0..1.
    """

    name: str
    formats: tuple[str, ...]
    forms: tuple[str, ...]
    max_bytes: int
    min_side_pixels: int
    max_side_pixels: int
    max_pixels: int
    max_frames: int
    colour: str
    resize: Resize | None
    exact: tuple[int, int, int] | None
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def channels(self) -> int:
        """Number of colour channels that reach the model."""
        return CHANNELS[self.colour]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (height, width, channels) of the array that the checks return."""
        if self.resize is not None:
            return (self.resize.crop_pixels, self.resize.crop_pixels, self.channels)
        return self.exact or (1, 1, self.channels)  # the loader sets exactly one of the two

    @property
    def tensor_bytes(self) -> int:
        """Bytes of one item as float32, the unit in which a batch is bounded."""
        height, width, channels = self.shape
        return height * width * channels * 4

    @property
    def max_body_bytes(self) -> int:
        """Largest request body that can hold one acceptable input in any of the accepted forms."""
        if "json" in self.forms:
            return (self.max_bytes + 2) // 3 * 4 + JSON_OVERHEAD_BYTES
        return self.max_bytes


@dataclass(frozen=True)
class Batch:
    """Bounds of what is put through the model at once."""

    max_items: int
    max_delay_ms: int
    max_bytes: int


@dataclass(frozen=True)
class Workers:
    """Worker processes of one model, and how long a request may wait and run."""

    count: int
    queue: int
    timeout_s: int


@dataclass(frozen=True)
class Outputs:
    """What a client may learn from one answer."""

    labels: str
    top_k: int
    decimals: int
    min_score: float


@dataclass(frozen=True)
class Contract:
    """Everything that is promised about one version of one model."""

    model: str
    version: str
    task: str
    inputs: tuple[ImageInput, ...]
    batch: Batch
    workers: Workers
    outputs: Outputs

    @property
    def max_body_bytes(self) -> int:
        """Largest request body that the gateway lets through for this model."""
        return max(item.max_body_bytes for item in self.inputs)


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
    contract = Contract(
        model=settings.text("model", MODEL_NAME, "a name of letters, digits, - and _, at most 64 long"),
        version=settings.text("version", r"[0-9]{1,6}(\.[0-9]{1,6}){0,2}", 'a version such as "3" or "1.2", in quotes'),
        task=settings.choice("task", TASKS),
        inputs=_read_inputs(settings.section("inputs", "a mapping of input names")),
        batch=_read_batch(settings.section("batch", "{max_items: 8, max_delay_ms: 5, max_bytes: 256MiB}")),
        workers=_read_workers(settings.section("workers", "{count: 2, queue: 64, timeout_s: 10}")),
        outputs=_read_outputs(settings.section("outputs", "{labels: labels.json, top_k: 5, decimals: 3}")),
    )
    _check_together(settings, contract)
    settings.finish()
    return contract


def _read_inputs(settings: Settings) -> tuple[ImageInput, ...]:
    return tuple(_read_image(name, item) for name, item in settings.sections(r"[a-z][a-z0-9_]{0,31}", "an input name"))


def _read_image(name: str, settings: Settings) -> ImageInput:
    settings.choice("kind", ("image",))
    colour = settings.choice("colour", tuple(CHANNELS))
    channels = CHANNELS[colour]
    resize, exact = _read_shape(settings, channels)
    mean, std = _read_normalise(settings, channels)
    image = ImageInput(
        name=name,
        formats=settings.choices("formats", IMAGE_FORMATS),
        forms=settings.choices("forms", IMAGE_FORMS, default=IMAGE_FORMS),
        max_bytes=settings.size("max_bytes", MAX_INPUT_BYTES),
        min_side_pixels=settings.integer("min_side", 1, MAX_SIDE_PIXELS),
        max_side_pixels=settings.integer("max_side", 1, MAX_SIDE_PIXELS),
        max_pixels=settings.integer("max_pixels", 1, MAX_SIDE_PIXELS**2),
        max_frames=settings.integer("max_frames", 1, 1000),
        colour=colour,
        resize=resize,
        exact=exact,
        mean=mean,
        std=std,
    )
    if settings.sound("min_side", "max_side") and image.min_side_pixels > image.max_side_pixels:
        settings.problem("min_side", f"{image.min_side_pixels} is more than max_side {image.max_side_pixels}")
    if settings.sound("min_side", "max_pixels") and image.min_side_pixels**2 > image.max_pixels:
        settings.problem("max_pixels", f"{image.max_pixels} is less than an image of min_side by min_side")
    return image


def _read_shape(settings: Settings, channels: int) -> tuple[Resize | None, tuple[int, int, int] | None]:
    if "exact" in settings and "resize" in settings:
        settings.problem("exact", "write either exact or resize, not both")
    if "exact" in settings:
        height, width, depth = settings.integers("exact", 3, 1, MAX_TENSOR_SIDE_PIXELS)
        if settings.sound("exact", "colour") and depth != channels:
            settings.problem("exact", f"the third number is the channels; this colour has {channels}")
        return None, (height, width, depth)
    section = settings.section("resize", "{short_side: 256, crop: 224}, or exact: [height, width, channels]")
    resize = Resize(
        short_side_pixels=section.integer("short_side", 1, MAX_TENSOR_SIDE_PIXELS),
        crop_pixels=section.integer("crop", 1, MAX_TENSOR_SIDE_PIXELS),
    )
    if section.sound("short_side", "crop") and resize.crop_pixels > resize.short_side_pixels:
        section.problem("crop", f"{resize.crop_pixels} is more than short_side {resize.short_side_pixels}")
    return resize, None


def _read_normalise(settings: Settings, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if "normalise" not in settings:
        return (0.0,) * channels, (1.0,) * channels
    section = settings.section("normalise", "{mean: [...], std: [...]}")
    mean, std = section.numbers("mean", -10, 10), section.numbers("std", 1e-6, 10)
    for key, values in (("mean", mean), ("std", std)):
        if settings.sound("colour") and section.sound(key) and len(values) != channels:
            section.problem(key, f"needs {channels} number(s), one per channel")
    return mean, std


def _read_batch(settings: Settings) -> Batch:
    return Batch(
        max_items=settings.integer("max_items", 1, 1024),
        max_delay_ms=settings.integer("max_delay_ms", 1, 10_000),
        max_bytes=settings.size("max_bytes", MAX_BATCH_BYTES),
    )


def _read_workers(settings: Settings) -> Workers:
    return Workers(
        count=settings.integer("count", 1, 64),
        queue=settings.integer("queue", 1, 10_000),
        timeout_s=settings.integer("timeout_s", 1, 600),
    )


def _read_outputs(settings: Settings) -> Outputs:
    return Outputs(
        labels=settings.text("labels", FILE_NAME, "the name of a JSON file beside the contract"),
        top_k=settings.integer("top_k", 1, 1000),
        decimals=settings.integer("decimals", 0, 9),
        min_score=settings.number("min_score", 0, 1, default=0.0),
    )


def _check_together(settings: Settings, contract: Contract) -> None:
    if len(contract.inputs) != 1 and settings.sound("inputs"):
        settings.problem("inputs", f"{contract.task} takes exactly one input")
        return
    for item in contract.inputs:
        if settings.sound("inputs", "batch") and item.tensor_bytes > contract.batch.max_bytes:
            settings.problem(
                "batch.max_bytes", f"one item of {item.name} needs {item.tensor_bytes} bytes; write at least that"
            )
