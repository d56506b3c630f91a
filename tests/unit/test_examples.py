"""The worked examples of docs/howto.md, packed and run: each answers what can be worked out by hand."""

import base64
import importlib.util
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
WEIGHTS = {"multi_input": "model.safetensors", "embedding": "model.pt2", "two_stage": "finder.pt2"}
FACTS = {"area": 50, "rooms": 2, "district": "south"}


@pytest.fixture
def serve_example(tmp_path: Path, serve: Callable[..., Any]) -> Callable[..., Any]:
    """Make the weights of an example, pack it with its own contract, and start its handler."""

    def start(name: str, **changes: Any) -> Any:
        spec = importlib.util.spec_from_file_location(f"make_{name}", EXAMPLES / name / "make_model.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.make_model(tmp_path / name)
        files = {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        files |= {path.name: path.read_bytes() for path in EXAMPLES.glob(f"{name}/model.py")}
        contract = yaml.safe_load((EXAMPLES / name / "contract.yaml").read_text()) | changes
        return serve(
            handler=(EXAMPLES / name / "handler.py").read_text(), files=files, weights=WEIGHTS[name], **contract
        )

    return start


def picture(
    colour: tuple[int, int, int], size: tuple[int, int] = (64, 64), spot: tuple[Any, Any] | None = None
) -> bytes:
    """Return a PNG of one colour, with a rectangle of another colour in it."""
    image, buffer = Image.new("RGB", size, colour), io.BytesIO()
    if spot is not None:
        image.paste(*spot)
    image.save(buffer, "png")
    return buffer.getvalue()


def as_text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def flat(colour: tuple[int, int, int], **facts: Any) -> dict[str, Any]:
    """Return the two inputs of the model of rents."""
    return {"picture": as_text(picture(colour)), "facts": FACTS | facts}


def test_several_inputs_answer_together(serve_example: Callable[..., Any]) -> None:
    rents = serve_example("multi_input")
    assert rents.ask(json.dumps({"data": flat((255, 255, 255))}).encode()) == [(200, {"rent": 1110})]
    body = json.dumps({"instances": [flat((0, 0, 0)), flat((0, 0, 0), balconies=2)]}).encode()
    assert rents.ask(body) == [(200, {"predictions": [{"rent": 960}, {"rent": 1010}]})]


def test_a_bad_input_of_several_is_refused_and_costs_no_other(serve_example: Callable[..., Any]) -> None:
    rents = serve_example("multi_input")
    good = json.dumps({"data": flat((255, 255, 255))}).encode()
    too_large = json.dumps({"data": flat((255, 255, 255), rooms=21)}).encode()
    lacking = json.dumps({"data": {"facts": FACTS}}).encode()
    answers = rents.ask(good, too_large, lacking, good)
    assert [answer.get("reason", answer) for _, answer in answers] == [
        {"rent": 1110},
        "value_out_of_range",
        "missing_input",
        {"rent": 1110},
    ]


def test_an_embedding_has_length_one_and_tells_pictures_apart(serve_example: Callable[..., Any]) -> None:
    fingerprints = serve_example("embedding")
    answers = fingerprints.ask(picture((250, 10, 10)), picture((240, 30, 20), (90, 70)), picture((10, 250, 10)))
    red, reddish, green = (vector for status, vector in answers if status == 200)
    assert len(red) == 48
    assert sum(value * value for value in red) == pytest.approx(1, abs=0.01)
    alike = sum(a * b for a, b in zip(red, reddish, strict=True))
    different = sum(a * b for a, b in zip(red, green, strict=True))
    assert alike > 0.95 > different


def test_two_stages_find_and_name(serve_example: Callable[..., Any]) -> None:
    lights = serve_example("two_stage")
    blue = picture((20, 20, 20), (128, 64), ((40, 40, 255), (64, 32, 96, 48)))
    green = picture((0, 0, 0), (64, 64), ((0, 255, 0), (0, 0, 16, 16)))
    (_, first), (_, second) = lights.ask(blue, green)
    assert (first["label"], first["box"]) == ("blue", [64.0, 32.0, 96.0, 48.0])
    assert (second["label"], second["box"], second["score"]) == ("green", [0.0, 0.0, 16.0, 16.0], 0.99)


def test_two_stages_keep_to_the_output_policy(serve_example: Callable[..., Any]) -> None:
    lights = serve_example("two_stage", outputs={"labels": "labels.json", "decimals": 2, "label_only": True})
    answer = {"label": "green", "box": [0, 0, 16, 16]}
    assert lights.ask(picture((0, 0, 0), spot=((0, 255, 0), (0, 0, 16, 16)))) == [(200, answer)]


@pytest.mark.parametrize("name", sorted(WEIGHTS))
def test_the_how_to_shows_the_handler_as_it_is(name: str) -> None:
    handler = (EXAMPLES / name / "handler.py").read_text()
    page = (EXAMPLES.parent / "howto.md").read_text()
    blocks: list[str] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    shown = [block for block in blocks if block in handler]
    assert len(shown) == 1
    assert all(f"def {hook}(" in shown[0] for hook in ("load", "infer", "present"))
