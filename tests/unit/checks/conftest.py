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

from garrison.contract import IMAGE_FORMATS, IMAGE_FORMS, ImageInput, Resize

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
