"""The output policy: what a handler presents enters, what a client may learn leaves.

Applied to every answer after the handler's own code, so that no handler can leave it out:

    1 rank: `top_k` labels of at least `min_score`   2 label only   3 round to `decimals`   4 finite   5 `max_bytes`

A handler's own refusals pass `word_refusal`: they end up in a status line, a header and the log.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from garrison.contract import Contract, Outputs
from garrison.errors import Failed, Refused

MAX_DEPTH = 32
MAX_MESSAGE_CHARACTERS = 500
MAX_DETAIL_CHARACTERS = 300  # TorchServe's log cuts a line at 2,000, and what is cut is no JSON any more
BYTES_PER_VALUE = 2  # the shortest number in a list: a digit and a comma
NUMPY_FLOATS = (torch.float16, torch.float32, torch.float64)
_NO_SCORES = "a number with a fraction, which label_only does not let out"


_REASON = re.compile(r"[a-z0-9_]{1,64}")  # what the gateway lets through


@dataclass(frozen=True)
class Wording:
    """A refusal as it leaves: status and reason, a message for the client, a detail for the log."""

    status: int
    reason: str
    message: str
    detail: str


def check_finite(output: Any) -> None:
    """Check a model's output before a handler makes an answer of it.

    Raises:
        Failed: a number in it is NaN or infinite.
    """
    if isinstance(output, torch.Tensor):
        if output.is_floating_point() and not _is_finite(output):
            raise model_failed("NaN or infinity")
    elif isinstance(output, dict):
        for inner in output.values():
            check_finite(inner)
    elif isinstance(output, list | tuple):
        for inner in output:
            check_finite(inner)


def _is_finite(output: torch.Tensor) -> bool:
    if output.dtype in NUMPY_FLOATS:  # a tenth of torch's time on a few values
        return bool(np.isfinite(output.detach().numpy()).all())
    return bool(torch.isfinite(output).all())


def apply_policy(answer: Any, contract: Contract, labels: Sequence[str]) -> Any:
    """Return one answer as plain values for JSON.

    Raises:
        Failed: it holds NaN, infinity, or something that JSON has no form for, or it is too large.
    """
    outputs = contract.outputs
    if isinstance(answer, dict) and labels and answer.keys() <= set(labels) and _all_numbers(answer):
        answer = _rank(answer, outputs)  # 1
    if outputs.label_only:
        answer = _drop_scores(answer)  # 2
    return _plain(answer, outputs, 0)  # 3 and 4


def encode_answer(answer: Any, contract: Contract) -> bytes:
    """Return a whole response as JSON.

    Raises:
        Failed: it is larger than the contract allows, or cannot be written as JSON.
    """
    try:
        encoded = json.dumps(answer, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise model_failed(f"not JSON: {error}") from error
    if len(encoded) > contract.outputs.max_bytes:
        raise _too_large(f"{len(encoded)} bytes", contract.outputs)  # 5
    return encoded


def model_failed(detail: str) -> Failed:
    """Return the refusal for a model that gave nothing that can be sent."""
    return Failed("model_failed", "The model gave no usable answer.", detail[:300])


def word_refusal(refusal: Refused) -> Wording:
    """Return what is sent and logged of a refusal; one that cannot be sent becomes a failure of the model.

    A handler chooses all of it, perhaps out of what a client sent: a line break in the reason would be one in the
    status line, over which TorchServe loses the worker.
    """
    try:
        status, reason, message = refusal.http_status, refusal.reason, refusal.public_message
        detail = str(refusal.detail)
    except Exception as error:  # noqa: BLE001 - attributes of a class that we do not know
        return word_refusal(model_failed(f"a refusal that raises {type(error).__name__}"))
    if type(status) is not int or not 400 <= status <= 599:
        return word_refusal(model_failed("a refusal whose status is none"))
    if type(reason) is not str or not _REASON.fullmatch(reason):
        return word_refusal(model_failed("a refusal whose reason is not of small letters, digits and _"))
    if type(message) is not str or len(message) > MAX_MESSAGE_CHARACTERS:
        return word_refusal(model_failed("a refusal whose message is no short text"))
    return Wording(status, reason, message, _clean(detail))


def drop_frames(refusal: Refused) -> Refused:
    """Return a refusal without its traceback, which holds the input, in a cycle, until Python's collector comes round.

    The frame that caught it leads back to the one that keeps the answers. Under a flood that was every body of some
    batches, three times over.
    """
    for name in ("__traceback__", "__cause__", "__context__"):
        BaseException.__setattr__(refusal, name, None)  # a handler's own class may say otherwise
    return refusal


def _clean(detail: str) -> str:
    escaped = detail[:MAX_DETAIL_CHARACTERS].encode("ascii", "backslashreplace").decode()
    return re.sub(r"[\0-\x1f\x7f]", "?", escaped)[:MAX_DETAIL_CHARACTERS]


def _all_numbers(answer: dict[str, Any]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in answer.values())


def _rank(answer: dict[str, float], outputs: Outputs) -> dict[str, float]:
    if not all(isinstance(score, int) or math.isfinite(score) for score in answer.values()):  # an int may be too long
        raise model_failed("NaN or infinity")
    best = sorted(answer.items(), key=lambda pair: -pair[1])[: outputs.top_k]
    return {label: score for label, score in best if score >= outputs.min_score}


def _drop_scores(answer: Any) -> Any:
    """Keep the labels only; boxes come to whole pixels, and any other fraction is a fault of the handler."""
    if isinstance(answer, dict):
        if answer and all(isinstance(value, float) for value in answer.values()):
            return list(answer)
        return {key: _whole(value) for key, value in answer.items() if key != "score"}
    if isinstance(answer, list | tuple):
        return [_drop_scores(value) for value in answer]
    if isinstance(answer, torch.Tensor) and not answer.is_floating_point():
        return answer
    if isinstance(answer, float | complex | np.ndarray | np.floating | torch.Tensor):
        raise model_failed(_NO_SCORES)
    return answer


def _whole(value: Any) -> Any:
    if isinstance(value, float) and math.isfinite(value):
        return round(value)
    if isinstance(value, list | tuple) and all(isinstance(number, int | float) for number in value) and len(value) == 4:
        return [_whole(number) for number in value]
    return _drop_scores(value)


def _plain(value: Any, outputs: Outputs, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise model_failed(f"nested deeper than {MAX_DEPTH}")
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return _plain_number(value, outputs)
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise model_failed("a key that is not text")
        return {key: _plain(inner, outputs, depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, outputs, depth + 1) for inner in value]
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    if isinstance(value, np.ndarray | np.generic):
        return _plain_array(np.asarray(value), outputs)
    raise model_failed(f"{type(value).__name__}, which JSON has no form for")


def _plain_number(value: float, outputs: Outputs) -> float:
    if not math.isfinite(value):
        raise model_failed("NaN or infinity")
    return round(value, outputs.decimals)


def _plain_array(array: "np.ndarray[Any, Any]", outputs: Outputs) -> Any:
    if array.size * BYTES_PER_VALUE > outputs.max_bytes:  # before there is a Python object for each value
        raise _too_large(f"{array.size} values", outputs)
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise model_failed("NaN or infinity")
        return _round(array.astype(np.float64), outputs.decimals).tolist()
    if array.dtype.kind not in "biu":
        raise model_failed(f"an array of {array.dtype}")
    return array.tolist()


def _round(values: "np.ndarray[Any, Any]", decimals: int) -> "np.ndarray[Any, Any]":
    """Round as `round` does; numpy multiplies first, which makes infinity of a number near the end of the range."""
    with np.errstate(over="ignore"):
        rounded = np.round(values, decimals)
    return np.where(np.isfinite(rounded), rounded, values)


def _too_large(what: str, outputs: Outputs) -> Failed:
    message = "The answer is larger than this model may send."
    return Failed("answer_too_large", message, f"{what}; outputs.max_bytes is {outputs.max_bytes}")
