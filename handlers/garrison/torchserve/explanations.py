"""Explain answers, at a bounded cost: an item and its output enter, its best class and what spoke for it leave.

Only the best class is explained, a client cannot choose another: each further class would be another query for whoever
copies the model. The numbers are differences of the model's raw output (before a softmax) to the one at the baseline:

    integrated-gradients   `max_evaluations` steps from the baseline to the item, forward and backward
    feature-ablation       one run for the item, and one for each feature, put back to its baseline

What a worker spends on it is bounded three times: the number of runs by the contract, how many items are in one run by
the contract's batch (halved when memory runs out), and the time of all explanations of one batch together, by a clock
that is looked at before every run: TorchServe ends a worker that does not answer in time, with all its requests.
"""

import importlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch

from garrison.archive import PackedModel
from garrison.checks import Item
from garrison.contract import ABLATION, GRADIENTS, Contract, Explanations
from garrison.errors import ConfigError, Overloaded, Refused, TooLarge, Unsupported
from garrison.torchserve.batching import Tensors, say_why
from garrison.torchserve.blank import make_largest_item
from garrison.torchserve.device import is_out_of_memory
from garrison.torchserve.policy import check_finite, model_failed
from garrison.torchserve.probes import Probe, Question

BATCH_SHARE = 1 / 2  # of timeout_s, for all explanations of a batch: the rest is for its answers
ITEM_SHARE = 1 / 4  # of timeout_s, for the largest one when the worker starts: load may double it


@dataclass(frozen=True)
class Explanation:
    """What is told about one item, before the output policy."""

    answer: dict[str, Any]


def start_explainer(
    probe: Probe | None, model: PackedModel, most_items: int, prepare: Callable[[Item], Tensors]
) -> "Explainer | None":
    """Return what explains a loaded model, tried out; nothing where the contract has no explanations.

    Raises:
        ConfigError: captum is not installed, or the model cannot be explained, or not in time.
    """
    section = model.contract.explanations
    if section is None:
        return None
    if probe is None:
        raise ConfigError(f"explanations: the task {model.contract.task} has none; take the section out")
    explainer = Explainer(probe, model, section, most_items)
    explainer.warm_up(prepare)
    return explainer


def allow_time(contract: Contract) -> "Allowance":
    """Return the time that the explanations of one batch have together."""
    return Allowance(contract.workers.timeout_s * BATCH_SHARE)


def no_explanations() -> Refused:
    """Return the refusal for a model that is not explained."""
    return Unsupported("no_explanations", "This model's answers are not explained.")


class Allowance:
    """So many seconds for explanations, one after the other."""

    def __init__(self, seconds: float) -> None:
        self._left_s = seconds
        self._end = 0.0

    @contextmanager
    def spend(self) -> Iterator[None]:
        """Count the time of what runs inside."""
        began = time.monotonic()
        self._end = began + self._left_s
        try:
            yield
        finally:
            self._left_s -= time.monotonic() - began

    def check(self) -> None:
        """Go on only while there is time.

        Raises:
            Overloaded: there is none left.
        """
        if time.monotonic() >= self._end:
            raise Overloaded("out_of_time", "There is no time for this explanation at the moment; try again later.")


class Explainer:
    """Explain a model's answers; `most_items` is how many the contract allows, and the model takes, in one run."""

    def __init__(self, probe: Probe, model: PackedModel, section: Explanations, most_items: int) -> None:
        self._probe, self._contract, self._section = probe, model.contract, section
        self._labels = () if model.contract.task == "tensor" else model.labels  # a tensor's answer uses none either
        self._most_items = most_items
        self._captum = _import_captum()

    def explain(self, tensors: Tensors, item: Item, output: Any, allowance: Allowance) -> Explanation | Refused:
        """Explain the best class of one item; what goes wrong costs this item only."""
        try:
            best, label, score = _find_best(output, self._labels)
            if self._labels and score < self._contract.outputs.min_score:
                return Explanation({})  # its answer tells no label either
            with allowance.spend():
                attributions = self._attribute(tensors, item, best, allowance)
            return Explanation({"label": label, "score": score, "attributions": attributions})
        except Exception as error:  # noqa: BLE001 - a model may raise anything; the client learns nothing of it
            return say_why(error, 1)

    def warm_up(self, prepare: Callable[[Item], Tensors]) -> None:
        """Explain the largest blank item, and measure the second time; the first one compiles.

        Raises:
            ConfigError: it cannot be explained, or takes too much of `workers.timeout_s`.
        """
        seconds = self._contract.workers.timeout_s * ITEM_SHARE
        item = make_largest_item(self._contract, self._section.max_evaluations - 1)
        try:
            tensors = prepare(item)
            for allowance in (Allowance(4 * seconds), Allowance(seconds)):
                with allowance.spend():
                    self._attribute(tensors, item, 0, allowance)
                    allowance.check()
        except Overloaded as error:
            raise ConfigError(self._advise(seconds)) from error
        except Exception as error:
            raise ConfigError(self._say_what_is_wrong(error)) from error

    def _attribute(self, tensors: Tensors, item: Item, target: int, allowance: Allowance) -> Any:
        if not isinstance(tensors, torch.Tensor):
            raise model_failed("several inputs cannot be explained")
        question = self._probe.ask(tensors, item)
        if self._section.method == ABLATION and question.count + 1 > self._section.max_evaluations:
            most = self._section.max_evaluations - 1
            raise TooLarge(
                "too_many_evaluations", f"An input of more than {most} parts is not explained.", f"{question.count}"
            )
        items = self._most_items
        while True:
            try:
                return question.tell(self._run(question, target, items, allowance).cpu())
            except Exception as error:
                if items == 1 or not is_out_of_memory(error):
                    raise
            items //= 2  # outside `except`: the exception holds on to the tensors of the failed run
            if question.inputs.is_cuda:
                torch.cuda.empty_cache()

    def _run(self, question: Question, target: int, items: int, allowance: Allowance) -> torch.Tensor:
        """Return one number per feature."""

        def score(inputs: torch.Tensor) -> torch.Tensor:
            if inputs.is_cuda:
                torch.cuda.synchronize(inputs.device)  # or the clock would be ahead of the work
            allowance.check()
            return _check_scores(question.model(inputs), len(inputs))

        values = torch.zeros(question.count, dtype=torch.float64, device=question.inputs.device)
        features = question.features.expand_as(question.inputs).flatten()
        if self._section.method == GRADIENTS:
            with torch.enable_grad():
                told = self._captum.IntegratedGradients(score).attribute(
                    question.inputs.detach().requires_grad_(),
                    question.baseline,
                    target=target,
                    n_steps=self._section.max_evaluations,
                    internal_batch_size=items,
                )
            return values.index_add(0, features, told.detach().flatten().to(values.dtype))
        with torch.inference_mode():
            told = self._captum.FeatureAblation(score).attribute(
                question.inputs,
                question.baseline,
                target=target,
                feature_mask=question.features,
                perturbations_per_eval=items,
            )
        # Every value of a feature got the feature's number.
        return values.index_copy(0, features, told.flatten().to(values.dtype))

    def _advise(self, seconds: float) -> str:
        return (
            f"{self._contract.model}: an explanation takes longer than {seconds:g} s, a quarter of workers.timeout_s; "
            "lower explanations.max_evaluations (and grid), or raise workers.timeout_s"
        )

    def _say_what_is_wrong(self, error: Exception) -> str:
        told = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        advice = f"; without gradients, write {ABLATION}" if self._section.method == GRADIENTS else ""
        return f"{self._contract.model}: explanations.method: a blank input cannot be explained: {told}{advice}"


def _import_captum() -> Any:
    """Import captum without what draws figures: matplotlib is large and would start programs to look for fonts."""
    drawing = ModuleType("captum.attr._utils.visualization")
    drawing.draw_mask_border = drawing.draw_mask_legend = _cannot_draw  # type: ignore[attr-defined]
    sys.modules.setdefault(drawing.__name__, drawing)
    try:
        with _without_matplotlib():
            return importlib.import_module("captum.attr")
    except ImportError as error:
        raise ConfigError(
            "explanations: captum is not installed; install it with: pip install 'garrison[explanations]'"
        ) from error


@contextmanager
def _without_matplotlib() -> Iterator[None]:
    """Let what runs inside import `matplotlib.colors` without loading it; a handler of your own may load it later."""
    colours = ModuleType("matplotlib.colors")
    colours.LinearSegmentedColormap = object  # type: ignore[attr-defined] # captum.attr names it in an annotation
    empty = {one.__name__: one for one in (ModuleType("matplotlib"), colours) if one.__name__ not in sys.modules}
    sys.modules.update(empty)
    try:
        yield
    finally:
        for name in empty:
            del sys.modules[name]


def _cannot_draw(*_: Any, **__: Any) -> None:
    raise NotImplementedError("captum draws nothing in a worker")


def _find_best(output: Any, labels: Sequence[str]) -> tuple[int, str | int, float]:
    """Return the best class's number, what it is called, and its score as an answer tells it."""
    if isinstance(output, Refused):
        raise output
    if not isinstance(output, torch.Tensor) or output.dim() > 1 or not output.numel():
        raise model_failed("not one row of scores per item")
    check_finite(output)
    scores = output.reshape(-1).float()
    best = int(scores.argmax())
    if not labels:
        return best, best, float(scores[best])
    return best, labels[best], float(scores.softmax(dim=0)[best])


def _check_scores(output: Any, count: int) -> torch.Tensor:
    if not isinstance(output, torch.Tensor) or output.dim() not in (1, 2) or len(output) != count:
        shape = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise model_failed(f"an output of {shape} instead of one row of scores per item")
    return output.reshape(count, -1)
