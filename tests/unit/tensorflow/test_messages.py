"""Our messages are TensorFlow's: every name, number, type and oneof, compared with TensorFlow's own descriptors."""

import json
from pathlib import Path
from typing import Any

import pytest

from garrison.tensorflow.messages import messages
from standins.saved_models.descriptors import describe

OURS = {name: describe(message.DESCRIPTOR) for name, message in vars(messages).items()}


@pytest.fixture(scope="module")
def theirs(saved_models: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((saved_models / "descriptors.json").read_text())
    return found


@pytest.mark.parametrize("name", OURS)
def test_a_message_has_exactly_the_fields_that_tensorflow_says(name: str, theirs: dict[str, Any]) -> None:
    assert OURS[name] == theirs[name]


def test_what_is_compared_is_all_that_a_request_or_a_saved_model_holds(theirs: dict[str, Any]) -> None:
    reached, waiting = set(), {"PredictRequest", "ClassificationRequest", "MultiInferenceRequest", "SavedModel"}
    while waiting:
        name = waiting.pop()
        reached.add(name)
        named = {field["type"].removeprefix("map<").rstrip(">").split(", ")[-1] for field in theirs[name].values()}
        waiting |= (named & theirs.keys()) - reached
    assert reached - OURS.keys() == set()


def test_the_comparison_sees_a_wrong_number(theirs: dict[str, Any]) -> None:
    changed = {**OURS["TensorProto"], "half_val": {**OURS["TensorProto"]["half_val"], "number": 14}}
    assert changed != theirs["TensorProto"]
