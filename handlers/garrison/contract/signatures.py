"""Signatures: what a SavedModel takes and gives, for the task `tensorflow`, in TensorFlow Serving's own terms.

    signatures:
      serving_default:
        method: predict                    # predict | classify | regress
        inputs:
          pixels: {kind: tensor, dtype: float32, shape: [64], min: 0, max: 16}
          photo: {kind: image, formats: [jpeg, png], max_bytes: 1MiB, min_side: 8, max_side: 4096, max_pixels: 4000000}
          words: {kind: text, shape: [[1, 16]], max_bytes: 64, max_characters: 32}
          key: {kind: bytes, max_bytes: 16}
          examples: {kind: example, max_bytes: 16KiB, features: {age: {kind: tensor, dtype: int64, shape: [1]}}}
        outputs:
          scores: {dtype: float32, shape: [10], decimals: 4}

Shapes are those of one row; the request has the number of rows before them, unless `batched: false` says that the shape
is the whole tensor's. A tensor of strings holds, in each of its places, one text, one encoded image, some bytes or one
serialised tf.Example; without `shape` it is one for each row.
"""

import math
from dataclasses import dataclass

from garrison.contract.bounds import JSON_OVERHEAD_BYTES, MAX_INPUT_BYTES, Input
from garrison.contract.image import IMAGE_FORMATS, MAX_SIDE_PIXELS
from garrison.contract.tensor import SIZES, TensorInput, read_shape, read_tensor_input
from garrison.contract.text import JSON_BYTES_PER_BYTE, NORMAL_FORMS
from garrison.settings import Settings

PREDICT, CLASSIFY, REGRESS = "predict", "classify", "regress"
METHODS = (PREDICT, CLASSIFY, REGRESS)
SERVING_DEFAULT = "serving_default"
SIGNATURE_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.:/ -]{0,127}"  # also of inputs, outputs and features: authors choose freely
STRING = "string"
FEATURE_DTYPES = ("float32", "int64")  # all that a tf.Example knows beside bytes
MAX_SIGNATURES = 16
MAX_TENSORS = 32  # inputs, outputs or features of one signature
MAX_STRINGS = 2**20
BASE64_GROWTH = 4 / 3

Bounds = tuple[tuple[int, int], ...]  # smallest and largest size of each dimension


@dataclass(frozen=True)
class TextElement:
    """One text in UTF-8, checked as `TextInput` is and given to the model in its normal form."""

    max_bytes: int
    min_characters: int
    max_characters: int
    normal_form: str


@dataclass(frozen=True)
class ImageElement:
    """One encoded image: fully checked and decoded for a try, then given to the model as it was sent."""

    formats: tuple[str, ...]
    max_bytes: int
    min_side_pixels: int
    max_side_pixels: int
    max_pixels: int
    max_frames: int


@dataclass(frozen=True)
class BytesElement:
    """Bytes of any content, `min_bytes` to `max_bytes` of them: the model has to bear whatever they are."""

    min_bytes: int
    max_bytes: int


@dataclass(frozen=True)
class ExampleElement:
    """One serialised tf.Example that has exactly these features; strings in it are bytes or text."""

    max_bytes: int
    features: "tuple[TensorInput | StringInput, ...]"


@dataclass(frozen=True)
class StringInput:
    """A tensor of strings whose every dimension lies between its bounds; each holds one `element`."""

    name: str
    shape: Bounds
    element: TextElement | ImageElement | BytesElement | ExampleElement

    @property
    def forms(self) -> tuple[str, ...]:
        """Accepted request forms: a value in JSON, or in a gRPC message."""
        return ("json",)

    @property
    def max_values(self) -> int:
        """Number of strings in the largest acceptable tensor."""
        return math.prod(high for _, high in self.shape)

    @property
    def item_bytes(self) -> int:
        """Bytes of all strings of the largest acceptable tensor."""
        return self.max_values * self.element.max_bytes

    @property
    def max_bytes(self) -> int:
        """Bytes of all strings of the largest acceptable tensor."""
        return self.item_bytes

    @property
    def max_json_bytes(self) -> int:
        """Bytes of the largest acceptable tensor in JSON: escaped text, base64, or the features of tf.Examples."""
        growth = BASE64_GROWTH if isinstance(self.element, ImageElement | BytesElement) else JSON_BYTES_PER_BYTE
        return int(self.item_bytes * growth) + self.max_values * 16 + JSON_OVERHEAD_BYTES


@dataclass(frozen=True)
class Output:
    """One tensor that a signature gives; `decimals` is None where numbers leave as the model gives them.

    `shape` has None where a dimension depends on the input. `max_bytes` bounds one string of a `string` tensor.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    decimals: int | None
    max_bytes: int


@dataclass(frozen=True)
class Signature:
    """One way to ask a SavedModel. With `batched`, every input and output has the number of rows before its shape."""

    name: str
    method: str
    batched: bool
    inputs: tuple[Input, ...]  # TensorInput or StringInput
    outputs: tuple[Output, ...]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row as it reaches the model, all inputs together."""
        return sum(item.item_bytes for item in self.inputs)

    @property
    def row_json_bytes(self) -> int:
        """Bytes of the largest acceptable row in JSON."""
        return sum(item.max_json_bytes for item in self.inputs)


def read_signatures(settings: Settings) -> tuple[Signature, ...]:
    """Read the section `signatures` of a contract; problems are noted in `settings`."""
    section = settings.section("signatures", "{serving_default: {method: predict, inputs: {...}, outputs: {...}}}")
    found = tuple(_read_signature(name, one) for name, one in section.sections(SIGNATURE_NAME, "a signature's name"))
    if settings.sound("signatures") and not 1 <= len(found) <= MAX_SIGNATURES:
        settings.problem("signatures", f"write 1 to {MAX_SIGNATURES} signatures")
    return found


def _read_signature(name: str, settings: Settings) -> Signature:
    method = settings.choice("method", METHODS, default=PREDICT)
    signature = Signature(
        name=name,
        method=method,
        batched=settings.flag("batched", default=True),
        inputs=_read_inputs(settings.section("inputs", "a mapping of the signature's inputs")),
        outputs=_read_outputs(settings.section("outputs", "{scores: {dtype: float32, shape: [10]}}")),
    )
    for key, found in (("inputs", signature.inputs), ("outputs", signature.outputs)):
        if settings.sound(key) and not 1 <= len(found) <= MAX_TENSORS:
            settings.problem(key, f"write 1 to {MAX_TENSORS} of them")
    if method != PREDICT and settings.sound("inputs"):
        _check_examples(signature, settings)
    return signature


def _check_examples(signature: Signature, settings: Settings) -> None:
    only = signature.inputs[0] if len(signature.inputs) == 1 else None
    fits = isinstance(only, StringInput) and isinstance(only.element, ExampleElement) and not only.shape
    if not fits or not signature.batched:
        settings.problem("inputs", f"{signature.method} takes one input of kind example, one for each row")


def _read_inputs(settings: Settings) -> tuple[Input, ...]:
    return tuple(_read_input(name, one) for name, one in settings.sections(SIGNATURE_NAME, "an input's name"))


def _read_input(name: str, settings: Settings) -> Input:
    kind = settings.choice("kind", ("tensor", "text", "image", "bytes", "example"))
    if kind == "tensor":
        return read_tensor_input(name, settings, tuple(SIZES), in_signature=True)
    if kind == "example":
        return _finish_strings(name, settings, _read_example(settings))
    return _read_strings(name, kind, settings)


def _read_strings(name: str, kind: str, settings: Settings) -> StringInput:
    if kind == "text":
        return _finish_strings(name, settings, _read_text(settings))
    if kind == "image":
        return _finish_strings(name, settings, _read_image(settings))
    most = settings.size("max_bytes", MAX_INPUT_BYTES)
    least = settings.integer("min_bytes", 0, MAX_INPUT_BYTES, default=0)
    if settings.sound("min_bytes", "max_bytes") and least > most:
        settings.problem("min_bytes", f"{least} is more than max_bytes {most}")
    return _finish_strings(name, settings, BytesElement(least, most))


def _finish_strings(
    name: str, settings: Settings, element: TextElement | ImageElement | BytesElement | ExampleElement
) -> StringInput:
    shape = read_shape(settings, scalar=True) if "shape" in settings else ()
    strings = StringInput(name, shape, element)
    if settings.sound("shape") and strings.max_values > MAX_STRINGS:
        settings.problem("shape", f"{strings.max_values} strings are more than {MAX_STRINGS}")
    if settings.sound("shape", "max_bytes") and strings.item_bytes > MAX_INPUT_BYTES:
        settings.problem("max_bytes", f"a row would have {strings.item_bytes} bytes; {MAX_INPUT_BYTES} are possible")
    return strings


def _read_text(settings: Settings) -> TextElement:
    text = TextElement(
        max_bytes=settings.size("max_bytes", MAX_INPUT_BYTES // JSON_BYTES_PER_BYTE),
        min_characters=settings.integer("min_characters", 1, 10_000_000, default=1),
        max_characters=settings.integer("max_characters", 1, 10_000_000),
        normal_form=settings.choice("normal_form", NORMAL_FORMS, default="NFC"),
    )
    if settings.sound("min_characters", "max_characters") and text.min_characters > text.max_characters:
        settings.problem("min_characters", f"{text.min_characters} is more than max_characters {text.max_characters}")
    return text


def _read_image(settings: Settings) -> ImageElement:
    image = ImageElement(
        formats=settings.choices("formats", IMAGE_FORMATS),
        max_bytes=settings.size("max_bytes", MAX_INPUT_BYTES),
        min_side_pixels=settings.integer("min_side", 1, MAX_SIDE_PIXELS),
        max_side_pixels=settings.integer("max_side", 1, MAX_SIDE_PIXELS),
        max_pixels=settings.integer("max_pixels", 1, MAX_SIDE_PIXELS**2),
        max_frames=settings.integer("max_frames", 1, 1000, default=1),
    )
    if settings.sound("min_side", "max_side") and image.min_side_pixels > image.max_side_pixels:
        settings.problem("min_side", f"{image.min_side_pixels} is more than max_side {image.max_side_pixels}")
    if settings.sound("min_side", "max_pixels") and image.min_side_pixels**2 > image.max_pixels:
        settings.problem("max_pixels", f"{image.max_pixels} is less than an image of min_side by min_side")
    return image


def _read_example(settings: Settings) -> ExampleElement:
    section = settings.section("features", "{age: {kind: tensor, dtype: int64, shape: [1]}}")
    features = tuple(_read_feature(name, one) for name, one in section.sections(SIGNATURE_NAME, "a feature's name"))
    if settings.sound("features") and not 1 <= len(features) <= MAX_TENSORS:
        settings.problem("features", f"write 1 to {MAX_TENSORS} features")
    return ExampleElement(settings.size("max_bytes", MAX_INPUT_BYTES), features)


def _read_feature(name: str, settings: Settings) -> TensorInput | StringInput:
    kind = settings.choice("kind", ("tensor", "text", "image", "bytes"))
    if kind != "tensor":
        return _read_strings(name, kind, settings)
    return read_tensor_input(name, settings, FEATURE_DTYPES, in_signature=True)


def _read_outputs(settings: Settings) -> tuple[Output, ...]:
    return tuple(_read_output(name, one) for name, one in settings.sections(SIGNATURE_NAME, "an output's name"))


def _read_output(name: str, settings: Settings) -> Output:
    return Output(
        name=name,
        dtype=settings.choice("dtype", (*SIZES, STRING)),
        shape=_read_output_shape(settings),
        decimals=settings.integer("decimals", 0, 15) if "decimals" in settings else None,
        max_bytes=settings.size("max_bytes", MAX_INPUT_BYTES, default=1024),
    )


def _read_output_shape(settings: Settings) -> tuple[int | None, ...]:
    """Read [10, null]: sizes, and null for what depends on the input."""
    return tuple(low if low == high else None for low, high in read_shape(settings, scalar=True, may_vary=True))
