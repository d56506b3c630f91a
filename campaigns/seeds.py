"""Real inputs of every kind and form, small: what mutation and coverage guidance begin with."""

import base64
import io
import json
import re
import struct
from typing import Any

import numpy as np
import yaml
from PIL import Image

from campaigns.result import REPOSITORY
from garrison.contract.image import IMAGE_FORMATS

MODELS = REPOSITORY / "models"
CONTRACTS = REPOSITORY / "campaigns" / "contracts"
ROW = {"size": 1.5, "age": 30, "colour": "red", "weight": None, "data": "1"}
LIST_ROW = [1.5, 30, "grün", 1.25, "0"]
TEXTS = [
    "two words",
    "Grüße, ça va?\n\tok",
    "ﬁne ﷺ ½ Å e\u0301",
    "\U0001f600 \U0001f469\u200d\U0001f467 日本語",
    "\u202eabc",
    "a\u0300\u0301\u0302",
]
EXIF_ORIENTATIONS = (1, 6, 3)
MAX_CONTRACT_CHARACTERS = 1_000
EXPLANATIONS = {  # contract: the section that its file does without
    "pictures": "explanations: {method: feature-ablation, max_evaluations: 64, grid: 4}\n",
    "table": "explanations: {method: integrated-gradients, max_evaluations: 32}\n",
}
_COMMENT = re.compile(r"^ *#.*\n| +#.*", re.MULTILINE)


def make_pictures() -> list[bytes]:
    """Return pictures in every format, colour mode and with every piece that the walks know."""
    values = np.random.default_rng(0).integers(0, 255, (20, 24, 3), dtype=np.uint8)
    picture = Image.fromarray(values)
    files = [_save(picture, form) for form in IMAGE_FORMATS]
    files += [
        _save(picture, form, exif=_exif(n)) for form in ("jpeg", "png", "webp", "tiff") for n in EXIF_ORIENTATIONS
    ]
    more = {"save_all": True, "append_images": [Image.fromarray(values[::-1].copy())]}
    files += [_save(picture, form, **more) for form in ("png", "webp", "gif", "tiff")]
    files += [_save(picture.convert(mode), "png") for mode in ("1", "L", "LA", "P", "RGBA", "I;16")]
    files += [_save(picture.convert(mode), "tiff") for mode in ("1", "L", "P", "CMYK")]
    files += [
        _save(picture, "tiff", compression=name) for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
    ]
    files += [_save(picture.convert("CMYK"), "jpeg"), _save(picture.convert("L"), "jpeg", progressive=True)]
    files += [
        _save(picture, "webp", lossless=True),
        _save(picture.convert("P"), "bmp"),
        _save(picture.convert("1"), "bmp"),
    ]
    files += [_save(picture, "png", icc_profile=b"profile" * 9), _save(picture, "jpeg", comment=b"comment")]
    return files + [path.read_bytes() for path in sorted(MODELS.glob("digits/samples/*"))[:4]]


def make_picture_bodies() -> list[bytes]:
    """Return pictures in all request forms."""
    files = make_pictures()
    return files + [body for file in files[:12:3] for body in wrap(_encode(file))]


def make_pixel_bodies() -> list[bytes]:
    """Return small pictures and nested lists of pixels, in all request forms."""
    pixels = np.arange(20, dtype=np.uint8).reshape(4, 5, 1)
    file = _save(Image.fromarray(pixels[:, :, 0]), "png")
    return [
        file,
        _save(Image.fromarray(pixels[:, :, 0]), "jpeg"),
        *wrap(pixels.tolist(), "UINT8"),
        *wrap(_encode(file)),
    ]


def make_tensor_bodies() -> list[bytes]:
    """Return arrays as .npy files and as lists, in all request forms."""
    array = np.arange(6, dtype=np.float32).reshape(2, 3) / 4
    files = [_save_npy(array), _save_npy(np.asfortranarray(array)), _save_npy(array.astype(">f4"))]
    files += [_save_npy(array.astype(name)) for name in ("f8", "f2", "i8", "u1", "?", "c8", "U2")]
    files += [_save_npy(array, version) for version in ((2, 0), (3, 0))]
    return files + wrap(array.tolist(), "FP32") + wrap(_encode(files[0]))


def make_whole_bodies() -> list[bytes]:
    """Return whole numbers as .npy files and as lists, in all request forms."""
    array = np.arange(9, dtype=np.int16)
    return [_save_npy(array), _save_npy(array.astype("i8")), *wrap(array.tolist(), "INT16"), *wrap([1, 2.0, True, -3])]


def make_text_bodies() -> list[bytes]:
    """Return texts, plain and in all request forms."""
    samples = [path.read_bytes() for path in sorted(MODELS.glob("languages/samples/*.txt"))]
    bodies = [body for text in TEXTS for body in wrap(text)]
    return samples + [text.encode() for text in TEXTS] + bodies + wrap(_encode("Grüße".encode()))


def make_table_bodies() -> list[bytes]:
    """Return rows by name and by place, in all request forms."""
    rows = [ROW, LIST_ROW, {**ROW, "weight": 1.5, "age": 7.0}, {key: ROW[key] for key in ("size", "age", "colour")}]
    return [body for row in rows for body in wrap(row)] + wrap([1.0, 2.0, 0, 1.5, 1], "FP64")


def make_several_bodies() -> list[bytes]:
    """Return requests with one input of every kind, in all request forms."""
    file = _save(Image.fromarray(np.arange(20, dtype=np.uint8).reshape(4, 5)), "png")
    item = {"picture": _encode(file), "numbers": [[1, 2]], "words": "two words", "row": {"size": 1, "kind": "a"}}
    listed = {**item, "picture": [[[1], [2], [3]], [[4], [5], [6]]], "row": [2, "b"], "numbers": [[1, 2], [3, 4]]}
    entries = [
        {"name": "picture", "shape": [1], "datatype": "BYTES", "data": [_encode(file)]},
        {"name": "numbers", "shape": [1, 1, 2], "datatype": "UINT8", "data": [1, 2]},
        {"name": "words", "shape": [1], "datatype": "BYTES", "data": ["two words"]},
        {"name": "row", "shape": [1], "datatype": "BYTES", "data": [{"size": 1, "kind": "a"}]},
    ]
    forms: list[Any] = [{"data": item}, {"body": listed}, {"instances": [item, listed]}, {"id": "7", "inputs": entries}]
    return [json.dumps(form).encode() for form in [*forms, item]]


def make_json() -> list[bytes]:
    """Return JSON with everything that JSON has."""
    value = {"a": [1, -2.5e3, True, False, None, '\\u00e9\\ud83d\\ude00"\\'], "b": {"c": [[], {}, [[0]]]}, "é": ""}
    texts = [
        json.dumps(value),
        json.dumps(value, ensure_ascii=False, indent=1),
        "[1e400, NaN, Infinity]",
        '{"a":1,"a":2}',
    ]
    odd = ['"\\ud800"', '"\\\\\\"x"', "[" * 12 + "]" * 12, " \t\r\n0 ", '{"a":"\\udc00\\ud800"}', "1" * 40, '"\\u0000"']
    return [text.encode("utf-8", "surrogatepass") for text in texts + odd]


def make_contracts() -> list[bytes]:
    """Return small contracts of the campaigns and the sample models, nearly all without comments, and as JSON too.

    What YAML's parser takes grows with a contract, and is nearly all that an execution takes.
    """
    own = {path.stem: path.read_text() for path in sorted(CONTRACTS.glob("*.yaml"))}
    samples = [path.read_text() for path in sorted(MODELS.glob("*/contract.yaml"))]
    explained = [own[name] + section for name, section in EXPLANATIONS.items()]
    contracts = [_COMMENT.sub("", text) for text in (*own.values(), *samples, *explained)]
    contracts = [text for text in contracts if len(text) <= MAX_CONTRACT_CHARACTERS]
    written = [json.dumps(yaml.safe_load(contract)) for contract in contracts]
    return [text.encode() for text in (own["tensor"], *contracts, *written)]


def make_answers() -> list[bytes]:
    """Return what models answer, as `targets.answer` reads it: one byte for the case, then JSON or float64."""
    answers: list[Any] = [
        {"red": 0.5, "green": 0.25, "blue": 0.25},
        [[{"red": [1.5, 2.5, 3.5, 4.25], "score": 0.75}], []],
        [[[[0, 0.5], [1, 0.25]]], [[[2, 1.0]]]],
        [float("nan"), float("inf"), 1e308, -0.0],
        [1, 2, 3],
        "text",
        {"a": {"b": [True, None]}},
    ]
    written = [json.dumps(answer).encode() for answer in answers]
    return [bytes([case]) + text for case in range(0, 24, 3) for text in written] + [
        bytes([case]) + struct.pack("<6d", 1, 2.5, float("nan"), float("-inf"), 1e300, 5e-324) for case in range(4)
    ]


def wrap(value: Any, datatype: str = "BYTES") -> list[bytes]:
    """Return one value in every request form that is JSON."""
    numbers = datatype != "BYTES"
    shape = list(np.shape(value)) if numbers else [1]
    entry = {"name": "x", "shape": shape, "datatype": datatype, "data": value if numbers else [value]}
    forms = [value, {"data": value}, {"body": value}, {"instances": [value, value]}, {"instances": [{"data": value}]}]
    forms += [{"id": "7", "inputs": [entry]}, {"inputs": [{**entry, "name": "a"}, entry]}]
    if isinstance(value, str):
        forms.append({"data": {"b64": value}})
    return [json.dumps(form).encode() for form in forms]


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _save(picture: Image.Image, image_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, image_format, **options)
    return file.getvalue()


def _save_npy(array: "np.ndarray[Any, Any]", version: tuple[int, int] | None = None) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version)
    return file.getvalue()


def _exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()
