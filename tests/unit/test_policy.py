"""The output policy: finite JSON of a bounded length or `Failed`, whatever a model answers; what fuzzing found."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, scalar_dtypes

from garrison.contract import load_contract
from garrison.errors import Failed
from garrison.torchserve.policy import apply_policy, encode_answer

CONTRACT = load_contract(Path(__file__).resolve().parents[2] / "models" / "tumours" / "contract.yaml")
LABELS = ["benign", "malignant"]
ARRAYS = arrays(scalar_dtypes(), array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3))
TENSORS = arrays(st.sampled_from(["f2", "f4", "f8", "i8", "u1", "?", "c8"]), array_shapes(max_dims=2, max_side=3)).map(
    torch.from_numpy
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.complex_numbers()
KEYS = st.sampled_from([*LABELS, "score", "\ud800"]) | st.text() | st.integers()
ANSWERS = st.recursive(
    LEAVES | ARRAYS | TENSORS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(ANSWERS, st.booleans())
def test_finite_json_or_a_failure_comes_out_of_any_answer(answer: Any, label_only: bool) -> None:
    contract = replace(CONTRACT, outputs=replace(CONTRACT.outputs, label_only=label_only, max_bytes=300))
    try:
        encoded = encode_answer(apply_policy(answer, contract, LABELS), contract)
    except Failed as failed:
        assert failed.reason in ("model_failed", "answer_too_large")
    else:
        assert len(encoded) <= contract.outputs.max_bytes
        json.loads(encoded, parse_constant=pytest.fail)


def test_a_whole_number_beyond_floats_is_ranked() -> None:
    """A score of 400 digits raised OverflowError where it was asked whether it is finite (campaign-fuzz, answers)."""
    answer = apply_policy({"benign": 10**400, "malignant": 1}, CONTRACT, LABELS)
    assert list(answer) == LABELS
    assert json.loads(encode_answer(answer, CONTRACT)) == answer


def test_a_number_at_the_end_of_floats_range_is_rounded_in_an_array_as_alone() -> None:
    """Numpy's rounding made infinity of 1e308, so that a finite answer was refused (campaign-fuzz, answers)."""
    numbers, rounded = [1e308, -1e308, 0.12345], [1e308, -1e308, 0.123]
    assert apply_policy(np.array(numbers), CONTRACT, []) == apply_policy(numbers, CONTRACT, []) == rounded
