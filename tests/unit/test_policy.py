"""The output policy: what the fuzz campaign found."""

import json
from pathlib import Path

import numpy as np

from garrison.contract import load_contract
from garrison.torchserve.policy import apply_policy, encode_answer

TUMOURS = Path(__file__).resolve().parents[2] / "models" / "tumours" / "contract.yaml"


def test_a_whole_number_beyond_floats_is_ranked() -> None:
    """A score of 400 digits raised OverflowError where it was asked whether it is finite (campaign-fuzz, answers)."""
    contract = load_contract(TUMOURS)
    answer = apply_policy({"benign": 10**400, "malignant": 1}, contract, ["benign", "malignant"])
    assert list(answer) == ["benign", "malignant"]
    assert json.loads(encode_answer(answer, contract)) == answer


def test_a_number_at_the_end_of_floats_range_is_rounded_in_an_array_as_alone() -> None:
    """Numpy's rounding made infinity of 1e308, so that a finite answer was refused (campaign-fuzz, answers)."""
    contract = load_contract(TUMOURS)
    numbers, rounded = [1e308, -1e308, 0.12345], [1e308, -1e308, 0.123]
    assert apply_policy(np.array(numbers), contract, []) == apply_policy(numbers, contract, []) == rounded
