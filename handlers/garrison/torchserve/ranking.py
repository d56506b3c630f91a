"""Turn one row of logits into labels with scores, as the stock classifiers answer."""

from collections.abc import Sequence
from typing import Any

import torch

from garrison.errors import ConfigError
from garrison.torchserve.policy import model_failed


def rank_labels(logits: Any, labels: Sequence[str], top_k: int) -> dict[str, float]:
    """Return the `top_k` labels with their softmax scores, the best first.

    Raises:
        ConfigError: there is not one label per class; found when the model is warmed up.
    """
    if not isinstance(logits, torch.Tensor) or logits.dim() != 1:
        raise model_failed("not one row of scores per item")
    if len(logits) != len(labels):
        raise ConfigError(f"outputs.labels: {len(labels)} labels for {len(logits)} classes")
    scores, classes = logits.float().softmax(dim=0).topk(min(top_k, len(labels)))
    return {labels[index]: score for index, score in zip(classes.tolist(), scores.tolist(), strict=True)}
