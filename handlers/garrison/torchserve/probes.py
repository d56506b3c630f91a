"""Where a task's model can be asked why: one prepared item enters, the question about it leaves.

A question says what is varied, what stands for "nothing there" (the baseline), which values are explained together, and
how the numbers are told to a client:

    image    pixels after `normalise`    the colour `normalise.mean`               cells of the contract's grid
    table    the row                     `missing`, or what is nearest to zero     columns
    tensor   the tensor                  what is nearest to zero                   values
    text     the tokens                  `<unk>`                                   tokens, without what fills them up
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from garrison.checks import Item
from garrison.contract import Contract, TableInput, TensorInput
from garrison.errors import ConfigError
from garrison.torchserve.blank import blank_number, nearest_zero
from garrison.torchserve.vocabulary import Vocabulary

Model = Callable[[torch.Tensor], Any]


@dataclass(frozen=True)
class Question:
    """One item as a method asks about it, on the device; the first dimension of its tensors is 1.

    `model` takes tensors (n, ...) like `inputs`. `features` numbers, from 0 to `count` - 1, what each value of `inputs`
    belongs to; it is broadcast. `tell` turns one number per feature, on the CPU, into values for JSON.
    """

    model: Model
    inputs: torch.Tensor
    baseline: torch.Tensor
    features: torch.Tensor
    count: int
    tell: Callable[[torch.Tensor], Any]


class Probe(Protocol):
    """What a task's handler sets in `load`, so that its answers can be explained."""

    def ask(self, tensors: torch.Tensor, item: Item) -> Question:
        """Return the question about one prepared item."""


@dataclass(frozen=True)
class ImageProbe:
    """Ask about a picture, behind what scales its pixels."""

    model: Model
    normalise: Callable[[torch.Tensor], torch.Tensor]
    contract: Contract
    device: torch.device

    def ask(self, tensors: torch.Tensor, item: Item) -> Question:
        """Return the question, with the cells numbered row by row."""
        inputs = self.normalise(tensors.unsqueeze(0).to(self.device)).contiguous()
        grid = self.contract.explanations.grid if self.contract.explanations else 1
        rows, columns = (torch.arange(side, device=self.device) * grid // side for side in inputs.shape[2:])
        cells = (rows.unsqueeze(1) * grid + columns).reshape(1, 1, *inputs.shape[2:])
        return Question(
            self.model, inputs, torch.zeros_like(inputs), cells, grid**2, lambda values: values.reshape(grid, grid)
        )


class TableProbe:
    """Ask about a row."""

    def __init__(self, model: Model, contract: Contract, device: torch.device) -> None:
        table = contract.inputs[0]
        if not isinstance(table, TableInput):
            raise ConfigError(f"inputs.{table.name}: this handler needs a table")
        self._model, self._device = model, device
        self._names = [column.name for column in table.columns]
        plain = [
            nearest_zero(column.minimum, column.maximum) if column.missing is None else column.missing
            for column in table.columns
        ]
        self._baseline = torch.tensor([plain], dtype=torch.float32, device=device)

    def ask(self, tensors: torch.Tensor, item: Item) -> Question:
        """Return the question, with the columns in the contract's order."""
        inputs = tensors.unsqueeze(0).to(self._device)
        columns = torch.arange(inputs.numel(), device=self._device).unsqueeze(0)
        return Question(self._model, inputs, self._baseline, columns, inputs.numel(), self._tell)

    def _tell(self, values: torch.Tensor) -> dict[str, float]:
        return dict(zip(self._names, values.tolist(), strict=True))


class TensorProbe:
    """Ask about a tensor, whatever its shape."""

    def __init__(self, model: Model, contract: Contract, device: torch.device) -> None:
        tensor = contract.inputs[0]
        if not isinstance(tensor, TensorInput):
            raise ConfigError(f"inputs.{tensor.name}: this handler needs a tensor")
        self._model, self._device = model, device
        self._plain = blank_number(tensor)

    def ask(self, tensors: torch.Tensor, item: Item) -> Question:
        """Return the question, with the values in the order of a flat list."""
        inputs = tensors.unsqueeze(0).to(self._device)
        baseline = torch.full_like(inputs, self._plain)
        values = torch.arange(inputs.numel(), device=self._device).reshape(inputs.shape)
        return Question(
            self._model, inputs, baseline, values, inputs.numel(), lambda told: told.reshape(inputs.shape[1:])
        )


@dataclass(frozen=True)
class TextProbe:
    """Ask about a text's tokens; what fills it up to a length stays as it is."""

    model: Model
    vocabulary: Vocabulary
    max_tokens: int
    device: torch.device

    def ask(self, tensors: torch.Tensor, item: Item) -> Question:
        """Return the question, with the tokens in their order."""
        words = self.vocabulary.split(str(item.value), self.max_tokens)
        row = tensors.unsqueeze(0).to(self.device)
        inputs, filling = row[:, : len(words)], row[:, len(words) :]
        return Question(
            model=lambda tokens: self.model(torch.cat([tokens, filling.expand(len(tokens), -1)], dim=1)),
            inputs=inputs,
            baseline=torch.full_like(inputs, self.vocabulary.unknown),
            features=torch.arange(len(words), device=self.device).unsqueeze(0),
            count=len(words),
            tell=lambda values: [[word, value] for word, value in zip(words, values.tolist(), strict=True)],
        )
