"""The cost of an explanation is bounded in runs, in items and bytes of a run, and in time."""

import subprocess
import sys
import warnings
from typing import Any

import pytest
import torch

from garrison.errors import ConfigError, Overloaded
from garrison.torchserve import explanations
from garrison.torchserve.explanations import Allowance
from unit.explanations.models import BOTH, Linear, explain, row

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
    assert serve().ask(make_image())[0][0] == 200


def test_captum_starts_no_programs_and_draws_nothing():
    """Its figures need fonts, which matplotlib looks for by starting `fc-list`, once per worker."""
    code = """
import subprocess, sys
subprocess.Popen = None
from garrison.torchserve.explanations import _import_captum
captum = _import_captum()
assert captum.IntegratedGradients and captum.FeatureAblation
assert "matplotlib.font_manager" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


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
