"""Explanations: right, bounded in cost, and nobody else's business: every other answer of a batch stays what it is."""

import json
import sys
import warnings
from typing import Any

import pytest
import torch

from garrison.errors import ConfigError, Overloaded
from garrison.torchserve import explanations
from garrison.torchserve.explanations import Allowance

BOTH = ("integrated-gradients", "feature-ablation")
GRADIENTS = {"method": "integrated-gradients", "max_evaluations": 32}
ABLATION = {"method": "feature-ablation", "max_evaluations": 32}
RED, GREEN, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 0)
VOCABULARY = json.dumps({"<unk>": 0, "<pad>": 1, "good": 2, "bad": 3, "!": 4}).encode()
TEXT = {"kind": "text", "max_bytes": "1KiB", "max_characters": 200, "max_tokens": 20, "vocabulary": "vocab.json"}
TABLE = {
    "kind": "table",
    "columns": {
        "age": {"kind": "float", "min": 10, "max": 120},
        "job": {"kind": "category", "categories": ["a", "b", "c"]},
        "debt": {"kind": "float", "min": -50, "max": 50, "missing": 7},
    },
}
TENSOR = {"kind": "tensor", "dtype": "float32", "shape": [[1, 4], 2], "min": -10, "max": 10}
WEIGHTS = [[1.0, 0.0, -1.0], [2.0, 0.0, 1.0], [-3.0, 0.0, 0.0]]  # of three columns for red, green and blue


class Linear(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(WEIGHTS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight


class TopLeft(torch.nn.Module):
    """A classifier that looks at one quarter of the picture only, and not in a straight line."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        corner = x[:, :, : x.shape[2] // 2, : x.shape[3] // 2].mean(dim=[2, 3])
        return corner * corner * 10


class CountWords(torch.nn.Module):
    """Red for every `good`, green for every `bad`; filling counts for blue."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        counts = [2 * (tokens == 2).sum(dim=1), (tokens == 3).sum(dim=1), (tokens == 1).sum(dim=1)]
        return torch.stack(counts, dim=1).float() / torch.tensor([1.0, 1.0, 100.0])


class RowSums(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x[:, :, 0].sum(dim=1), 3 * x[:, :, 1].sum(dim=1)], dim=1)


TASKS: dict[str, dict[str, Any]] = {
    "image-classification": {"module": TopLeft()},
    "text-classification": {"module": CountWords(), "inputs": {"x": TEXT}, "files": {"vocab.json": VOCABULARY}},
    "tabular": {"module": Linear(), "inputs": {"x": TABLE}},
    "tensor": {"module": RowSums(), "inputs": {"x": TENSOR}, "outputs": {"decimals": 4}},
}
CASES = [(task, method) for task in TASKS for method in BOTH if (task, method) != ("text-classification", BOTH[0])]


def section_of(task: str, method: str, **changes: Any) -> dict[str, Any]:
    grid = {"grid": 2} if task == "image-classification" else {}
    return {"method": method, "max_evaluations": 32} | grid | changes


@pytest.fixture
def serve_task(serve):
    """Start the tiny model of a task, with explanations by a method; `section` changes these."""

    def start(task: str, method: str = "feature-ablation", section: dict[str, Any] | None = None, **changes: Any):
        return serve(task=task, explanations=section_of(task, method, **section or {}), **TASKS[task] | changes)

    return start


@pytest.fixture
def bodies(make_image):
    """Nine different good bodies per task."""
    return {
        "image-classification": [make_image((25 * n, 255 - 20 * n, 40)) for n in range(9)],
        "text-classification": [("good " * n + "bad !" + " other" * (n % 3)).encode() for n in range(9)],
        "tabular": [row(10.5 + n, "abc"[n % 3], n) for n in range(9)],
        "tensor": [json.dumps([[n / 7, 2.0]] * (1 + n % 4)).encode() for n in range(9)],
    }


def row(age: float, job: str, debt: float | None) -> bytes:
    return json.dumps({"data": {"age": age, "job": job, "debt": debt}}).encode()


def explain(served: Any, body: bytes) -> Any:
    ((status, answer),) = served.ask(body, explain=[0])
    assert status == 200, answer
    return answer


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


def test_a_text_s_tokens_speak_and_what_fills_it_up_does_not(serve_task):
    answer = explain(serve_task("text-classification"), b"Good, GOOD bad")
    assert (answer["label"], answer["attributions"]) == (
        "red",
        [["good", 2.0], [",", 0.0], ["good", 2.0], ["bad", 0.0]],
    )


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


def test_attributions_that_are_no_numbers_do_not_leave(serve_task):
    """The answer is a number, its slope is none: the root of 0 at the item and at the baseline."""
    columns = TABLE["columns"] | {"debt": {"kind": "float", "min": 0, "max": 50}}
    served = serve_task("tabular", "integrated-gradients", module=Root(), inputs={"x": TABLE | {"columns": columns}})
    assert served.ask(row(20, "a", 0))[0][0] == 200
    assert served.ask(row(20, "a", 0), row(20, "a", 4), explain=[0, 1])[0][1]["reason"] == "model_failed"


# --- the cost -------------------------------------------------------------------------------------------------------


class Counted:
    """A model that keeps how many items came in each of its runs; `most` is how many it has memory for."""

    def __init__(self, model: Any, most: int = 1024) -> None:
        self.model, self.most, self.runs = model, most, []

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        self.runs.append(len(inputs))
        if len(inputs) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.model(inputs)


def count(served: Any, most: int = 1024) -> Counted:
    """Put a counter in the place of the model that explanations ask."""
    probe = served.handler.probe
    counted = Counted(getattr(probe, "_model", None) or probe.model, most)
    object.__setattr__(probe, "_model" if hasattr(probe, "_model") else "model", counted)
    return counted


@pytest.mark.parametrize(
    ("task", "method", "runs"),
    [
        ("image-classification", "feature-ablation", [1, 4]),
        ("image-classification", "integrated-gradients", [8, 8, 8, 8]),
        ("tabular", "feature-ablation", [1, 3]),
        ("tabular", "integrated-gradients", [8, 8, 8, 8]),
        ("tensor", "feature-ablation", [1, 4]),
        ("text-classification", "feature-ablation", [1, 5]),
    ],
)
def test_the_model_runs_as_often_as_the_contract_says_and_in_its_batches(serve_task, bodies, task, method, runs):
    served = serve_task(task, method)
    body = {"text-classification": b"good bad ! bad other"}.get(task, bodies[task][1])
    counted = count(served)
    explain(served, body)
    assert counted.runs == runs


@pytest.mark.parametrize(
    ("batch", "largest"),
    [({"batch__max_items": 3}, 3), ({"batch__max_bytes": 12 * 2}, 2), ({"batch__max_bytes": 12}, 1)],
    ids=str,
)
@pytest.mark.parametrize("method", BOTH)
def test_a_run_is_bounded_in_items_and_bytes(serve_task, method, batch, largest):
    served = serve_task("tabular", method, **batch)
    counted = count(served)
    explain(served, row(20, "b", 3))
    assert max(counted.runs) == largest
    assert sum(counted.runs) == (32 if method == "integrated-gradients" else 4)


@pytest.mark.parametrize(("words", "status"), [(9, 200), (10, 413)])
def test_a_text_of_too_many_tokens_is_answered_but_not_explained(serve_task, words, status):
    served = serve_task("text-classification", section={"max_evaluations": 10})
    body = b"good " * words
    (answer, explained) = served.ask(body, body, explain=[1])
    assert (answer[0], explained[0]) == (200, status)
    assert status == 200 or explained[1]["reason"] == "too_many_evaluations"


@pytest.mark.parametrize("method", BOTH)
def test_out_of_memory_halves_the_run_until_it_fits(serve_task, method):
    served = serve_task("tabular", method)
    alone = explain(served, row(20, "b", 3))
    counted = count(served, most=2)
    assert explain(served, row(20, "b", 3)) == alone
    assert counted.runs[:3] == ([8, 4, 2] if method == "integrated-gradients" else [1, 3, 1])


@pytest.mark.parametrize("method", BOTH)
def test_what_never_fits_is_refused_and_the_worker_lives(serve_task, method):
    served = serve_task("tabular", method)
    count(served, most=0)
    answer, explained = served.ask(row(20, "b", 3), row(20, "b", 3), explain=[1])
    assert (explained[0], explained[1]["reason"]) == (503, "out_of_memory")
    assert answer[0] == 200


def test_a_model_that_takes_one_item_at_a_time_is_explained_run_by_run(serve_task):
    class One(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.reshape(1, 3)

    served = serve_task("tabular", module=One())
    counted = count(served)
    explain(served, row(20, "b", 3))
    assert counted.runs == [1, 1, 1, 1]


class Clock:
    """A clock that gains so many seconds whenever it is read."""

    def __init__(self, seconds: float) -> None:
        self.now, self.step = 0.0, seconds

    def monotonic(self) -> float:
        self.now += self.step
        return self.now


def test_the_explanations_of_a_batch_share_half_of_the_time_and_the_answers_come_all_the_same(serve_task, monkeypatch):
    """Of ten seconds: an explanation that reads the clock three times takes 1.2 s of the five."""
    served = serve_task("tabular", workers__timeout_s=10)
    monkeypatch.setattr(explanations, "time", Clock(0.4))
    answers = served.ask(*[row(20, "b", 3)] * 8, explain=range(1, 8))
    told = [answer.get("reason", "explained") for _, answer in answers[1:]]
    assert told == ["explained"] * told.count("explained") + ["out_of_time"] * told.count("out_of_time")
    assert told.count("explained") == 4
    assert [status for status, _ in answers] == [200] * 5 + [503] * 3
    assert "attributions" not in answers[0][1]


def test_the_next_batch_has_time_of_its_own(serve_task, monkeypatch):
    served = serve_task("tabular", workers__timeout_s=10)
    monkeypatch.setattr(explanations, "time", Clock(0.4))
    for _ in range(3):
        assert [status for status, _ in served.ask(*[row(20, "b", 3)] * 2, explain=[0, 1])] == [200, 200]


def test_time_is_over_in_the_middle_of_an_explanation(monkeypatch):
    clock = Clock(0)
    monkeypatch.setattr(explanations, "time", clock)
    allowance = Allowance(2)
    with allowance.spend():
        clock.now = 1.9
        allowance.check()
        clock.now = 2.0
        with pytest.raises(Overloaded, match="out_of_time"):
            allowance.check()


# --- a model that cannot be explained does not start ----------------------------------------------------------------


class Rounded(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.detach()


class Pair(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x


@pytest.mark.parametrize(
    ("task", "method", "module", "message"),
    [
        pytest.param("tabular", BOTH[0], Rounded(), "RuntimeError: .*without gradients, write feature-abl", id="flat"),
        pytest.param("tensor", BOTH[1], Pair(), "an output of tuple instead of one row of scores", id="two-outputs"),
        pytest.param("tensor", BOTH[1], torch.nn.Identity(), r"an output of \(1, 4, 2\) instead of", id="no-row"),
    ],
)
def test_a_model_that_cannot_be_explained_does_not_start(serve_task, task, method, module, message):
    with pytest.raises(ConfigError, match=f"tiny: explanations.method: a blank input cannot be explained: .*{message}"):
        serve_task(task, method, module=module)


@pytest.mark.parametrize(("seconds", "starts"), [(0.8, True), (0.9, False)])
def test_a_model_that_is_explained_too_slowly_does_not_start(serve_task, monkeypatch, seconds, starts):
    """In 2.5 of ten seconds, with three reads of the clock."""
    monkeypatch.setattr(explanations, "time", Clock(seconds))
    if starts:
        serve_task("tabular", workers__timeout_s=10)
        return
    with pytest.raises(ConfigError, match=r"longer than 2.5 s, a quarter of workers.timeout_s; lower explanations.max"):
        serve_task("tabular", workers__timeout_s=10)


@pytest.mark.parametrize("words", [9, 19], ids=["bounded-by-the-cost", "bounded-by-the-tokens"])
def test_the_largest_text_is_what_is_measured(serve_task, monkeypatch, words):
    sizes = []
    attribute = explanations.Explainer._attribute

    def record(self, tensors, *rest):
        sizes.append(len(tensors))
        return attribute(self, tensors, *rest)

    monkeypatch.setattr(explanations.Explainer, "_attribute", record)
    serve_task("text-classification", section={"max_evaluations": words + 1})
    assert sizes == [{9: 16, 19: 20}[words]] * 2  # with what fills it up


def test_without_captum_the_model_does_not_start(serve_task, monkeypatch):
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(ConfigError, match=r"captum is not installed.*pip install 'garrison\[explanations\]'"):
        serve_task("tabular")


def test_without_captum_a_model_that_is_not_explained_starts(serve, monkeypatch, make_image):
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    assert serve().ask(make_image(RED))[0][0] == 200


def test_onnx_is_explained_by_leaving_out(serve_task, tmp_path):
    path = tmp_path / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the exporter that needs no further package
        torch.onnx.export(
            Linear(), (torch.zeros(2, 3),), path, input_names=["x"], dynamic_axes={"x": {0: "items"}}, dynamo=False
        )
    served = serve_task("tabular", weights="model.onnx", files={"model.onnx": path.read_bytes()})
    assert explain(served, row(12.5, "c", -3))["attributions"] == {"age": 2.5, "job": 4.0, "debt": 30.0}


def test_onnx_has_no_gradients_and_is_not_packed_with_them(serve_task, make_image):
    with pytest.raises(ConfigError, match=r"explanations\.method: model\.onnx has no gradients for integrated-gr"):
        serve_task("tabular", "integrated-gradients", weights="model.onnx", files={"model.onnx": b"x"})
