"""How much is in progress at once: so many requests of each model, and so many bytes of all together.

A model has room for what its queue and its workers' batches hold, as its contract says. What finds no room is refused
at once and waits nowhere: the gateway may ask another guard.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from garrison.contract import Contract, count_server_bytes
from garrison.guard.refusals import refuse_for


class Rooms:
    """The rooms of all models of one process; belongs to one event loop."""

    def __init__(self, contracts: Sequence[Contract]) -> None:
        self._limits = {c.model: c.workers.queue + c.workers.count * c.batch.max_items for c in contracts}
        self._taken = dict.fromkeys(self._limits, 0)
        self._max_bytes = count_server_bytes(contracts)
        self._bytes = 0

    @contextmanager
    def take(self, model: str, size_bytes: int) -> Iterator[None]:
        """Hold a place, and room for so many bytes, while something is in progress.

        Raises:
            Overloaded: there is none.
        """
        if self._taken[model] >= self._limits[model]:
            raise refuse_for("no_room", f"{self._taken[model]} requests are in progress")
        if self._bytes + size_bytes > self._max_bytes:
            raise refuse_for("no_room", f"{self._bytes} bytes are in progress")
        self._taken[model] += 1
        self._bytes += size_bytes
        try:
            yield
        finally:
            self._taken[model] -= 1
            self._bytes -= size_bytes

    def count(self, model: str) -> int:
        """Return how many requests of a model are in progress."""
        return self._taken[model]
