"""Bound the batches of TensorFlow Serving: the contracts of all models enter, its parameters file (text proto) leaves.

The file counts for all models, so each bound is the widest that a contract allows; what a single request may bring is
the guard's to check, model by model. The guard also keeps at bay how many requests wait, before they are a queue here.
"""

from collections.abc import Sequence

from garrison.contract import Contract

MICROSECONDS = 1000  # in a millisecond


def can_share_batches(contracts: Sequence[Contract]) -> bool:
    """Say whether requests may be put together: not where a signature has no rows, which upstream then refuses."""
    return all(signature.batched for contract in contracts for signature in contract.signatures)


def render_batching(contracts: Sequence[Contract]) -> str:
    """Return the batching parameters for models served together."""
    most = max(contract.batch.max_items for contract in contracts)
    delay_us = max(contract.batch.max_delay_ms for contract in contracts) * MICROSECONDS
    queue = max(contract.workers.queue for contract in contracts)
    threads = max(contract.workers.count for contract in contracts)
    values = {
        "max_batch_size": most,
        "batch_timeout_micros": delay_us,
        "max_enqueued_batches": queue,
        "num_batch_threads": threads,
    }
    return "".join(f"{key} {{ value: {value} }}\n" for key, value in values.items())
