"""Good and bad requests, each with the one answer that will do.

The good ones vary real samples, so that their answers differ and a swapped one shows; KServe v2 requests carry an id
of their own besides, which has to come back. What a body is answered comes from the same handler in process; what the
gateway answers is written here.
"""

import base64
import io
import itertools
import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance

from attacks.catalogue import png_bomb
from campaigns.result import REPOSITORY
from campaigns.serving import MODELS, InProcess

GOOD_SHARE = 0.75
ID_MARK = b"ID-ID-ID"
WEIGHTS = {"digits": 4, "tumours": 3, "languages": 3, "scenes": 2, "scene_masks": 1}
VARIANTS = {"digits": 80, "tumours": 200, "languages": 200, "scenes": 40, "scene_masks": 20}


@dataclass(frozen=True)
class Case:
    """One request and its answer; of a bad one only status and reason count."""

    model: str
    body: bytes
    status: int
    answer: Any
    tolerance: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    has_key: bool = True
    path: str = ""

    @property
    def good(self) -> bool:
        """Whether it asks for a prediction and gets one."""
        return self.status == 200

    def matches(self, status: int, answer: Any, request_id: str) -> bool:
        """Tell whether this is the answer to this request."""
        if status != self.status:
            return False
        if not self.good:
            return isinstance(answer, dict) and answer.get("reason") == self.answer
        wanted = {**self.answer, "id": request_id} if ID_MARK in self.body else self.answer
        return agree(answer, wanted, self.tolerance)


def agree(got: Any, wanted: Any, tolerance: float) -> bool:
    """Compare answers; batches of different sizes may differ in a score's last decimal."""
    if isinstance(wanted, dict) and isinstance(got, dict):
        return _agree_dicts(got, wanted, tolerance)
    if isinstance(wanted, list) and isinstance(got, list):
        pairs = zip(got, wanted, strict=False)
        return len(got) == len(wanted) and all(agree(one, other, tolerance) for one, other in pairs)
    if isinstance(wanted, float) and isinstance(got, int | float):
        return abs(got - wanted) <= tolerance
    return bool(got == wanted)


def _agree_dicts(got: dict[str, Any], wanted: dict[str, Any], tolerance: float) -> bool:
    """Labels at the edge of the ranking may change places with those of the same score."""
    if all(isinstance(value, float | int) for value in [*got.values(), *wanted.values()]):
        least = min([*got.values(), *wanted.values()], default=0.0)
        return all(
            abs(got.get(key, least) - wanted.get(key, least)) <= tolerance for key in got.keys() | wanted.keys()
        ) and len(got) == len(wanted)
    return got.keys() == wanted.keys() and all(agree(got[key], wanted[key], tolerance) for key in wanted)


class Mixture:
    """All cases, and a way to draw from them."""

    def __init__(self, models: Path, seed: int) -> None:
        source = random.Random(seed)  # noqa: S311 - repeatable, not secret
        self.good: dict[str, list[Case]] = {}
        self.bad = list_gateway_cases()
        for name in MODELS:
            handler = InProcess(models / name)
            bodies = _make_bodies(name, source, handler)
            asked = [self._expect(name, body, handler) for body in bodies]
            self.good[name] = [case for case in asked if case.good]
            bad = [self._expect(name, body, handler) for body in _spoil(bodies[0], name)]
            self.bad += [case for case in bad if not case.good]

    def draw(self, source: random.Random) -> Case:
        """Return the next request."""
        if source.random() > GOOD_SHARE:
            return source.choice(self.bad)
        (name,) = source.choices(list(WEIGHTS), list(WEIGHTS.values()))
        return source.choice(self.good[name])

    def count_alike(self) -> tuple[int, int]:
        """Return how many pairs of good requests to one model could be swapped unnoticed, of how many."""
        alike = pairs = 0
        for cases in self.good.values():
            for one, other in itertools.combinations([case for case in cases if ID_MARK not in case.body], 2):
                pairs += 1
                alike += agree(one.answer, other.answer, one.tolerance)
        return alike, pairs

    def _expect(self, model: str, body: bytes, handler: InProcess) -> Case:
        status, answer = handler.ask(body)
        decimals = handler.handler.contract.outputs.decimals
        return Case(model, body, status, answer if status == 200 else answer["reason"], 1.5 * 10.0**-decimals)


def _make_bodies(name: str, source: random.Random, handler: InProcess) -> list[bytes]:
    count = VARIANTS[name]
    values = [_vary(name, source) for _ in range(count)]
    values = values if name != "languages" else source.sample(_read_texts(), count)
    most = min(3, handler.handler.contract.batch.max_instances)
    bodies = []
    for number, value in enumerate(values):
        form = number % 4
        if form == 0 and isinstance(value, bytes | str):
            bodies.append(value if isinstance(value, bytes) else value.encode())
            continue
        written = [base64.b64encode(one).decode() if isinstance(one, bytes) else one for one in [value, *values[:most]]]
        if form == 2:
            bodies.append(json.dumps({"instances": written[:most]}).encode())
        elif form == 3:
            entry = {"name": "x", "shape": [1], "datatype": "BYTES", "data": [written[0]]}
            bodies.append(json.dumps({"id": ID_MARK.decode(), "inputs": [entry]}).encode())
        else:
            bodies.append(json.dumps({"data": written[0]}).encode())
    return bodies


def _vary(name: str, source: random.Random) -> Any:
    if name == "tumours":
        path = REPOSITORY / "models" / "tumours" / "samples" / source.choice(("benign.json", "malignant.json"))
        row = json.loads(path.read_text())["data"]
        values = list(row.values()) if isinstance(row, dict) else row
        return [value * source.uniform(0.8, 1.2) for value in values]
    return _vary_picture(name, source) if name != "languages" else ""


def _vary_picture(name: str, source: random.Random) -> bytes:
    """Turn, shift and brighten a sample a little, and save it in one of the formats."""
    samples = [
        path
        for path in sorted((REPOSITORY / "models" / name / "samples").glob("*.[pj][np]g"))
        if "mask" not in path.name
    ]
    with Image.open(source.choice(samples)) as opened:
        picture = opened.convert(source.choice(("L", "RGB")))
    picture = picture.rotate(source.uniform(-12, 12), Image.Resampling.BILINEAR)
    picture = ImageEnhance.Contrast(picture).enhance(source.uniform(0.6, 1.4))
    noise = np.random.default_rng(source.randrange(2**32)).normal(0, 6, np.asarray(picture).shape)
    picture = Image.fromarray(np.clip(np.asarray(picture) + noise, 0, 255).astype(np.uint8))
    file = io.BytesIO()
    picture.save(file, source.choice(("png", "jpeg")))
    return file.getvalue()


def _read_texts() -> list[str]:
    lines = (REPOSITORY / "models" / "languages" / "held_out.tsv").read_text(encoding="utf-8").splitlines()
    return sorted({line.partition("\t")[2] for line in lines if len(line) > 20})


def _spoil(body: bytes, name: str) -> list[bytes]:
    """Return bodies that no contract takes, and some that this one does not."""
    bodies = [
        b"{",
        b"[1, 2",
        b'{"data": "%%%"}',
        b'{"x": 1}',
        b'{"data":' + b"[" * 5_000,
        b'{"instances": []}',
        b"\xff\xfe",
    ]
    bodies += [b'{"data": {"b64": "QUJD"}}', b'{"instances": [1], "instances": [2]}', body[: len(body) // 2]]
    if name == "tumours":
        bodies += [
            json.dumps({"data": row}).encode() for row in ([1.0] * 29, [1e9] * 30, ["a"] * 30, {"mean radius": 1})
        ]
    if name == "languages":
        bodies += ["ab\u202ecd".encode(), b"\0\0\0", b"a", b"a b " * 700]
    if name in ("digits", "scenes", "scene_masks"):
        bodies += [png_bomb(), b"GIF89a" + b"\0" * 50, b"<svg/>", b"\x89PNG\r\n\x1a\n", _make_tiny()]
    return bodies


def list_gateway_cases() -> list[Case]:
    """Return requests that never reach a worker."""
    encoded = {"content-encoding": "gzip"}
    return [
        Case("digits", b"x", 401, "unauthenticated", has_key=False),
        Case("digits", b"x", 415, "unsupported_media_type", headers=encoded),
        Case("digits", b"x", 404, "not_found", path="/predictions/nobody"),
        Case("digits", b"x", 404, "not_found", path="/models"),
    ]


def _make_tiny() -> bytes:
    file = io.BytesIO()
    Image.new("L", (2, 2)).save(file, "png")
    return file.getvalue()
