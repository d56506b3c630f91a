"""The ceilings of every contract, and what all kinds of input have in common.

A contract sets its own limits below these; nothing in it can mean "unlimited".
"""

from typing import Protocol

MODEL_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
FILE_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}"
JSON_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,122}\.json"
INPUT_NAME = r"[a-z][a-z0-9_]{0,31}"
MAX_INPUT_BYTES = 64 * 2**20  # TorchServe holds a request in memory several times
MAX_BATCH_BYTES = 16 * 2**30
JSON_OVERHEAD_BYTES = 4_096  # keys, quotes and white space around one value


class Input(Protocol):
    """One named input of a model.

    `forms` says how it may be sent, `max_bytes` bounds one value as sent raw, `max_json_bytes` the same value inside
    JSON, and `item_bytes` the array that reaches the model, the unit in which a batch is bounded.
    """

    @property
    def name(self) -> str:
        """Name in the contract and in JSON requests."""

    @property
    def forms(self) -> tuple[str, ...]:
        """Accepted request forms."""

    @property
    def max_bytes(self) -> int:
        """Largest value sent as the request's body itself."""

    @property
    def max_json_bytes(self) -> int:
        """Largest value when written as JSON."""

    @property
    def item_bytes(self) -> int:
        """Bytes of one item as it reaches the model."""
