"""The pipeline that every request goes through inside a worker.

A TorchServe batch enters, one answer per item leaves: *limit → sniff → header → decode → shape* (all of it
`checks.read_input`), then *batch → infer → present*. A refused item gets its own status and reason; the others'
answers are what they would have been alone.

It does not confine the model's code; the cell will.
"""

import json
import logging
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from garrison.archive import PackedModel, open_packed_model
from garrison.checks import read_input
from garrison.contract import Contract
from garrison.errors import Failed, Malformed, Refused

DECODE_THREADS = 2  # Pillow drops the interpreter lock while it decodes; more threads than cores gain nothing
BODY_NAMES = ("body", "data")
REASON_HEADER = "x-garrison-reason"
_HOOKS = ("load", "infer", "present")
_DESCRIPTION = {"ready": True}

log = logging.getLogger("garrison.contract")

Pixels = NDArray[np.uint8]
Answer = dict[str, Any] | Refused


class SafeHandler:
    """Serve one model by its contract; a task's class fills in `load`, `infer` and `present`."""

    contract: Contract
    labels: tuple[str, ...]
    device: torch.device

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse a subclass that replaces the pipeline itself."""
        super().__init_subclass__(**kwargs)
        sealed = [name for name, value in vars(SafeHandler).items() if callable(value) and name not in _HOOKS]
        replaced = [name for name in sealed if getattr(cls, name) is not getattr(SafeHandler, name)]
        if replaced:
            raise TypeError(f"{cls.__name__} must not define {', '.join(replaced)}: override load, infer or present")

    def load(self, model: PackedModel) -> None:
        """Load the weights; called once, before the worker is ready."""
        raise NotImplementedError

    def infer(self, batch: Pixels) -> torch.Tensor:
        """Map uint8 images of shape (items, height, width, channels) to one row of outputs per item."""
        raise NotImplementedError

    def present(self, output: torch.Tensor) -> dict[str, float]:
        """Turn one item's row of outputs into what its client may see."""
        raise NotImplementedError

    def initialize(self, context: Any) -> None:
        """Load the contract and the model, and run one batch through it; TorchServe calls this at worker start.

        Raises:
            ConfigError: the model's directory is not what `garrison pack` writes.
        """
        _log_to_stdout()
        properties = context.system_properties
        model = open_packed_model(Path(properties["model_dir"]))
        gpu = properties.get("gpu_id")
        on_gpu = gpu is not None and int(gpu) >= 0 and torch.cuda.is_available()
        self.device = torch.device(f"cuda:{gpu}" if on_gpu else "cpu")
        self.contract, self.labels = model.contract, model.labels
        self._decoders = ThreadPoolExecutor(DECODE_THREADS, thread_name_prefix="decode")
        self.load(model)
        self.present(self._infer_rows(np.zeros((1, *self.contract.inputs[0].shape), np.uint8))[0])

    def handle(self, data: Sequence[dict[str, Any]], context: Any) -> list[bytes]:
        """Answer every item of a TorchServe batch, each with its own status."""
        describes = [context.get_request_header(index, "describe") == "True" for index in range(len(data))]
        verdicts = list(self._decoders.map(self._admit, data, describes))
        images = {index: verdict for index, verdict in enumerate(verdicts) if isinstance(verdict, np.ndarray)}
        answers = {index: verdict for index, verdict in enumerate(verdicts) if not isinstance(verdict, np.ndarray)}
        for chunk in self._bound(list(images)):
            answers.update(zip(chunk, self._answer([images[index] for index in chunk]), strict=True))
        return [self._reply(index, answers[index], context) for index in range(len(data))]

    def _admit(self, row: dict[str, Any], describe: bool) -> Pixels | Answer:
        """Check one item; any client can ask for the description, so that is answered for this item only."""
        if describe:
            return _DESCRIPTION
        try:
            return read_input(_get_body(row), self.contract)
        except Refused as refusal:
            return refusal
        except Exception as error:  # undecided, or a fault of our own: it costs this item and no other
            log.exception("the check raised %s", type(error).__name__)
            return Failed("internal", "The request could not be checked.", repr(error)[:200])

    def _bound(self, accepted: list[int]) -> list[list[int]]:
        """Cut a batch into pieces that fit the contract's items and bytes."""
        batch = self.contract.batch
        size = max(1, min(batch.max_items, batch.max_bytes // self.contract.inputs[0].tensor_bytes))
        return [accepted[start : start + size] for start in range(0, len(accepted), size)]

    def _answer(self, images: list[Pixels]) -> list[Answer]:
        try:
            rows = self._infer_rows(np.stack(images))
            if len(rows) != len(images):
                raise _model_failed(f"{len(rows)} rows for {len(images)} items")
            return [self._answer_row(row) for row in rows]
        except Exception as error:  # noqa: BLE001 - a model may raise anything; the client learns nothing of it
            return [_say_why(error)] * len(images)

    def _answer_row(self, row: torch.Tensor) -> Answer:
        """Present one item's outputs; what is wrong with them is wrong with this item only."""
        try:
            if not bool(torch.isfinite(row).all()):
                raise _model_failed("NaN or infinity")
            answer = self.present(row)
            json.dumps(answer, allow_nan=False)
            return answer
        except Exception as error:  # noqa: BLE001 - as above, of the task's own code
            return _say_why(error)

    def _infer_rows(self, batch: Pixels) -> torch.Tensor:
        with torch.inference_mode():
            return self.infer(batch)

    def _reply(self, index: int, answer: Answer, context: Any) -> bytes:
        context.set_response_content_type(index, "application/json")
        if not isinstance(answer, Refused):
            return json.dumps(answer, allow_nan=False).encode()
        context.set_response_status(answer.http_status, answer.reason, index)
        context.set_response_header(index, REASON_HEADER, answer.reason)
        _log_refusal(answer, index, context, self.contract.model)
        return json.dumps(answer.public()).encode()


def _get_body(row: dict[str, Any]) -> bytes:
    if len(row) != 1 or next(iter(row)) not in BODY_NAMES:
        raise Malformed("bad_form", "Send exactly one input, as the request's body.", f"{len(row)} parts")
    body = next(iter(row.values()))
    if not isinstance(body, bytes | bytearray):
        raise Malformed("bad_form", "Send the input as bytes.", type(body).__name__)
    return bytes(body)


def _model_failed(detail: str) -> Failed:
    return Failed("model_failed", "The model gave no usable answer.", detail)


def _say_why(error: Exception) -> Refused:
    if isinstance(error, Refused):
        return error
    log.error("the model raised %s", type(error).__name__, exc_info=error)
    return _model_failed(repr(error)[:200])


def _log_refusal(refusal: Refused, index: int, context: Any, model: str) -> None:
    event = {
        "gate": "contract",
        "event": "refused",
        "model": model,
        "client": context.get_request_header(index, "x-garrison-client") or "",
        "reason": refusal.reason,
        "detail": refusal.detail,
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
