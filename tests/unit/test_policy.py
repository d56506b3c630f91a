"""The output policy: what the fuzz campaign found."""

import json
from pathlib import Path

from garrison.contract import load_contract
from garrison.torchserve.policy import apply_policy, encode_answer

TUMOURS = Path(__file__).resolve().parents[2] / "models" / "tumours" / "contract.yaml"


def test_a_whole_number_beyond_floats_is_ranked() -> None:
    """A score of 400 digits raised OverflowError where it was asked whether it is finite (campaign-fuzz, answers)."""
    contract = load_contract(TUMOURS)
    answer = apply_policy({"benign": 10**400, "malignant": 1}, contract, ["benign", "malignant"])
    assert list(answer) == ["benign", "malignant"]
    assert json.loads(encode_answer(answer, contract)) == answer
