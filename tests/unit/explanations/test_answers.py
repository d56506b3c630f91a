"""Explanations are right, and nobody else's business: every other answer of a batch stays what it is."""

import json
from typing import Any

import pytest
import torch

from unit.explanations.models import BOTH, CASES, TABLE, TENSOR, WEIGHTS, explain, row

RED = (255, 0, 0)


# --- right ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", BOTH)
def test_a_linear_model_s_columns_speak_for_weight_times_distance_from_the_baseline(serve_task, method):
    """The baseline: 10 is the age nearest to zero, the first job, and what stands for a missing debt."""
    answer = explain(serve_task("tabular", method), row(12.5, "c", -3))
    scores = torch.tensor([[12.5, 2, -3]]) @ torch.tensor(WEIGHTS)
    assert answer["label"] == "red"
    assert answer["score"] == pytest.approx(float(scores.softmax(1)[0, 0]), abs=1e-4)
    assert answer["attributions"] == pytest.approx({"age": 2.5, "job": 4.0, "debt": 30.0}, abs=1e-3)


@pytest.mark.parametrize("method", BOTH)
def test_an_item_that_is_the_baseline_has_nothing_to_explain(serve_task, method):
    answer = explain(serve_task("tabular", method), row(10, "a", None))
    assert answer["attributions"] == {"age": 0.0, "job": 0.0, "debt": 0.0}


@pytest.mark.parametrize("method", BOTH)
@pytest.mark.parametrize("exact", [[8, 8, 3], [8, 12, 3], [9, 7, 3]], ids=str)
def test_only_the_quarter_that_the_model_looks_at_speaks(serve_task, make_image, method, exact):
    height, width, _ = exact
    served = serve_task("image-classification", method, inputs__image__exact=exact)
    answer = explain(served, make_image(RED, (width, height)))
    assert answer["label"] == "red"
    cells = answer["attributions"]
    assert [len(cells), *map(len, cells)] == [2, 2, 2]
    outside = abs(cells[0][1]) + abs(cells[1][0]) + abs(cells[1][1])
    assert cells[0][0] > 9
    assert outside == (0 if height % 2 == width % 2 == 0 else pytest.approx(0, abs=0.5))


def test_gradients_add_up_to_the_difference_from_the_baseline(serve_task, make_image):
    """The baseline is the colour `normalise.mean`, where this model's logit of red is 0."""
    served = serve_task("image-classification", "integrated-gradients", inputs__image__normalise__mean=[0.2, 0, 0])
    cells = explain(served, make_image(RED))["attributions"]
    assert sum(map(sum, cells)) == pytest.approx(10 * 0.8**2, abs=1e-3)


def test_a_picture_in_the_baseline_s_colour_has_nothing_to_explain(serve_task, make_image):
    served = serve_task("image-classification", "feature-ablation", inputs__image__normalise__mean=[0.2, 0.4, 0.6])
    assert explain(served, make_image((51, 102, 153)))["attributions"] == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("text", "label", "attributions"),
    [
        (b"Good, GOOD bad", "red", [["good", 2.0], [",", 0.0], ["good", 2.0], ["bad", 0.0]]),
        (b"bad bad other", "green", [["bad", 1.0], ["bad", 1.0], ["other", 0.0]]),
    ],
)
def test_a_text_s_tokens_speak_and_what_fills_it_up_does_not(serve_task, text, label, attributions):
    """A token is put to `<unk>`, which this model does not count."""
    answer = explain(serve_task("text-classification"), text)
    assert (answer["label"], answer["attributions"]) == (label, attributions)


def test_a_text_is_asked_about_as_it_was_filled_up(serve_task):
    class Mean(torch.nn.Module):
        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            words = (tokens != 1).sum(dim=1, keepdim=True)
            return torch.stack([tokens == 2, tokens == 3, tokens == 4], dim=2).sum(dim=1) * 8 / words

    answer = explain(serve_task("text-classification", module=Mean()), b"good good bad bad")
    assert answer["attributions"] == [["good", 2.0], ["good", 2.0], ["bad", 0.0], ["bad", 0.0]]


def test_a_tensor_is_explained_in_its_own_shape(serve_task):
    served = serve_task("tensor", "integrated-gradients")
    assert explain(served, b"[[1, 2], [3, -1]]") == {
        "label": 0,
        "score": 4.0,
        "attributions": [[1.0, 0.0], [3.0, 0.0]],
    }
    assert explain(served, b"[[1, 2]]") == {"label": 1, "score": 6.0, "attributions": [[0.0, 6.0]]}


@pytest.mark.parametrize("dtype", ["float64", "float16", "int64", "uint8", "bool"])
def test_tensors_of_every_kind_of_number_are_explained(serve_task, dtype):
    class Sums(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.float().sum(dim=2)

    item = TENSOR | {"dtype": dtype, "shape": [1, 2], "min": 0, "max": 1}
    served = serve_task("tensor", inputs={"x": item}, module=Sums())
    body = b"[[true, false]]" if dtype == "bool" else b"[[1, 0]]"
    assert explain(served, body)["attributions"] == [[1.0, 0.0]]


def test_a_model_of_one_number_is_explained_as_its_first_output(serve_task):
    class Total(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.sum(dim=1)

    served = serve_task("tabular", "integrated-gradients", module=Total(), outputs={"decimals": 3})
    assert explain(served, row(12, "b", 8)) == {
        "label": 0,
        "score": 21.0,
        "attributions": {"age": 2.0, "job": 1.0, "debt": 1.0},
    }


@pytest.mark.parametrize(("task", "method"), CASES)
def test_label_and_score_are_those_of_the_answer(serve_task, bodies, task, method):
    served = serve_task(task, method)
    for body in bodies[task][1:]:
        ((_, answer),) = served.ask(body)
        explained = explain(served, body)
        if isinstance(answer, dict):
            assert next(iter(answer.items())) == (explained["label"], explained["score"])
        else:
            assert (explained["label"], explained["score"]) == (answer.index(max(answer)), max(answer))


@pytest.mark.parametrize(("task", "method"), [case for case in CASES if case[0] in ("image-classification", "tabular")])
@pytest.mark.parametrize("weights", ["model.pt2", "state.pt"])
def test_weights_in_other_formats_are_explained_too(serve_task, bodies, tmp_path, task, method, weights):
    source = (
        "import torch\nclass Model(torch.nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n"
        "        self.scale = torch.nn.Parameter(torch.tensor(2.0))\n"
        "    def forward(self, x):\n        return (x if x.dim() == 2 else x.mean(dim=[2, 3])) * self.scale\n"
    )
    space: dict[str, Any] = {}
    exec(source, space)
    model = space["Model"]().eval()
    path = tmp_path / weights
    if weights.endswith(".pt2"):
        example = torch.zeros(2, 3) if task == "tabular" else torch.zeros(2, 3, 4, 4)
        program = torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
        torch.export.save(program, path)
        files = {}
    else:
        torch.save(model.state_dict(), path)
        files = {"model.py": source.encode()}
    served = serve_task(task, method, weights=weights, files=files | {weights: path.read_bytes()})
    assert explain(served, bodies[task][3])["attributions"]


# --- nobody else's business -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("task", "method"), CASES)
def test_an_explanation_at_any_place_changes_no_other_answer(serve_task, bodies, make_context, task, method):
    """Byte by byte."""
    served = serve_task(task, method)
    alone = [ask_raw(served, make_context, [body])[0] for body in bodies[task][:8]]
    explained = [ask_raw(served, make_context, [body], {0})[0] for body in bodies[task][:8]]
    assert all(b"attributions" in answer for answer in explained)
    for size in (2, 5, 8):
        for place in range(size):
            answers = ask_raw(served, make_context, bodies[task][:size], {place})
            assert answers == [*alone[:place], explained[place], *alone[place + 1 : size]]


def ask_raw(served: Any, make_context: Any, bodies: list[bytes], explain: Any = ()) -> list[bytes]:
    context = make_context(served.directory, {place: {"explain": "True"} for place in explain})
    answers: list[bytes] = served.handler.handle([{"body": body} for body in bodies], context)
    return answers


@pytest.mark.parametrize(("task", "method"), CASES)
@pytest.mark.parametrize("bad", [b"\xff\xfe nonsense", b"", b'{"data": {}}'], ids=["bytes", "empty", "json"])
def test_a_bad_item_is_refused_alone_explained_or_not(serve_task, bodies, task, method, bad):
    served = serve_task(task, method)
    one, two, three = bodies[task][1:4]
    alone = [served.ask(one, explain=[0])[0], served.ask(two)[0], served.ask(three, explain=[0])[0]]
    for asked in ([0, 3], [0, 1, 3]):
        answers = served.ask(one, bad, two, three, explain=asked)
        assert 400 <= answers[1][0] < 500
        assert [answers[0], *answers[2:]] == alone


def test_without_the_section_an_explanation_is_refused_and_nothing_else(serve, make_image):
    """The header is TorchServe's, but anyone who reaches TorchServe can send it."""
    served = serve()
    alone = served.ask(make_image(RED))[0]
    answers = served.ask(*[make_image(RED)] * 3, explain=[1])
    assert (answers[1][0], answers[1][1]["reason"]) == (415, "no_explanations")
    assert answers[0] == answers[2] == alone


def test_a_request_for_the_description_is_not_explained(serve_task, make_context):
    served = serve_task("tabular")
    context = make_context(served.directory, {0: {"describe": "True", "explain": "True"}})
    assert json.loads(served.handler.handle([{"body": b""}], context)[0]) == {"ready": True}


@pytest.mark.parametrize("value", ["true", "1", "False", ""])
def test_the_header_has_one_value(serve_task, make_context, value):
    served = serve_task("tabular")
    context = make_context(served.directory, {0: {"explain": value}})
    assert b"attributions" not in served.handler.handle([{"body": row(20, "a", 1)}], context)[0]


def test_several_instances_are_explained_in_order(serve_task):
    served = serve_task("tabular", batch__max_instances=2)
    rows = [json.loads(row(20, "a", 1))["data"], json.loads(row(10, "a", 2))["data"]]
    ((status, answer),) = served.ask(json.dumps({"instances": rows}).encode(), explain=[0])
    assert status == 200
    assert [one["attributions"]["debt"] for one in answer["explanations"]] == [18.0, 15.0]


def test_the_model_s_parameters_keep_no_gradients(serve_task, bodies):
    served = serve_task("tabular", "integrated-gradients")
    explain(served, bodies["tabular"][3])
    assert [parameter.grad for parameter in served.handler._model.parameters()] == [None]


# --- the output policy ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("decimals", "number"), [(0, 0), (2, 0.33), (4, 0.3333)])
def test_numbers_are_rounded(serve_task, decimals, number):
    answer = explain(serve_task("tabular", outputs__decimals=decimals), row(10 + 1 / 3, "a", -3))
    assert answer["attributions"]["age"] == number


def test_an_explanation_is_bounded_in_bytes(serve_task):
    fits = {"label": "red", "score": 1.0, "attributions": {"age": 10.0, "job": 0.0, "debt": 18.0}}
    served = serve_task("tabular", outputs__max_bytes=len(json.dumps(fits)))
    short, long = served.ask(row(20, "a", 1), row(20.25, "a", 1), explain=[0, 1])
    assert short[1] == fits
    assert (short[0], long[0], long[1].get("reason")) == (200, 500, "answer_too_large")


def test_under_the_least_score_there_is_nothing_to_explain(serve_task):
    """Or it would tell a label that the answer does not tell."""
    served = serve_task("tabular", outputs__min_score=0.9)
    unsure, sure = row(10, "a", 3.3), row(10, "a", 2)
    assert served.ask(unsure, explain=[0]) == served.ask(unsure) == [(200, {})]
    assert explain(served, sure)["label"] == "red"


class Root(torch.nn.Module):
    """Not a number for a negative debt; no finite slope where debt is 0, and there the answer is."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x[:, 2].sqrt(), x[:, 0] * 0, x[:, 0] * 0], dim=1)


@pytest.mark.parametrize("method", BOTH)
@pytest.mark.parametrize("place", range(3))
def test_what_is_no_number_fails_its_item_only(serve_task, method, place):
    columns = TABLE["columns"] | {"debt": {"kind": "float", "min": -50, "max": 50, "missing": 1}}
    served = serve_task("tabular", method, module=Root(), inputs={"x": TABLE | {"columns": columns}})
    rows = [row(20, "a", 4)] * 3
    rows[place] = row(20, "a", -4)
    answers = served.ask(*rows, explain=range(3))
    assert answers[place] == (500, {"reason": "model_failed", "message": "The model gave no usable answer."})
    assert [status for status, _ in answers].count(200) == 2


class Logarithm(torch.nn.Module):
    """The best class is an ordinary number; another, which is not explained, is minus infinity where debt is 0."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x[:, 0], x[:, 1], x[:, 2].log()], dim=1)


@pytest.mark.parametrize("method", BOTH)
def test_what_is_not_answered_is_not_explained(serve_task, method):
    columns = TABLE["columns"] | {"debt": {"kind": "float", "min": 0, "max": 50, "missing": 1}}
    served = serve_task("tabular", method, module=Logarithm(), inputs={"x": TABLE | {"columns": columns}})
    answers = served.ask(*[row(20, "a", 0)] * 2, row(20, "a", 2), explain=[1, 2])
    assert [status for status, _ in answers] == [500, 500, 200]


def test_attributions_that_are_no_numbers_do_not_leave(serve_task):
    """The answer is a number, its slope is none: the root of 0 at the item and at the baseline."""
    columns = TABLE["columns"] | {"debt": {"kind": "float", "min": 0, "max": 50}}
    served = serve_task("tabular", "integrated-gradients", module=Root(), inputs={"x": TABLE | {"columns": columns}})
    assert served.ask(row(20, "a", 0))[0][0] == 200
    assert served.ask(row(20, "a", 0), row(20, "a", 4), explain=[0, 1])[0][1]["reason"] == "model_failed"
