"""The output policy: what a model gave, and what of it leaves."""

from typing import Any

import numpy as np
import pytest

from garrison.contract import Contract
from garrison.errors import RequestRefused
from garrison.guard.outputs import check_classes, check_outputs, check_values, check_wanted
from garrison.guard.serving import Class
from garrison.guard.tensors import make_strings
from unit.guard.contracts import CLASSIFY, REGRESS, make_contract, make_signature

OUTPUTS = {
    "scores": {"dtype": "float32", "shape": [2], "decimals": 2},
    "label": {"dtype": "string", "shape": [], "max_bytes": 4},
    "mask": {"dtype": "int64", "shape": [None], "max_bytes": 4},
}
CONTRACT = make_contract({"serving_default": make_signature(outputs=OUTPUTS)}, outputs={"max_bytes": 60})
NAN = float("nan")


def make_outputs(rows: int = 1, **changes: Any) -> dict[str, Any]:
    given = {
        "scores": np.full((rows, 2), 0.12345, np.float32),
        "label": make_strings([b"cat"] * rows),
        "mask": np.zeros((rows, 3), np.int64),
    }
    return {name: value for name, value in {**given, **changes}.items() if value is not None}


def check(given: Any, contract: Contract = CONTRACT, rows: int = 1) -> Any:
    return check_outputs(contract, contract.signatures[0], given, rows)


def test_numbers_are_rounded_and_all_else_stays():
    checked = check(make_outputs())
    assert checked["scores"].tolist() == [[np.float32(0.12)] * 2]
    assert checked["scores"].dtype == np.float32
    assert (checked["label"].tolist(), checked["mask"].tolist()) == ([b"cat"], [[0, 0, 0]])


def test_a_number_too_large_to_be_rounded_stays_as_it_is():
    largest = np.array([[np.finfo(np.float32).max, 1.005]], np.float32)
    assert check(make_outputs(scores=largest))["scores"][0, 0] == largest[0, 0]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"label": None}, "model_failed", id="one-missing"),
        pytest.param({"more": np.zeros(1)}, "model_failed", id="one-more"),
        pytest.param({"scores": np.zeros((1, 2), np.float64)}, "model_failed", id="another-type"),
        pytest.param({"scores": np.zeros((1, 3), np.float32)}, "model_failed", id="another-shape"),
        pytest.param({"scores": np.zeros((2, 2), np.float32)}, "model_failed", id="another-number-of-rows"),
        pytest.param({"scores": np.array([[NAN, 0]], np.float32)}, "model_failed", id="nan"),
        pytest.param({"scores": np.array([[np.inf, 0]], np.float32)}, "model_failed", id="infinity"),
        pytest.param({"label": make_strings([b"horse"])}, "answer_too_large", id="a-long-string"),
        pytest.param({"mask": np.zeros((1, 7), np.int64)}, "answer_too_large", id="too-much"),
    ],
)
def test_what_the_contract_does_not_promise_does_not_leave(changes, reason):
    with pytest.raises(RequestRefused) as refusal:
        check(make_outputs(**changes))
    assert (refusal.value.reason, refusal.value.http_status) == (reason, 500)


def test_as_many_bytes_as_allowed_leave():
    assert check(make_outputs(mask=np.zeros((1, 6), np.int64)))  # 8 + 3 + 48 of 60


def test_a_client_may_want_some_of_the_outputs():
    signature = CONTRACT.signatures[0]
    assert check_wanted(signature, ()) == {"scores", "label", "mask"}
    assert check_wanted(signature, ["mask", "mask"]) == {"mask"}
    with pytest.raises(RequestRefused) as refusal:
        check_wanted(signature, ["mask", "secret"])
    assert refusal.value.reason == "unknown_output"


CLASSES, VALUES = make_contract({"classes": CLASSIFY}), make_contract({"values": REGRESS})


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        pytest.param([[("cat", 0.987), ("dog", 0)]], "", id="good"),
        pytest.param([], "model_failed", id="none"),
        pytest.param([[], []], "model_failed", id="too-many"),
        pytest.param([[("cat", NAN)]], "model_failed", id="nan"),
        pytest.param([[("elephants", 1.0)]], "answer_too_large", id="a-long-label"),
    ],
)
def test_classes(given, reason):
    if not reason:
        assert check_classes(CLASSES, CLASSES.signatures[0], given, 1) == [[Class("cat", 0.99), Class("dog", 0)]]
        return
    with pytest.raises(RequestRefused) as refusal:
        check_classes(CLASSES, CLASSES.signatures[0], given, 1)
    assert refusal.value.reason == reason


@pytest.mark.parametrize(
    ("given", "reason"),
    [([1.239], ""), ([], "model_failed"), ([1.0, 2.0], "model_failed"), ([NAN], "model_failed")],
    ids=["good", "none", "too-many", "nan"],
)
def test_values(given, reason):
    if not reason:
        assert check_values(VALUES, VALUES.signatures[0], given, 1) == [1.24]
        return
    with pytest.raises(RequestRefused) as refusal:
        check_values(VALUES, VALUES.signatures[0], given, 1)
    assert refusal.value.reason == reason
