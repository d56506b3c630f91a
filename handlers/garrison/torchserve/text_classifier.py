"""Classify texts: the safe counterpart of TorchServe's `text_classifier`.

A text enters by the contract; `{"label": score, ...}` leaves, the best first, as stock answers. Words are found and
numbered by `vocabulary`; a model with another tokenizer is served by a custom handler that overrides `prepare`.
"""

from typing import Any

import torch

from garrison.archive import PackedModel
from garrison.checks import Item
from garrison.checks.reasons import refuse
from garrison.contract import TextInput
from garrison.errors import ConfigError
from garrison.torchserve.base import Array, SafeHandler
from garrison.torchserve.probes import TextProbe
from garrison.torchserve.ranking import rank_labels
from garrison.torchserve.vocabulary import parse_vocabulary
from garrison.torchserve.weights import load_weights


class TextClassifier(SafeHandler):
    """Serve a classifier: int64 (items, tokens) in, logits (items, classes) out."""

    def load(self, model: PackedModel) -> None:
        """Load the weights and the vocabulary.

        Raises:
            ConfigError: the input is no text, or names no vocabulary.
        """
        text = model.contract.inputs[0]
        if not isinstance(text, TextInput) or not text.vocabulary:
            raise ConfigError(
                f"inputs.{text.name}.vocabulary: missing; write the name of a JSON file beside the contract"
            )
        self._max_tokens = text.max_tokens
        self._vocabulary = parse_vocabulary(model.read(text.vocabulary), text.vocabulary)
        self._model = load_weights(model, self.device)
        self.probe = TextProbe(self._model, self._vocabulary, self._max_tokens, self.device)

    def prepare(self, item: Item) -> Array:
        """Return the numbers of the text's tokens."""
        if not isinstance(item.value, str):
            raise refuse("form_not_allowed", "The input is not a text.")
        return self._vocabulary.encode(item.value, self._max_tokens)

    def infer(self, batch: torch.Tensor) -> Any:
        """Return logits."""
        return self._model(batch)

    def present(self, output: Any, item: Item) -> dict[str, float]:
        """Return the best labels with their softmax scores."""
        return rank_labels(output, self.labels, self.contract.outputs.top_k)
