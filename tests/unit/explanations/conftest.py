"""Fixtures: a model that is explained, and bodies for it."""

import json
from typing import Any

import pytest

from unit.explanations.models import TASKS, row, section_of


@pytest.fixture
def serve_task(serve):
    """Start the tiny model of a task, with explanations by a method; `section` changes these."""

    def start(task: str, method: str = "feature-ablation", section: dict[str, Any] | None = None, **changes: Any):
        return serve(task=task, explanations=section_of(task, method, **section or {}), **TASKS[task] | changes)

    return start


@pytest.fixture
def bodies(make_image):
    """Nine different good bodies per task."""
    return {
        "image-classification": [make_image((25 * n, 255 - 20 * n, 40)) for n in range(9)],
        "text-classification": [("good " * n + "bad !" + " other" * (n % 3)).encode() for n in range(9)],
        "tabular": [row(10.5 + n, "abc"[n % 3], n) for n in range(9)],
        "tensor": [json.dumps([[n / 7, 2.0]] * (1 + n % 4)).encode() for n in range(9)],
    }
