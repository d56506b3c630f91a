"""Serve a model by its author's own handler: `handler.py` in the model's directory.

    from garrison.torchserve.base import SafeHandler

    class Embedder(SafeHandler):
        def load(self, model): ...
        def prepare(self, item): ...
        def infer(self, batch): ...
        def present(self, output, item): ...

The author's object is only asked for these four. The pipeline runs in another object, which TorchServe got hold of
before a line of `handler.py` ran, with a contract of its own: what the author's object does to itself changes no
check, no bound and no part of the output policy. Code in the same process can still reach everything; the cell is for
that.
"""

import copy
from collections.abc import Mapping
from typing import Any

from garrison.archive import PackedModel
from garrison.checks import Item
from garrison.errors import ConfigError
from garrison.torchserve.base import Array, SafeHandler
from garrison.torchserve.source import describe_error, load_class


class Custom(SafeHandler):
    """Run the pipeline and ask the author's handler for its hooks."""

    def load(self, model: PackedModel) -> None:
        """Load `handler.py`, and let it load its weights.

        Raises:
            ConfigError: it cannot be run, or does not define exactly one handler.
        """
        if model.handler_file is None:
            raise ConfigError(f"{model.contract.model}: has no handler.py; pack the model with --handler")
        source = model.read(model.handler_file)
        made_by = load_class(source, model.handler_file, SafeHandler, "SafeHandler")
        try:
            self._author = made_by()
            self._author.contract, self._author.labels = copy.deepcopy(self.contract), self.labels
            self._author.device = self.device
            self._author.load(copy.deepcopy(model))
        except ConfigError:
            raise
        except Exception as error:
            raise ConfigError(describe_error(error, model.handler_file)) from error

    def prepare(self, item: Item) -> Array | Mapping[str, Array]:
        """Ask the author's handler."""
        return self._author.prepare(item)

    def infer(self, batch: Any) -> Any:
        """Ask the author's handler."""
        return self._author.infer(batch)

    def present(self, output: Any, item: Item) -> Any:
        """Ask the author's handler."""
        return self._author.present(output, item)
