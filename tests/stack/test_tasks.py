"""Every task behind one gateway: right answers, the same ones in every form of request, and each to whom it belongs."""

import base64
import io
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from attacks.catalogue import png_bomb, tiff, truncated_jpeg
from stack.running import MODELS, SAMPLE_MODELS, RunningStack, Target, send_together

JSON = {"content-type": "application/json"}
LANGUAGES = {
    "cs": "Czech", "de": "German", "en": "English", "es": "Spanish", "fr": "French", "it": "Italian", "nl": "Dutch",
    "pl": "Polish", "pt": "Portuguese", "sv": "Swedish",
}  # fmt: skip
DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def find_samples(model: str) -> list[Path]:
    """Return what a model's card shows as inputs; what lies beside a picture is its truth."""
    files = sorted((MODELS / model / "samples").iterdir())
    return [path for path in files if ".mask" not in path.name and (path.suffix != ".json" or model == "tumours")]


def make_npy(rows: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array(rows, np.float32))
    return buffer.getvalue()


SAMPLES = [(model, path) for model in SAMPLE_MODELS for path in find_samples(model)]
ALL = (*SAMPLE_MODELS, "sums", "moody")


# Every task answers its samples -----------------------------------------------------------------------------------


def check_label(label: str) -> Callable[[Any], None]:
    def check(answer: Any) -> None:
        assert next(iter(answer)) == label
        assert list(answer.values()) == sorted(answer.values(), reverse=True)

    return check


def overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Return intersection over union of two boxes, left, top, right, bottom."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    both = max(width, 0) * max(height, 0)
    return both / ((one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1]) - both)


def check_boxes(truth: Path) -> Callable[[Any], None]:
    def check(answer: Any) -> None:
        digits = json.loads(truth.read_bytes())
        assert len(answer) == len(digits)
        for digit in digits:
            name = DIGIT_NAMES[digit["digit"]]
            assert any(name in found and overlap(found[name], digit["box"]) > 0.5 for found in answer), digit

    return check


def check_mask(truth: Path) -> Callable[[Any], None]:
    def check(answer: Any) -> None:
        wanted = np.asarray(Image.open(truth)) // 20  # as the model's card says
        found = np.array(answer)[:, :, 0]
        assert found.shape == wanted.shape
        assert (found == wanted).mean() > 0.98

    return check


def make_check(model: str, sample: Path) -> Callable[[Any], None]:
    if model == "scenes":
        return check_boxes(sample.with_suffix(".json"))
    if model == "scene_masks":
        return check_mask(sample.parent / f"{sample.stem}.mask.png")
    labels = {"digits": dict(zip("0123456789", DIGIT_NAMES, strict=True)), "languages": LANGUAGES}
    return check_label(labels[model][sample.stem] if model in labels else sample.stem)


@pytest.mark.parametrize(
    ("model", "sample"), SAMPLES, ids=lambda value: value.name if isinstance(value, Path) else value
)
def test_a_sample_is_answered_rightly(all_models: Target, model: str, sample: Path) -> None:
    answer = all_models.send(path=f"/predictions/{model}", body=sample.read_bytes())
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    make_check(model, sample)(answer.json)


@pytest.mark.parametrize("rows", [[[1, 2, 3]], [[1, 2, 3], [-4, 5.5, 0], [0, 0, 0], [1000, 0, -1]]], ids=["1", "4"])
def test_a_tensor_is_answered_rightly(all_models: Target, rows: list[list[float]]) -> None:
    """Requests of different shapes cannot be stacked; each is answered all the same."""
    answer = all_models.send(path="/predictions/sums", body=make_npy(rows))
    assert (answer.status, answer.json) == (200, [sum(row) for row in rows])


def test_a_custom_handler_is_answered_rightly(all_models: Target) -> None:
    answer = all_models.send(path="/predictions/moody", body=b"good day")
    assert (answer.status, answer.json) == (200, {"said": "good day", "padding": "", "length": 8})


# Every form of request --------------------------------------------------------------------------------------------


def as_value(model: str) -> Any:
    """Return a sample of a model as it stands in JSON."""
    if model == "sums":
        return [[1.5, 2, 3], [4, 5, 6]]
    if model == "moody":
        return "good day"
    data = find_samples(model)[0].read_bytes()
    if model == "tumours":
        return json.loads(data)["data"]
    return data.decode() if model == "languages" else base64.b64encode(data).decode()


def as_body(model: str) -> bytes:
    """Return the same sample as it is sent raw."""
    if model == "sums":
        return make_npy(as_value(model))
    return as_value(model).encode() if model == "moody" else find_samples(model)[0].read_bytes()


def as_v2(value: Any) -> dict[str, Any]:
    """Return a KServe v2 request for one value."""
    if isinstance(value, list):
        numbers = np.array(value, np.float32)
        entry = {"shape": list(numbers.shape), "datatype": "FP32", "data": numbers.ravel().tolist()}
    else:
        entry = {"shape": [1], "datatype": "BYTES", "data": [value]}
    return {"id": "a-1", "inputs": [{"name": "x", **entry}]}


def flatten(answer: Any) -> list[Any]:
    """Return an answer as v2 holds it: numbers in one row, everything else as it is."""
    try:
        numbers = np.array(answer)
    except ValueError:
        return [answer]
    if numbers.dtype.kind in "if":
        return list(numbers.ravel().tolist())
    return answer if isinstance(answer, list) else [answer]


FORMS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "data": (lambda value: {"data": value}, lambda answer: answer),
    "body": (lambda value: {"body": value}, lambda answer: answer),
    "v1": (lambda value: {"instances": [value]}, lambda answer: {"predictions": [answer]}),
    "v1, wrapped": (lambda value: {"instances": [{"data": value}]}, lambda answer: {"predictions": [answer]}),
}


@pytest.fixture(scope="session")
def answers(library: RunningStack) -> dict[str, Any]:
    """What each model answers to its sample alone."""
    got = {model: library.target.send(path=f"/predictions/{model}", body=as_body(model)) for model in ALL}
    assert {answer.status for answer in got.values()} == {200}
    return {model: answer.json for model, answer in got.items()}


@pytest.mark.parametrize("model", ALL)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_answer(all_models: Target, answers: dict[str, Any], model: str, form: str) -> None:
    wrap, unwrap = FORMS[form]
    body = json.dumps(wrap(as_value(model))).encode()
    answer = all_models.send(path=f"/predictions/{model}", body=body, headers=JSON)
    assert (answer.status, answer.json) == (200, unwrap(answers[model]))


@pytest.mark.parametrize("model", ALL)
def test_v2_gives_the_same_answer_as_stock_writes_it(all_models: Target, answers: dict[str, Any], model: str) -> None:
    body = json.dumps(as_v2(as_value(model))).encode()
    answer = all_models.send(path=f"/predictions/{model}", body=body, headers=JSON)
    assert answer.status == 200
    assert (answer.json["id"], answer.json["model_name"], answer.json["model_version"]) == ("a-1", model, "1")
    (output,) = answer.json["outputs"]
    assert (output["name"], output["data"]) == ("x", flatten(answers[model]))
    assert np.prod(output["shape"]) == len(output["data"])


def test_several_instances_in_one_request_are_answered_in_their_order(all_models: Target) -> None:
    texts = [path.read_text() for path in find_samples("languages")]
    alone = [all_models.send(path="/predictions/languages", body=text.encode()).json for text in texts]
    v1 = {"instances": texts}
    v2 = {"inputs": [{"name": "texts", "shape": [len(texts)], "datatype": "BYTES", "data": texts}]}
    asked = [
        all_models.send(path="/predictions/languages", body=json.dumps(v).encode(), headers=JSON) for v in (v1, v2)
    ]
    assert asked[0].json == {"predictions": alone}
    assert asked[1].json["outputs"] == [{"name": "texts", "shape": [10], "datatype": "BYTES", "data": alone}]


def test_one_bad_instance_refuses_its_request_and_no_other(all_models: Target, answers: dict[str, Any]) -> None:
    bad = json.dumps({"instances": ["good day", "raise", "good day"]}).encode()
    good = json.dumps({"instances": ["good day"] * 4}).encode()
    got = send_together(all_models, [("moody", bad if index % 3 == 0 else good) for index in range(24)])
    for index, answer in enumerate(got):
        if index % 3 == 0:
            assert (answer.status, answer.reason) == (500, "model_failed")
        else:
            assert (answer.status, answer.json) == (200, {"predictions": [answers["moody"]] * 4})


# Many at once -----------------------------------------------------------------------------------------------------


def test_each_answer_belongs_to_its_request(all_models: Target) -> None:
    """All models, all samples, all at once and in a random order: every answer is the one that it gives alone."""
    bodies = [(model, path.read_bytes()) for model, path in SAMPLES]
    bodies += [
        ("sums", make_npy(np.arange(3 * rows).reshape(rows, 3) + start)) for rows in (1, 2, 4) for start in range(5)
    ]
    bodies += [("moody", f"number {number}".encode()) for number in range(20)]
    alone = {body: all_models.send(path=f"/predictions/{model}", body=body).json for model, body in bodies}
    order = random.Random(1).sample(bodies * 6, len(bodies) * 6)
    wrong = Counter(
        (model, answer.status)
        for (model, body), answer in zip(order, send_together(all_models, order), strict=True)
        if answer.status != 200 or answer.json != alone[body]
    )
    assert not wrong


HOSTILE = {
    "digits": [png_bomb, truncated_jpeg, tiff, lambda: b'{"data":' * 1000, lambda: b"\xff" * 1000],
    "languages": ["\u202eevil".encode, lambda: b"\xff\xfe\xfd", lambda: b"word " * 500, lambda: b"{"],
    "scene_masks": [png_bomb, truncated_jpeg, lambda: b"[" * 10_000],
    "scenes": [png_bomb, truncated_jpeg, lambda: b"GIF89a"],
    "tumours": [lambda: b'{"data": [NaN]}', lambda: b'{"data": {}}', lambda: b'{"data": [' + b"1," * 5000 + b"1]}"],
    "sums": [lambda: make_npy([[1e9, 0, 0]]), lambda: b"\x93NUMPY\x01\x00", lambda: b"[[1, 2, 3], [4]]"],
    "moody": [lambda: b"raise", lambda: b"nan", lambda: b"refuse not_today", lambda: b"large 20000"],
}  # fmt: skip


@pytest.mark.parametrize("model", ALL)
def test_hostile_items_in_a_batch_leave_the_others_alone(
    library: RunningStack, answers: dict[str, Any], model: str
) -> None:
    before = library.worker_pids(model)
    hostile = [make() for make in HOSTILE[model]]
    bodies = [hostile[index % len(hostile)] if index % 2 else as_body(model) for index in range(32)]
    got = send_together(library.target, [(model, body) for body in bodies])
    for body, answer in zip(bodies, got, strict=True):
        if body in hostile:
            assert answer.status in (400, 413, 415, 422, 500)
            assert set(answer.json) == {"reason", "message"}
        else:
            assert (answer.status, answer.json) == (200, answers[model])
    assert library.worker_pids(model) == before


def test_an_answer_that_is_too_large_is_an_error_and_no_dead_worker(library: RunningStack) -> None:
    before = library.worker_pids("moody")
    for size in (9_000, 10_000, 1_000_000, 100_000_000):  # TorchServe itself ends a worker for the last
        answer = library.target.send(path="/predictions/moody", body=f"large {size}".encode())
        assert (answer.status, answer.reason) == ((200, "") if size == 9_000 else (500, "answer_too_large"))
    assert library.worker_pids("moody") == before
