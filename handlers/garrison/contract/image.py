"""Image inputs: what a picture may be, and what becomes of it before it reaches the model."""

from dataclasses import dataclass

from garrison.contract.bounds import JSON_OVERHEAD_BYTES, MAX_INPUT_BYTES
from garrison.settings import Settings

IMAGE_FORMATS = ("jpeg", "png", "webp", "gif", "bmp", "tiff")
IMAGE_FORMS = ("raw", "json", "list")
DEFAULT_FORMS = ("raw", "json")
CHANNELS = {"grey": 1, "rgb": 3}
MAX_SIDE_PIXELS = 65_535  # JPEG's own limit
MAX_TENSOR_SIDE_PIXELS = 4_096
LIST_BYTES_PER_VALUE = 5  # three digits, a comma and a blank or bracket


@dataclass(frozen=True)
class Resize:
    """Scale the shorter side to `short_side_pixels`, then cut a centred square of `crop_pixels`."""

    short_side_pixels: int
    crop_pixels: int


@dataclass(frozen=True)
class Stretch:
    """Scale the whole picture to `width_pixels` by `height_pixels`, whatever its proportions."""

    width_pixels: int
    height_pixels: int


@dataclass(frozen=True)
class ImageInput:
    """One image: uint8 pixels of shape (height, width, channels) after the checks.

    Exactly one of `resize` and `exact` is set. `mean` and `std` have one value per channel and apply to pixels
    scaled to 0..1. Forms: `raw` bytes, `json` with base64, `list` for nested lists of 0..255 of the final shape.
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
    resize: Resize | Stretch | None
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
        if isinstance(self.resize, Resize):
            return (self.resize.crop_pixels, self.resize.crop_pixels, self.channels)
        if isinstance(self.resize, Stretch):
            return (self.resize.height_pixels, self.resize.width_pixels, self.channels)
        return self.exact or (1, 1, self.channels)  # the loader sets exactly one of the two

    @property
    def item_bytes(self) -> int:
        """Bytes of one item as float32."""
        height, width, channels = self.shape
        return height * width * channels * 4

    @property
    def max_json_bytes(self) -> int:
        """Bytes of the largest acceptable image as base64 or nested lists."""
        encoded = (self.max_bytes + 2) // 3 * 4 if "json" in self.forms else 0
        listed = self.item_bytes // 4 * LIST_BYTES_PER_VALUE if "list" in self.forms else 0
        return max(encoded, listed) + JSON_OVERHEAD_BYTES


def read_image_input(name: str, settings: Settings) -> ImageInput:
    """Read the section of an image input; problems are noted in `settings`."""
    colour = settings.choice("colour", tuple(CHANNELS))
    channels = CHANNELS[colour]
    resize, exact = _read_shape(settings, channels)
    mean, std = _read_normalise(settings, channels)
    image = ImageInput(
        name=name,
        formats=settings.choices("formats", IMAGE_FORMATS),
        forms=settings.choices("forms", IMAGE_FORMS, default=DEFAULT_FORMS),
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
    if image.exact is not None and settings.sound("exact", "min_side", "max_side", "max_pixels"):
        height, width, _ = image.exact
        if not (image.min_side_pixels <= min(height, width) and max(height, width) <= image.max_side_pixels):
            settings.problem("exact", "an image of this size breaks min_side or max_side; no image could pass")
        if height * width > image.max_pixels:
            settings.problem("exact", "an image of this size breaks max_pixels; no image could pass")
    if settings.sound("min_side", "max_pixels") and image.min_side_pixels**2 > image.max_pixels:
        settings.problem("max_pixels", f"{image.max_pixels} is less than an image of min_side by min_side")
    return image


def _read_shape(settings: Settings, channels: int) -> tuple[Resize | Stretch | None, tuple[int, int, int] | None]:
    if "exact" in settings and "resize" in settings:
        settings.problem("exact", "write either exact or resize, not both")
    if "exact" in settings:
        height, width, depth = settings.integers("exact", 3, 1, MAX_TENSOR_SIDE_PIXELS)
        if settings.sound("exact", "colour") and depth != channels:
            settings.problem("exact", f"the third number is the channels; this colour has {channels}")
        return None, (height, width, depth)
    meaning = "{short_side: 256, crop: 224} or {width: 320, height: 240}, or exact: [height, width, channels]"
    section = settings.section("resize", meaning)
    if "width" in section or "height" in section:
        width = section.integer("width", 1, MAX_TENSOR_SIDE_PIXELS)
        return Stretch(width, section.integer("height", 1, MAX_TENSOR_SIDE_PIXELS)), None
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
