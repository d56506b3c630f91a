"""Ask a packed model without a server: a packed directory and bodies enter, what the watch measures of each leaves.

The model's own handler runs in this process, with no cell around it: for its author, on the author's machine.
"""

import importlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from garrison.archive import HANDLERS, open_packed_model
from garrison.profile import list_features
from garrison.torchserve.base import SafeHandler
from garrison.torchserve.served import unsafe_serve
from garrison.watch.measures import Measures, Row


class Rehearsal:
    """One model, loaded as a worker loads it."""

    def __init__(self, packed: Path, staging: Path) -> None:
        """Load a packed model's directory; what a worker would be given is written to `staging`.

        Raises:
            ConfigError: its files do not fit together, or the model cannot run.
        """
        log = logging.getLogger("garrison")
        log.addHandler(logging.NullHandler())  # a handler of its own: else it would print what it refuses
        log.propagate = False
        model = open_packed_model(packed)
        self._measures = Measures(model.contract, list_features(model.contract, model.labels))
        self._rows: list[Row] = []
        self._reason = ""
        served = unsafe_serve(packed, staging / "served")
        self.system_properties = {"model_dir": str(served), "gpu_id": None}
        self.handler = _find_handler(HANDLERS[model.contract.task])()
        self.handler.initialize(self)
        self.handler.watch_with(self)

    def ask(self, body: bytes) -> tuple[list[Row], str]:
        """Return what was measured of each item in a body, or nothing and the reason of the refusal."""
        self._rows, self._reason = [], ""
        self.handler.handle([{"body": body}], self)
        return self._rows, self._reason

    def count(self, values: Mapping[str, Any], source_size: tuple[int, int] | None, answer: Any) -> None:
        """Note an item that was answered; the handler calls this."""
        self._rows.append(self._measures.measure(values, source_size, answer))

    # What TorchServe's context has, as far as the handler asks it.

    def get_request_header(self, index: int, key: str) -> None:
        """Know no headers."""

    def set_response_status(self, code: int, phrase: str, index: int) -> None:
        """Note the reason of a refusal."""
        self._reason = phrase

    def set_response_header(self, index: int, key: str, value: str) -> None:
        """Drop it."""

    def set_response_content_type(self, index: int, value: str) -> None:
        """Drop it."""


def _find_handler(module_name: str) -> type[SafeHandler]:
    module = importlib.import_module(module_name)
    return next(_list_handlers(vars(module), module_name))


def _list_handlers(values: Mapping[str, Any], module_name: str) -> Iterator[type[SafeHandler]]:
    for value in values.values():
        if isinstance(value, type) and issubclass(value, SafeHandler) and value.__module__ == module_name:
            yield value
