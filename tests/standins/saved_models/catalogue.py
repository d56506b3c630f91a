"""What the benign SavedModels take and give: a contract and valid requests for each, without TensorFlow."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

PREDICT, CLASSIFY, REGRESS = "predict", "classify", "regress"
DEFAULT = "serving_default"
DTYPES = (
    *("float16", "float32", "float64", "int8", "int16", "int32", "int64"),
    *("uint8", "uint16", "uint32", "uint64", "bool"),
)


@dataclass(frozen=True)
class Ask:
    """One valid request of a signature: arrays by name, or tf.Examples as mappings of feature to values."""

    method: str = PREDICT
    signature: str = DEFAULT
    inputs: dict[str, Any] = field(default_factory=dict)
    examples: Sequence[dict[str, Any]] = ()


@dataclass(frozen=True)
class Sample:
    """One SavedModel: its name, the signatures of its contract, and requests that they accept."""

    name: str
    signatures: dict[str, Any]
    asks: tuple[Ask, ...]
    labels: tuple[str, ...] = ()

    @property
    def contract(self) -> dict[str, Any]:
        """The contract, as YAML would hold it: nothing in it stands there twice, or it would be written as an alias."""
        contract: dict[str, Any] = json.loads(json.dumps(self._contract))
        return contract

    @property
    def _contract(self) -> dict[str, Any]:
        return {
            "garrison": 1,
            "model": self.name,
            "version": "1",
            "task": "tensorflow",
            "signatures": self.signatures,
            "batch": {"max_items": 16, "max_delay_ms": 1, "max_bytes": "64MiB", "max_instances": 16},
            "workers": {"count": 1, "queue": 16, "timeout_s": 10},
            **({"version_labels": list(self.labels)} if self.labels else {}),
        }


def _strings(value: Any) -> Any:
    return np.array(value, object)


def _tensor(dtype: str, shape: list[Any], **bounds: float) -> dict[str, Any]:
    return {"kind": "tensor", "dtype": dtype, "shape": shape, **bounds}


def _text(shape: list[Any] | None = None) -> dict[str, Any]:
    text: dict[str, Any] = {"kind": "text", "max_bytes": 256, "max_characters": 64}
    return text if shape is None else {**text, "shape": shape}


def _output(dtype: str, shape: list[Any], **more: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, **more}


def _one(inputs: dict[str, Any], outputs: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {DEFAULT: {"method": PREDICT, "inputs": inputs, "outputs": outputs, **more}}


def picture(form: str, colour: tuple[int, int, int] = (200, 100, 50), side: int = 12) -> bytes:
    """Return an image file of one colour."""
    file = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(file, form)
    return file.getvalue()


_IMAGE: dict[str, Any] = {"kind": "image", "formats": ["jpeg", "png"], "max_bytes": "64KiB"}
_IMAGE |= {"min_side": 4, "max_side": 64, "max_pixels": 4096}
_PEOPLE: dict[str, Any] = {"age": _tensor("int64", [1], min=0, max=150), "weight": _tensor("float32", [2])}
_PEOPLE |= {"name": {"kind": "text", "max_bytes": 64, "max_characters": 32, "shape": [1]}}
_EXAMPLES = {"kind": "example", "max_bytes": "4KiB", "features": _PEOPLE}
_PERSON: dict[str, Any] = {"age": [42], "weight": [0.5, 1.5], "name": [b"Ada"]}
_CHILD: dict[str, Any] = {"age": [7], "weight": [-1.0, 2.0], "name": [b"Bob"]}
_SCORES = {"scores": _output("float32", [3], decimals=4)}


def _whole_types() -> Sample:
    given = {
        name: np.array([[1, 0, 1], [0, 1, 1]] if name == "bool" else [[1, 2, 3], [4, 5, 6]], name) for name in DTYPES
    }
    return Sample(
        "types",
        _one(
            {f"in_{name}": _tensor(name, [3]) for name in DTYPES},
            {f"out_{name}": _output(name, [3]) for name in DTYPES},
        ),
        (Ask(inputs={f"in_{name}": array for name, array in given.items()}),),
    )


SAMPLES = (
    Sample(
        "half_plus_two",
        _one({"x": _tensor("float32", [])}, {"y": _output("float32", [])}),
        (Ask(inputs={"x": np.array([1, 2, 5], "f4")}),),
        labels=("stable",),
    ),
    Sample(
        "perceptron",
        _one({"features": _tensor("float32", [4], min=-10, max=10)}, _SCORES),
        (Ask(inputs={"features": np.array([[5.1, 3.5, 1.4, 0.2], [6, 3, 4, 1.5]], "f4")}),),
    ),
    Sample(
        "convolutions",
        _one(
            {"pixels": _tensor("uint8", [8, 8, 1])},
            {"scores": _output("float32", [10], decimals=4), "digit": _output("int64", [])},
        ),
        (Ask(inputs={"pixels": (np.arange(64, dtype="u1") * 3).reshape(1, 8, 8, 1)}),),
    ),
    Sample(
        "gated",
        _one({"steps": _tensor("float32", [[1, 20], 3])}, {"state": _output("float32", [5], decimals=5)}),
        (Ask(inputs={"steps": np.linspace(-1, 1, 24, dtype="f4").reshape(2, 4, 3)}),),
    ),
    Sample(
        "words",
        _one(
            {"words": _text([[1, 8]])},
            {"scores": _output("float32", [3], decimals=4), "label": _output("string", [], max_bytes=32)},
        ),
        (Ask(inputs={"words": _strings([[b"good", b"very", b"unknown"], [b"bad", b"not", b"film"]])}),),
    ),
    Sample(
        "parsed",
        _one({"examples": _EXAMPLES}, {"sum": _output("float32", [], decimals=4), "name": _output("string", [])}),
        (Ask(inputs={"examples": (_PERSON, _CHILD)}),),
    ),
    Sample(
        "census",
        {
            "serving_default": {
                "method": CLASSIFY,
                "inputs": {"inputs": _EXAMPLES},
                "outputs": {"classes": _output("string", [2]), "scores": _output("float32", [2], decimals=4)},
            },
            "regress": {
                "method": REGRESS,
                "inputs": {"inputs": _EXAMPLES},
                "outputs": {"outputs": _output("float32", [1], decimals=4)},
            },
            "predict": {
                "method": PREDICT,
                "inputs": {"examples": _EXAMPLES},
                "outputs": {"scores": _output("float32", [2], decimals=4)},
            },
        },
        (
            Ask(CLASSIFY, examples=(_PERSON, _CHILD)),
            Ask(REGRESS, "regress", examples=(_PERSON, _CHILD)),
            Ask(PREDICT, "predict", inputs={"examples": (_PERSON,)}),
        ),
    ),
    Sample(
        "session",
        _one({"x": _tensor("float32", [2])}, {"y": _output("float32", [1]), "kind": _output("string", [1])}),
        (Ask(inputs={"x": np.array([[1, 2], [-3, 1]], "f4")}),),
    ),
    Sample(
        "constants",
        _one({"x": _tensor("int32", [3])}, {"y": _output("int32", [3])}),
        (Ask(inputs={"x": np.array([[1, 2, 3]], "i4")}),),
    ),
    Sample(
        "calculator",
        {
            name: {
                "method": PREDICT,
                "inputs": {"a": _tensor("float64", []), "b": _tensor("float64", [])},
                "outputs": {"result": _output("float64", [])},
            }
            for name in (DEFAULT, "subtract", "multiply")
        },
        tuple(
            Ask(PREDICT, name, {"a": np.array([1.5, -2], "f8"), "b": np.array([0.25, 8], "f8")})
            for name in (DEFAULT, "subtract", "multiply")
        ),
    ),
    Sample(
        "several",
        _one(
            {"numbers": _tensor("float32", [2, 2]), "factor": _tensor("int32", []), "title": _text()},
            {
                "scaled": _output("float32", [2, 2]),
                "total": _output("float32", []),
                "headline": _output("string", [], max_bytes=300),
            },
        ),
        (
            Ask(
                inputs={
                    "numbers": np.arange(8, dtype="f4").reshape(2, 2, 2),
                    "factor": np.array([2, -1], "i4"),
                    "title": _strings(["Grüße".encode(), b"two"]),
                }
            ),
        ),
    ),
    Sample(
        "shouting",
        _one({"text": _text()}, {"loud": _output("string", [], max_bytes=512), "length": _output("int32", [])}),
        (Ask(inputs={"text": _strings([b"hello", "straße".encode()])}),),
    ),
    Sample(
        "pictures",
        _one(
            {"image_bytes": _IMAGE},
            {"colour": _output("float32", [3], decimals=2), "size": _output("int32", [2])},
        ),
        (Ask(inputs={"image_bytes": _strings([picture("png"), picture("jpeg")])}),),
    ),
    Sample(
        "thumbnails",
        _one({"image_bytes": _IMAGE}, {"thumbnail_bytes": _output("string", [], max_bytes=4096)}),
        (Ask(inputs={"image_bytes": _strings([picture("jpeg")])}),),
    ),
    Sample(
        "digests",
        _one(
            {"blob": {"kind": "bytes", "max_bytes": 1024}},
            {"digest_bytes": _output("string", [], max_bytes=64), "first": _output("uint8", [])},
        ),
        (Ask(inputs={"blob": _strings([b"\x00\xff\x80binary", b"x"])}),),
    ),
    Sample(
        "ragged",
        _one({"sentence": _text()}, {"mean_length": _output("float32", [], decimals=4), "words": _output("int64", [])}),
        (Ask(inputs={"sentence": _strings([b"three short words", b"one"])}),),
    ),
    Sample(
        "loops",
        _one(
            {"n": _tensor("int64", [], min=0, max=40)}, {"fibonacci": _output("int64", []), "kind": _output("bool", [])}
        ),
        (Ask(inputs={"n": np.array([1, 10, 40], "i8")}),),
    ),
    _whole_types(),
    Sample(
        "whole",
        _one(
            {"matrix": _tensor("float32", [[1, 8], [1, 8]]), "scale": _tensor("float32", [])},
            {"scaled": _output("float32", [None, None]), "norm": _output("float32", [])},
            batched=False,
        ),
        (Ask(inputs={"matrix": np.array([[1, 2, 3], [4, 5, 6]], "f4"), "scale": np.array(2, "f4")}),),
    ),
    Sample(
        "sharded",
        _one({"x": _tensor("float32", [64])}, {"y": _output("float32", [64])}),
        (Ask(inputs={"x": np.linspace(0, 1, 128, dtype="f4").reshape(2, 64)}),),
    ),
    Sample(
        "keras_dense",
        _one({"features": _tensor("float32", [4])}, {"output_0": _output("float32", [3], decimals=4)}),
        (Ask(inputs={"features": np.array([[1, 2, 3, 4]], "f4")}),),
    ),
    Sample(
        "keras_lstm",
        _one({"tokens": _tensor("int32", [6], min=0, max=19)}, {"output_0": _output("float32", [2], decimals=4)}),
        (Ask(inputs={"tokens": np.array([[1, 2, 3, 4, 5, 19], [0, 0, 0, 0, 0, 0]], "i4")}),),
    ),
)
BY_NAME = {sample.name: sample for sample in SAMPLES}
