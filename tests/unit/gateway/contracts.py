"""A contract and clients for the tests of the gateway."""

from collections.abc import Sequence

from garrison.contract import Contract, parse_contract
from garrison.gateway.clients import AllowedModel, Client, ClientLimits


def make_contract(model: str, timeout_s: int = 10, max_bytes: str = "4MiB", *, explained: bool = False) -> Contract:
    return parse_contract(
        f"""
        garrison: 1
        model: {model}
        version: "1"
        task: image-classification
        inputs:
          image: {{kind: image, formats: [png], max_bytes: {max_bytes}, min_side: 1, max_side: 8,
                  max_pixels: 64, max_frames: 1, colour: grey, exact: [8, 8, 1]}}
        batch: {{max_items: 8, max_delay_ms: 5, max_bytes: 1MiB}}
        workers: {{count: 2, queue: 64, timeout_s: {timeout_s}}}
        outputs: {{labels: labels.json, top_k: 5, decimals: 3}}
        {"explanations: {method: feature-ablation, max_evaluations: 17, grid: 4}" if explained else ""}
        """.encode(),
        model,
    )


def make_saved_model_contract(
    model: str, timeout_s: int = 10, max_bytes: str = "1MiB", labels: Sequence[str] = ()
) -> Contract:
    """Return the contract of a SavedModel that takes bytes."""
    return parse_contract(
        f"""
        garrison: 1
        model: {model}
        version: "1"
        task: tensorflow
        signatures:
          serving_default:
            inputs: {{image: {{kind: bytes, max_bytes: {max_bytes}}}}}
            outputs: {{scores: {{dtype: float32, shape: [2]}}}}
        batch: {{max_items: 8, max_delay_ms: 5, max_bytes: 64MiB}}
        workers: {{count: 2, queue: 64, timeout_s: {timeout_s}}}
        version_labels: [{", ".join(labels)}]
        """.encode(),
        model,
    )


def make_client(name: str, models: Sequence[str], requests_per_second: int, burst: int) -> Client:
    return Client(name, tuple(AllowedModel(model) for model in models), ClientLimits(requests_per_second, burst))
