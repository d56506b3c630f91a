"""Factories: contracts' inputs with one limit changed, and image files made on the spot."""

import dataclasses
import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from garrison.contract import (
    Batch,
    Contract,
    ImageInput,
    Input,
    Outputs,
    Resize,
    TableInput,
    TensorInput,
    TextInput,
    Workers,
)
from garrison.contract.image import IMAGE_FORMATS, IMAGE_FORMS
from garrison.contract.table import Column

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def make_item() -> Callable[..., ImageInput]:
    """Return an input that takes every format and form, 64x48 images among others, with some fields changed."""
    item = ImageInput(
        name="image",
        formats=IMAGE_FORMATS,
        forms=IMAGE_FORMS,
        max_bytes=1_000_000,
        min_side_pixels=1,
        max_side_pixels=8192,
        max_pixels=25_000_000,
        max_frames=1,
        colour="rgb",
        resize=Resize(32, 24),
        exact=None,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )

    def make(**changes: Any) -> ImageInput:
        if "exact" in changes:
            changes.setdefault("resize", None)
        return dataclasses.replace(item, **changes)

    return make


@pytest.fixture
def make_tensor() -> Callable[..., TensorInput]:
    """Return an input of 2 to 3 rows of 2 float32 without a range, with some fields changed."""
    item = TensorInput("tensor", ("raw", "json"), "float32", ((2, 3), (2, 2)), None, None)
    return lambda **changes: dataclasses.replace(item, **changes)


@pytest.fixture
def make_text() -> Callable[..., TextInput]:
    """Return an input of 1 to 100 characters, with some fields changed."""
    item = TextInput("text", ("raw", "json"), 1_000, 1, 100, 64, "NFC")
    return lambda **changes: dataclasses.replace(item, **changes)


@pytest.fixture
def make_table() -> Callable[..., TableInput]:
    """Return a table of a float, a whole number, a category, and a float that may be missing."""
    columns = (
        Column("size", "float", 0.0, 10.0, (), None),
        Column("age", "int", 0.0, 120.0, (), None),
        Column("colour", "category", 0.0, 0.0, ("red", "green"), None),
        Column("weight", "float", 1.0, 2.0, (), -1.0),
    )
    return lambda **changes: dataclasses.replace(TableInput("row", columns), **changes)


@pytest.fixture
def make_contract_of() -> Callable[..., Contract]:
    """Return a contract with these inputs."""

    def make(*inputs: Input, max_instances: int = 4) -> Contract:
        batch = Batch(8, 5, 2**30, max_instances)
        outputs = Outputs("", 1, 4, 0.0, False, 2**20)
        return Contract("tiny", "3", "custom", inputs, batch, Workers(1, 8, 10), outputs)

    return make


@pytest.fixture
def make_picture() -> Callable[..., Image.Image]:
    """Return a picture with a different gradient in each channel, so that any flip or swap shows."""

    def make(mode: str = "RGB", size: tuple[int, int] = (64, 48)) -> Image.Image:
        x, y = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
        picture = Image.fromarray(np.stack([x, y, (x + y) / 2], axis=2).astype(np.uint8))
        return picture.convert(mode)

    return make


@pytest.fixture
def save() -> Callable[..., bytes]:
    """Return the bytes of a picture in a format."""

    def save_picture(picture: Image.Image, image_format: str, **options: Any) -> bytes:
        file = io.BytesIO()
        picture.save(file, image_format, **options)
        return file.getvalue()

    return save_picture


@pytest.fixture
def chunk() -> Callable[..., bytes]:
    """Return one PNG chunk."""

    def make(kind: bytes, content: bytes = b"") -> bytes:
        checksum = struct.pack(">L", zlib.crc32(kind + content))
        return struct.pack(">L", len(content)) + kind + content + checksum

    return make


@pytest.fixture
def make_png(chunk: Callable[..., bytes]) -> Callable[..., bytes]:
    """Return a black RGB PNG of any size written by hand; with `rows`, its pixels break off after so many."""

    def make(width: int, height: int, rows: int | None = None, extra: bytes = b"") -> bytes:
        packer = zlib.compressobj(9)
        row = b"\0" * (1 + 3 * width)
        pixels = b"".join(packer.compress(row) for _ in range(height if rows is None else rows))
        pixels += packer.flush(zlib.Z_FINISH if rows is None else zlib.Z_SYNC_FLUSH)
        header = chunk(b"IHDR", struct.pack(">LLBBBBB", width, height, 8, 2, 0, 0, 0))
        return PNG_SIGNATURE + header + extra + chunk(b"IDAT", pixels) + chunk(b"IEND")

    return make
