"""Whatever the bytes: an array of the contract's shape, or a refusal with a listed reason. Nothing else."""

import io
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from garrison.checks import read_request
from garrison.checks.formats import _SIGNATURES
from garrison.checks.reasons import MAX_DETAIL_CHARACTERS
from garrison.contract import Contract, parse_contract
from garrison.contract.image import IMAGE_FORMATS
from garrison.errors import Refused
from garrison.reasons import REASONS

CONTRACT = b"""
garrison: 1
model: fuzz
version: "1"
task: image-classification
inputs:
  image:
    kind: image
    formats: [jpeg, png, webp, gif, bmp, tiff]
    max_bytes: 100kB
    min_side: 1
    max_side: 4096
    max_pixels: 1_000_000
    max_frames: 2
    colour: rgb
    resize: {short_side: 16, crop: 12}
batch: {max_items: 1, max_delay_ms: 1, max_bytes: 1MiB}
workers: {count: 1, queue: 1, timeout_s: 1}
outputs: {labels: labels.json, top_k: 1, decimals: 3}
"""
SEEDED = settings(derandomize=True, max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def contract() -> Contract:
    """Return a contract that lets every format in, so that every walk and decoder is reached."""
    return parse_contract(CONTRACT, "fuzz.yaml")


def save_all_formats() -> list[bytes]:
    values = np.random.default_rng(0).integers(0, 255, (20, 24, 3), dtype=np.uint8)
    files = []
    for image_format in IMAGE_FORMATS:
        for options in ({}, {"save_all": True, "append_images": [Image.fromarray(values[::-1].copy())]}):
            file = io.BytesIO()
            Image.fromarray(values).save(file, image_format, **({} if image_format in ("jpeg", "bmp") else options))
            files.append(file.getvalue())
    return files


IMAGES = save_all_formats()


@st.composite
def mutated_images(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(IMAGES)))
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, max(0, min(len(data) - 1, draw(st.sampled_from([40, 300, 100_000]))))))
        length = draw(st.integers(0, 8))
        data[start : start + length] = draw(st.binary(max_size=8))
    return bytes(data[: draw(st.sampled_from([len(data), len(data), len(data) // 2]))])


def check(body: bytes, contract: Contract) -> None:
    try:
        pixels = read_request(body, contract).items[0].value
    except Refused as refused:
        assert type(refused) is REASONS[refused.reason]
        assert len(refused.detail) <= max(MAX_DETAIL_CHARACTERS, len(refused.public_message))
    else:
        assert isinstance(pixels, np.ndarray)
        assert pixels.shape == (12, 12, 3)
        assert pixels.dtype == np.uint8


@SEEDED
@given(body=st.binary(max_size=300))
def test_random_bytes(contract: Contract, body: bytes) -> None:
    check(body, contract)


@SEEDED
@given(marks=st.sampled_from([marks for _, marks in _SIGNATURES]), body=st.binary(max_size=300))
def test_random_bytes_behind_a_signature(contract: Contract, marks: tuple[tuple[int, bytes], ...], body: bytes) -> None:
    data = bytearray(body)
    for offset, mark in marks:
        data[offset : offset + len(mark)] = mark
    check(bytes(data), contract)


@SEEDED
@given(body=mutated_images())
def test_mutated_images(contract: Contract, body: bytes) -> None:
    check(body, contract)


JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text() | st.sampled_from(["QUJD", "/9j/"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["data", "b64", "x"]), inner),
    max_leaves=6,
)


@SEEDED
@given(value=st.dictionaries(st.sampled_from(["data", "body", "b64"]) | st.text(max_size=3), JSON_VALUES, max_size=2))
def test_random_json(contract: Contract, value: dict[str, Any]) -> None:
    check(json.dumps(value).encode(), contract)


@SEEDED
@given(parts=st.lists(st.sampled_from([b"{", b"}", b"[", b'"', b"data", b":", b",", b"QUJD", b"\\u", b"\xff", b"1e9"])))
def test_random_pieces_of_json(contract: Contract, parts: list[bytes]) -> None:
    check(b"{" + b"".join(parts), contract)
