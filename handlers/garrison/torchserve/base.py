"""The pipeline that every request goes through inside a worker.

A TorchServe batch enters, one answer per request leaves. The steps, in `SafeHandler.handle`:

    1 admit    the body by the contract (`checks.read_request`), then the handler's `prepare`; many at a time
    2 infer    items of one shape together, bounded in items and bytes, halved when memory runs out (`batching`)
    3 explain  the best class of the items of which that was asked, one after the other (`explanations`)
    4 present  the handler's `present`, then the contract's output policy (`policy`), item by item
    5 reply    one status, one reason, one JSON body per request, bounded in bytes

A bad item costs its own request and no other: the rest are answered as they would have been alone.

A task, or a custom handler, fills in four hooks: `load`, `prepare`, `infer`, `present`. Everything else is sealed
against mistakes: replacing it in a subclass, through a mixin, on the class or on an instance raises TypeError, and a
custom handler is only asked for its hooks by an object that it never holds (see `custom`). It is no wall: code in the
same process can change any object in it. The cell around the worker is the wall.
"""

import json
import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from garrison.archive import PackedModel, open_model
from garrison.checks import Item, Request, present_answers, read_request
from garrison.contract import Contract, ImageInput
from garrison.errors import ConfigError, Failed, Malformed, Refused, TooLarge
from garrison.profile import read_watched
from garrison.reasons import OWN_REASONS, REASONS
from garrison.torchserve.batching import (
    Array,
    Tensors,
    as_tensors,
    count_bytes,
    infer_each,
    infer_together,
    out_of_memory,
    plan_batches,
)
from garrison.torchserve.blank import make_blank_item
from garrison.torchserve.device import bound_gpu_memory, choose_device, is_out_of_memory
from garrison.torchserve.explanations import Allowance, Explanation, allow_time, no_explanations, start_explainer
from garrison.torchserve.policy import (
    Wording,
    apply_policy,
    check_finite,
    drop_frames,
    encode_answer,
    model_failed,
    word_refusal,
)
from garrison.torchserve.probes import Probe
from garrison.torchserve.served import open_served
from garrison.torchserve.source import describe_error
from garrison.watch.inputs import InputStatistics, Watch
from garrison.watch.metrics import ContractMetrics

DECODE_THREADS = 2  # Pillow drops the interpreter lock while it decodes; more threads than cores gain nothing
BODY_NAMES = ("body", "data")
REASON_HEADER = "x-garrison-reason"
HOOKS = ("load", "prepare", "infer", "present")
_DESCRIPTION = b'{"ready": true}'
_NATIVE = ("__getattribute__", "__getattr__", "__delattr__", "__new__", "__reduce_ex__")

__all__ = ["Array", "SafeHandler"]

log = logging.getLogger("garrison.contract")


@dataclass(frozen=True)
class _Admitted:
    """A request that passed the checks, and what its items became."""

    request: Request
    prepared: tuple[Tensors, ...]
    explain: bool


Verdict = _Admitted | Refused | bytes
Answer = bytes | Refused


class _Sealed(type):
    """The class of classes whose pipeline stays as it is, whether their own body or a mixin would replace it."""

    def __init__(cls, name: str, bases: tuple[type, ...], values: dict[str, Any]) -> None:
        super().__init__(name, bases, values)
        names = [*sorted(SEALED), *_NATIVE] if SEALED else []
        replaced = [one for one in names if getattr(cls, one, None) is not getattr(SafeHandler, one, None)]
        if replaced:
            raise TypeError(_advise(name, replaced))

    def __setattr__(cls, name: str, value: Any) -> None:
        if name in SEALED:
            raise TypeError(_advise(cls.__name__, [name]))
        super().__setattr__(name, value)

    def __delattr__(cls, name: str) -> None:
        if name in SEALED:
            raise TypeError(_advise(cls.__name__, [name]))
        super().__delattr__(name)


SEALED: frozenset[str] = frozenset()


class SafeHandler(metaclass=_Sealed):
    """Serve one model by its contract; a task's class fills in the hooks.

    `contract`, `labels` (empty where the contract names none) and `device` are set before `load` is called.
    """

    contract: Contract
    labels: tuple[str, ...]
    device: torch.device
    _watch: Watch | None = None  # only once warm: blank items are nobody's inputs
    probe: Probe | None = None  # set by `load` where a task's answers can be explained

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse to replace the pipeline on an instance, too."""
        if name in SEALED:
            raise TypeError(_advise(type(self).__name__, [name]))
        super().__setattr__(name, value)

    # --- hooks ------------------------------------------------------------------------------------------------------

    def load(self, model: PackedModel) -> None:
        """Load the weights; called once, before the worker is ready."""
        raise NotImplementedError

    def prepare(self, item: Item) -> Array | Mapping[str, Array]:
        """Turn one checked item into what is stacked for `infer`; several threads call it at once.

        May raise `Refused`. Without it: the only input's value, or all inputs by their names.
        """
        values = dict(item.values)
        for name, value in values.items():
            if isinstance(value, str):
                raise TypeError(f"the input {name} is text: override prepare and turn it into numbers")
        return next(iter(values.values())) if len(values) == 1 else values  # type: ignore[return-value]

    def infer(self, batch: Any) -> Any:
        """Run the model on a batch on the device: a tensor, or several by name, whose first dimension is the items.

        Return a tensor, a tuple or dict of tensors with the same first dimension, or a list with one entry per item.
        """
        raise NotImplementedError

    def present(self, output: Any, item: Item) -> Any:
        """Turn one item's output (on the CPU) into values for JSON; tensors and arrays may be among them."""
        raise NotImplementedError

    # --- the pipeline, sealed ---------------------------------------------------------------------------------------

    def initialize(self, context: Any) -> None:
        """Load the contract and the model, and run blank items through it; TorchServe calls this at worker start.

        Raises:
            ConfigError: the model's files do not fit together, or the model cannot run.
            ArtifactRefused: the model was not admitted, or is not what was admitted any more.
        """
        _log_to_stdout()
        properties = context.system_properties
        model = open_model(open_served(Path(properties["model_dir"])))
        self.device = choose_device(properties.get("gpu_id"))
        self.contract, self.labels = model.contract, model.labels
        bound_gpu_memory(self.device, model.contract)
        self._metrics = ContractMetrics(model.contract.model, frozenset(REASONS) | frozenset(OWN_REASONS))
        self._decoders = _make_decoders(model.contract)
        self.load(model)
        self._most_items = self._warm_up()
        self.watch_with(InputStatistics(model.contract, read_watched(model).features))
        self._explainer = start_explainer(self.probe, model, self._most_items, self._prepare)

    def watch_with(self, watch: Watch) -> None:
        """Tell `watch` of every item that is answered from now on."""
        self._watch = watch

    def handle(self, data: Sequence[dict[str, Any]], context: Any) -> list[bytes]:
        """Answer every request of a TorchServe batch, each with its own status."""
        wishes = [_read_wish(context, index) for index in range(len(data))]
        self._metrics.count_batch(len(data))
        answers: list[Answer] = []
        allowance = allow_time(self.contract)
        step = self._requests_at_once()
        for start in range(0, len(data), step):
            rows, wished = data[start : start + step], wishes[start : start + step]
            with self._metrics.time_step("admit"):
                verdicts = list(self._each(self._admit, rows, wished))  # 1
            with self._metrics.time_step("infer"):
                outputs = self._infer_all(verdicts)  # 2
            outputs |= self._explain_all(verdicts, outputs, allowance)  # 3
            with self._metrics.time_step("present"):
                answers.extend(self._present(verdict, outputs) for verdict in verdicts)  # 4
        return [self._reply(index, answer, context) for index, answer in enumerate(answers)]  # 5

    def _each(self, check: Callable[..., Verdict], *arguments: Sequence[Any]) -> Iterable[Verdict]:
        return map(check, *arguments) if self._decoders is None else self._decoders.map(check, *arguments)

    def _requests_at_once(self) -> int:
        """Bound what is decoded before it is inferred: the contract's bytes, if every request brings all it may."""
        batch = self.contract.batch
        return max(1, batch.max_bytes // (self.contract.item_bytes * batch.max_instances))

    def _admit(self, row: dict[str, Any], wish: str) -> Verdict:
        """Check one request; a wish is a header that anyone behind the gateway can set, so it counts for it only."""
        if wish == "describe":
            return _DESCRIPTION
        if wish == "explain" and self._explainer is None:
            return no_explanations()
        try:
            body = _get_body(row)
            self._metrics.count_input(len(body))
            request = read_request(body, self.contract)
            for item in request.items:
                if item.source_size is not None:
                    self._metrics.count_picture(*item.source_size)
            return _Admitted(request, tuple(self._prepare(item) for item in request.items), wish == "explain")
        except Refused as refusal:
            return drop_frames(refusal)
        except Exception as error:  # undecided, or a fault of our own: it costs this request and no other
            if is_out_of_memory(error):
                return out_of_memory(repr(error)[:200])
            log.exception("the check raised %s", type(error).__name__)
            return Failed("internal", "The request could not be checked.", repr(error)[:200])

    def _prepare(self, item: Item) -> Tensors:
        tensors = as_tensors(self.prepare(item))
        most = self.contract.batch.max_bytes
        if (size := count_bytes(tensors)) > most:
            raise TooLarge(
                "too_many_bytes", "The input is larger than the model takes.", f"prepared: {size} of {most} bytes"
            )
        return tensors

    def _infer_all(self, verdicts: Sequence[Verdict]) -> dict[int, Any]:
        """Return an output, or `Refused`, for each prepared item, by the item's identity."""
        items = [tensors for verdict in verdicts if isinstance(verdict, _Admitted) for tensors in verdict.prepared]
        outputs: dict[int, Any] = {}
        for places in plan_batches(items, self.contract, self._most_items):
            chunk = [items[place] for place in places]
            outputs.update(zip(map(id, chunk), infer_each(self.infer, chunk, self.device), strict=True))
        return outputs

    def _explain_all(
        self, verdicts: Sequence[Verdict], outputs: Mapping[int, Any], allowance: Allowance
    ) -> dict[int, Any]:
        """Return an explanation, or `Refused`, in place of the output of each item of which that was asked."""
        asked = [verdict for verdict in verdicts if isinstance(verdict, _Admitted) and verdict.explain]
        if self._explainer is None or not asked:
            return {}
        pairs = [pair for verdict in asked for pair in zip(verdict.prepared, verdict.request.items, strict=True)]
        with self._metrics.time_step("explain"):
            return {id(one): self._explainer.explain(one, item, outputs[id(one)], allowance) for one, item in pairs}

    def _present(self, verdict: Verdict, outputs: Mapping[int, Any]) -> Answer:
        """Turn the outputs of a request's items into its response; what is wrong with one is wrong with all of it."""
        if not isinstance(verdict, _Admitted):
            return verdict
        try:
            pairs = zip(verdict.request.items, verdict.prepared, strict=True)
            answers = [self._present_item(outputs[id(tensors)], item) for item, tensors in pairs]
            told = present_answers(verdict.request, answers, self.contract, explained=verdict.explain)
            return encode_answer(told, self.contract)
        except Exception as error:  # noqa: BLE001 - a handler may raise anything; the client learns nothing of it
            return _say_why(error)

    def _present_item(self, output: Any, item: Item) -> Any:
        if isinstance(output, Refused):
            raise output
        check_finite(output)
        with torch.inference_mode():
            if isinstance(output, Explanation):
                return apply_policy(output.answer, self.contract, self.labels)
            answer = self.present(output, item)
            told = apply_policy(answer, self.contract, self.labels)
        if self._watch is not None:
            self._watch.count(item.values, item.source_size, answer)
        return told

    def _warm_up(self) -> int:
        """Run a blank item, then a full batch of them; return how many the model takes at once."""
        item = make_blank_item(self.contract)
        try:
            tensors = self._prepare(item)
            (output,) = infer_together(self.infer, [tensors], self.device)
        except ConfigError:
            raise
        except Exception as error:
            raise ConfigError(
                f"{self.contract.model}: the model cannot run on a blank input: {describe_error(error)}"
            ) from error
        self._check_blank_answer(output, item)
        wanted = len(next(plan_batches([tensors] * self.contract.batch.max_items, self.contract, sys.maxsize)))
        most = wanted
        while most > 1 and not self._takes([tensors] * most):
            most //= 2
        if most < wanted:
            advice = (
                "export it with a dynamic first dimension" if most == 1 else "lower batch.max_items, or give it memory"
            )
            log.warning("%s: runs %d item(s) at once instead of %d; %s", self.contract.model, most, wanted, advice)
        return most

    def _check_blank_answer(self, output: Any, item: Item) -> None:
        try:
            encode_answer(self._present_item(output, item), self.contract)
        except Failed as failure:
            if "NaN" not in failure.detail:  # what a model makes of an empty picture may be no number
                raise ConfigError(f"{self.contract.model}: a blank input has no answer: {failure.detail}") from failure
            log.warning("%s: the answer to a blank input is not a finite number", self.contract.model)
        except ConfigError:
            raise
        except Exception as error:
            raise ConfigError(f"{self.contract.model}: present cannot run: {describe_error(error)}") from error

    def _takes(self, items: list[Tensors]) -> bool:
        try:
            return len(infer_together(self.infer, items, self.device)) == len(items)
        except Exception as error:  # noqa: BLE001 - whatever the model says to a batch; a single item has passed
            log.info("%s: %d items at once: %s", self.contract.model, len(items), describe_error(error))
            return False

    def _reply(self, index: int, answer: Answer, context: Any) -> bytes:
        context.set_response_content_type(index, "application/json")
        if not isinstance(answer, Refused):
            if answer is not _DESCRIPTION:
                self._metrics.count_answer()
            return answer
        wording = word_refusal(answer)
        self._metrics.count_answer(wording.reason)
        context.set_response_status(wording.status, wording.reason, index)
        context.set_response_header(index, REASON_HEADER, wording.reason)
        _log_refusal(wording, index, context, self.contract.model)
        return json.dumps({"reason": wording.reason, "message": wording.message}).encode()


SEALED = frozenset(name for name, value in vars(SafeHandler).items() if callable(value) and name not in HOOKS)


def _advise(name: str, replaced: Sequence[str]) -> str:
    return f"{name} must not define {', '.join(replaced)}: override {', '.join(HOOKS[:-1])} or {HOOKS[-1]}"


def _get_body(row: dict[str, Any]) -> bytes:
    if len(row) != 1 or next(iter(row)) not in BODY_NAMES:
        raise Malformed("bad_form", "Send exactly one input, as the request's body.", f"{len(row)} parts")
    body = next(iter(row.values()))
    if not isinstance(body, bytes | bytearray):
        raise Malformed("bad_form", "Send the input as bytes.", type(body).__name__)
    return bytes(body)


def _make_decoders(contract: Contract) -> ThreadPoolExecutor | None:
    """Return threads to check requests in, where that means decoding; other checks are Python, one at a time."""
    if any(isinstance(item, ImageInput) for item in contract.inputs):
        return ThreadPoolExecutor(DECODE_THREADS, thread_name_prefix="decode")
    return None


def _read_wish(context: Any, index: int) -> str:
    """Return what a request asks for instead of a prediction; TorchServe tells it in headers."""
    asked = [wish for wish in ("describe", "explain") if context.get_request_header(index, wish) == "True"]
    return asked[0] if asked else ""


def _say_why(error: Exception) -> Refused:
    if isinstance(error, Refused):
        return drop_frames(error)
    if is_out_of_memory(error):
        return out_of_memory(repr(error)[:200])
    log.error("the handler raised %s", type(error).__name__, exc_info=error)
    return model_failed(describe_error(error))


def _log_refusal(wording: Wording, index: int, context: Any, model: str) -> None:
    event = {
        "gate": "contract",
        "event": "refused",
        "model": model,
        "client": context.get_request_header(index, "x-garrison-client") or "",
        "reason": wording.reason,
        "detail": wording.detail,
        "request_id": context.get_request_header(index, "x-request-id") or "",
    }
    log.info(json.dumps(event))


def _log_to_stdout() -> None:
    """Keep our own lines and drop the two that TorchServe's worker prints for every request."""
    logging.getLogger().setLevel(logging.WARNING)
    root = logging.getLogger("garrison")
    root.setLevel(logging.INFO)
    if not root.handlers and not logging.getLogger().handlers:
        root.addHandler(logging.StreamHandler(sys.stdout))
