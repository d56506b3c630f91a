"""Every task answers as stock does, alone and in batches, and a bad item costs no other its answer."""

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
import torch

from garrison.checks import Item
from garrison.contract import ImageInput, Resize, Stretch
from garrison.torchserve.object_detector import _place

VOCABULARY = json.dumps({"<unk>": 0, "<pad>": 1, "good": 2, "bad": 3, "!": 4}).encode()
TEXT = {
    "text": {"kind": "text", "max_bytes": "1KiB", "max_characters": 200, "max_tokens": 20, "vocabulary": "vocab.json"}
}
TABLE = {
    "row": {
        "kind": "table",
        "columns": {
            "age": {"kind": "float", "min": 0, "max": 120},
            "job": {"kind": "category", "categories": ["a", "b"]},
        },
    }
}
TENSOR = {"x": {"kind": "tensor", "dtype": "float32", "shape": [[1, 4], 2], "min": -10, "max": 10}}


class Corner(torch.nn.Module):
    """Three boxes per image; the score of the second is the image's mean red, the last is no box at all."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        n = x.shape[0]
        boxes = torch.tensor([[0.0, 0.0, 2.0, 1.0], [1.0, 1.0, 4.0, 4.0], [0.0, 0.0, 0.0, 0.0]]).repeat(n, 1, 1)
        red = x[:, 0].mean(dim=[1, 2])
        scores = torch.stack([torch.full([n], 0.5), red, torch.zeros(n)], dim=1)
        return boxes, torch.tensor([0, 1, 2]).repeat(n, 1), scores


class PerPixel(torch.nn.Module):
    """The class of a pixel is its strongest channel."""

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"out": x * 10}


class CountWords(torch.nn.Module):
    """Red for every `good`, green for every `bad`, whatever the padding."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        counts = [(tokens == 2).sum(dim=1), (tokens == 3).sum(dim=1), (tokens == 0).sum(dim=1)]
        return torch.stack(counts, dim=1).float()


class Sum(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum(dim=1)


class Linear(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.arange(6).float().reshape(2, 3) / 100)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight


TASKS: dict[str, dict[str, Any]] = {
    "image-classification": {},
    "object-detection": {"module": Corner()},
    "image-segmentation": {"module": PerPixel(), "outputs": {"decimals": 4}},
    "text-classification": {"module": CountWords(), "inputs": TEXT, "files": {"vocab.json": VOCABULARY}},
    "tabular": {"module": Linear(), "inputs": TABLE},
    "tensor": {"module": Sum(), "inputs": TENSOR, "outputs": {"decimals": 4}},
}


@pytest.fixture
def serve_task(serve):
    """Start the tiny model of a task."""

    def start(task: str, **changes: Any):
        return serve(task=task, **TASKS[task] | changes)

    return start


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.fixture
def bodies(make_image):
    """Nine different good bodies per task, of different shapes where the task allows them."""
    pictures = [make_image((25 * n, 255 - 20 * n, 40)) for n in range(9)]
    return {
        "image-classification": pictures,
        "object-detection": pictures,
        "image-segmentation": pictures,
        "text-classification": [("good " * n + "bad !" + " other" * (n % 3)).encode() for n in range(9)],
        "tabular": [json.dumps({"data": {"age": 10.5 * n, "job": "ab"[n % 2]}}).encode() for n in range(9)],
        "tensor": [npy(np.full((1 + n % 4, 2), n / 7, np.float32)) for n in range(9)],
    }


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("bad", [b"\xff\xfe nonsense", b"", b'{"data": {}}'], ids=["bytes", "empty", "json"])
def test_a_bad_item_at_any_place_changes_no_other_answer(serve_task, bodies, task, bad):
    """Equal after rounding to `decimals`, which is what a client sees: kernels may add in another order in a batch."""
    served = serve_task(task)
    alone = {body: served.ask(body)[0] for body in bodies[task]}
    assert all(status == 200 for status, _ in alone.values())
    for size in range(1, 9):
        for place in range(size):
            batch = bodies[task][:size]
            batch[place] = bad
            answers = served.ask(*batch)
            assert 400 <= answers[place][0] < 500
            others = [index for index in range(size) if index != place]
            assert [answers[index] for index in others] == [alone[batch[index]] for index in others]


@pytest.mark.parametrize("task", TASKS)
def test_several_instances_are_answered_in_order(serve_task, bodies, task):
    served = serve_task(task, batch__max_instances=3)
    chosen = bodies[task][:3]
    alone = [served.ask(body)[0][1] for body in chosen]
    instances = {
        "text-classification": lambda body: body.decode(),
        "tabular": lambda body: json.loads(body)["data"],
    }.get(task, lambda body: {"b64": base64.b64encode(body).decode()})
    request = json.dumps({"instances": [instances(body) for body in chosen]}).encode()
    assert served.ask(request) == [(200, {"predictions": alone})]


def test_a_classifier_answers_label_and_score_the_best_first(serve_task, make_image):
    ((_, answer),) = serve_task("image-classification").ask(make_image((255, 0, 0)))
    assert next(iter(answer)) == "red"
    assert answer["red"] == pytest.approx(1, abs=1e-3)
    assert len(answer) == 3


def test_a_detector_answers_boxes_the_best_first_in_pixels_as_sent(serve_task, make_image):
    contract = {"inputs__image__exact": ..., "inputs__image__resize": {"width": 4, "height": 4}}
    served = serve_task("object-detection", **contract)
    assert served.ask(make_image((255, 0, 0), (8, 40))) == [
        (200, [{"green": [2, 10, 8, 40], "score": 1.0}, {"red": [0, 0, 4, 10], "score": 0.5}])
    ]


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        pytest.param({"outputs__top_k": 1}, [{"green": [1, 1, 4, 4], "score": 1.0}], id="top-k"),
        pytest.param({"outputs__min_score": 0.6}, [{"green": [1, 1, 4, 4], "score": 1.0}], id="min-score"),
        pytest.param({"outputs__label_only": True}, [{"green": [1, 1, 4, 4]}, {"red": [0, 0, 2, 1]}], id="label-only"),
    ],
)
def test_a_detector_keeps_to_the_output_policy(serve_task, make_image, changes, answer):
    assert serve_task("object-detection", **changes).ask(make_image((255, 0, 0))) == [(200, answer)]


@pytest.mark.parametrize(
    ("size", "box"),
    [
        pytest.param((512, 256), [144.0, 16.0, 368.0, 240.0], id="wide-at-its-size"),
        pytest.param((256, 512), [16.0, 144.0, 240.0, 368.0], id="tall-at-its-size"),
        pytest.param((1024, 512), [288.0, 32.0, 736.0, 480.0], id="twice-its-size"),
    ],
)
def test_boxes_are_moved_back_out_of_the_crop(size, box):
    image = image_input(Resize(256, 224), None)
    assert _place(torch.tensor([[0.0, 0.0, 224.0, 224.0]]), image, size).tolist() == [box]


def test_boxes_stay_inside_the_picture():
    image = image_input(Stretch(10, 10), None)
    assert _place(torch.tensor([[-5.0, -5.0, 50.0, 50.0]]), image, (20, 30)).tolist() == [[0, 0, 20, 30]]


def image_input(resize: Resize | Stretch | None, exact: tuple[int, int, int] | None) -> ImageInput:
    channels = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return ImageInput("image", ("png",), ("raw",), 1, 1, 9999, 99999999, 1, "rgb", resize, exact, *channels)


def test_a_segmenter_answers_class_and_score_of_every_pixel(serve_task, make_image):
    ((status, answer),) = serve_task("image-segmentation").ask(make_image((0, 255, 0)))
    assert status == 200
    assert np.array(answer).shape == (4, 4, 2)
    assert {tuple(pixel) for row in answer for pixel in row} == {(1.0, 0.9999)}


def test_a_segmenter_with_label_only_answers_classes(serve_task, make_image):
    served = serve_task("image-segmentation", outputs={"decimals": 4, "label_only": True})
    assert served.ask(make_image((0, 255, 0))) == [(200, [[1] * 4] * 4)]


def test_a_segmenter_says_nothing_of_pixels_under_the_least_score(serve_task, make_image):
    served = serve_task("image-segmentation", outputs={"decimals": 4, "min_score": 0.9})
    assert served.ask(make_image((99, 99, 99))) == [(200, [[[-1.0, 0.0]] * 4] * 4)]


@pytest.mark.parametrize(
    ("text", "label"),
    [("good", "red"), ("GOOD good bad", "red"), ("bad! bad, good", "green"), ("what is this", "blue")],
)
def test_a_text_is_classified_by_its_words(serve_task, text, label):
    ((status, answer),) = serve_task("text-classification").ask(text.encode())
    assert (status, next(iter(answer))) == (200, label)


@pytest.mark.parametrize(("words", "status"), [(20, 200), (21, 413)])
def test_a_text_has_at_most_the_contract_s_tokens(serve_task, words, status):
    ((got, answer),) = serve_task("text-classification").ask(b"good " * words)
    assert got == status
    assert status == 200 or answer["reason"] == "too_many_tokens"


def test_a_table_without_labels_is_answered_by_numbers(serve_task):
    served = serve_task("tabular", outputs={"decimals": 2, "top_k": 1})
    assert served.ask(b'{"data": {"age": 100, "job": "b"}}') == [(200, [0.03, 1.04, 2.05])]


def test_a_table_with_labels_is_answered_by_scores(serve_task):
    ((_, answer),) = serve_task("tabular").ask(b'{"data": {"age": 100, "job": "b"}}')
    assert list(answer) == ["blue", "green", "red"]
    assert sum(answer.values()) == pytest.approx(1, abs=1e-3)


def test_a_tensor_is_answered_by_nested_lists(serve_task):
    served = serve_task("tensor")
    assert served.ask(b"[[1, 2], [3, 4.5]]", npy(np.ones((1, 2), np.float32))) == [(200, [4.0, 6.5]), (200, [1.0, 1.0])]


def test_kserve_v2_is_answered_in_its_own_form(serve_task):
    entry = {"name": "in", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4.5]}
    ((status, answer),) = serve_task("tensor").ask(json.dumps({"id": "7", "inputs": [entry]}).encode())
    assert status == 200
    assert answer["id"] == "7"
    assert answer["outputs"] == [{"name": "in", "datatype": "FP64", "data": [4.0, 6.5], "shape": [2]}]


def test_the_only_value_of_an_item_is_its_value():
    assert Item({"x": "text"}).value == "text"
