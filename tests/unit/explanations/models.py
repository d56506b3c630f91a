"""A tiny model per task whose explanation can be worked out by hand, and how it is asked."""

import json
from typing import Any

import torch

BOTH = ("integrated-gradients", "feature-ablation")
VOCABULARY = json.dumps({"<unk>": 0, "<pad>": 1, "good": 2, "bad": 3, "!": 4}).encode()
TEXT = {"kind": "text", "max_bytes": "1KiB", "max_characters": 200, "max_tokens": 20, "vocabulary": "vocab.json"}
TABLE = {
    "kind": "table",
    "columns": {
        "age": {"kind": "float", "min": 10, "max": 120},
        "job": {"kind": "category", "categories": ["a", "b", "c"]},
        "debt": {"kind": "float", "min": -50, "max": 50, "missing": 7},
    },
}
TENSOR = {"kind": "tensor", "dtype": "float32", "shape": [[1, 4], 2], "min": -10, "max": 10}
WEIGHTS = [[1.0, 0.0, -1.0], [2.0, 0.0, 1.0], [-3.0, 0.0, 0.0]]  # of three columns for red, green and blue


class Linear(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(WEIGHTS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight


class TopLeft(torch.nn.Module):
    """A classifier that looks at one quarter of the picture only, and not in a straight line."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        corner = x[:, :, : x.shape[2] // 2, : x.shape[3] // 2].mean(dim=[2, 3])
        return corner * corner * 10


class CountWords(torch.nn.Module):
    """Red for every `good`, green for every `bad`; filling counts for blue."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        counts = [2 * (tokens == 2).sum(dim=1), (tokens == 3).sum(dim=1), (tokens == 1).sum(dim=1)]
        return torch.stack(counts, dim=1).float() / torch.tensor([1.0, 1.0, 100.0])


class RowSums(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x[:, :, 0].sum(dim=1), 3 * x[:, :, 1].sum(dim=1)], dim=1)


TASKS: dict[str, dict[str, Any]] = {
    "image-classification": {"module": TopLeft()},
    "text-classification": {"module": CountWords(), "inputs": {"x": TEXT}, "files": {"vocab.json": VOCABULARY}},
    "tabular": {"module": Linear(), "inputs": {"x": TABLE}},
    "tensor": {"module": RowSums(), "inputs": {"x": TENSOR}, "outputs": {"decimals": 4}},
}
CASES = [(task, method) for task in TASKS for method in BOTH if (task, method) != ("text-classification", BOTH[0])]


def section_of(task: str, method: str, **changes: Any) -> dict[str, Any]:
    grid = {"grid": 2} if task == "image-classification" else {}
    return {"method": method, "max_evaluations": 32} | grid | changes


def row(age: float, job: str, debt: float | None) -> bytes:
    return json.dumps({"data": {"age": age, "job": job, "debt": debt}}).encode()


def explain(served: Any, body: bytes) -> Any:
    ((status, answer),) = served.ask(body, explain=[0])
    assert status == 200, answer
    return answer
