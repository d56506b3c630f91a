"""A row has the contract's columns, each with a value of its kind and range."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from garrison.checks.table import check_row
from garrison.contract import Column, TableInput
from garrison.errors import Refused
from garrison.reasons import REASONS

Make = Callable[..., TableInput]
ROW = {"size": 1.5, "age": 30, "colour": "green", "weight": 2}
SEEDED = settings(derandomize=True, max_examples=300, deadline=None)


def refusal(value: Any, item: TableInput) -> str:
    with pytest.raises(Refused) as caught:
        check_row(value, item)
    assert type(caught.value) is REASONS[caught.value.reason]
    return caught.value.reason


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(ROW, [1.5, 30, 1, 2], id="object"),
        pytest.param(dict(reversed(ROW.items())), [1.5, 30, 1, 2], id="object in another order"),
        pytest.param([1.5, 30, "red", 2], [1.5, 30, 0, 2], id="list"),
        pytest.param({**ROW, "weight": None}, [1.5, 30, 1, -1], id="null"),
        pytest.param({key: ROW[key] for key in ("size", "age", "colour")}, [1.5, 30, 1, -1], id="left out"),
        pytest.param([0, 0, "red", None], [0, 0, 0, -1], id="lowest"),
        pytest.param([10, 120, "red", 1], [10, 120, 0, 1], id="highest"),
    ],
)
def test_rows_become_numbers_in_the_contracts_order(make_table: Make, value: Any, expected: list[float]) -> None:
    row = check_row(value, make_table())
    assert row.dtype == np.float32
    assert row.tolist() == expected


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"size": -0.001}, "value_out_of_range", id="below"),
        pytest.param({"size": 10.001}, "value_out_of_range", id="above"),
        pytest.param({"size": float("inf")}, "value_out_of_range", id="1e400"),
        pytest.param({"size": float("nan")}, "value_out_of_range", id="NaN"),
        pytest.param({"age": 121}, "value_out_of_range", id="integer above"),
        pytest.param({"age": 10**400}, "value_out_of_range", id="huge integer"),
        pytest.param({"size": -(10**400)}, "value_out_of_range", id="huge integer into a float"),
        pytest.param({"age": 30.0}, "wrong_dtype", id="float into an integer"),
        pytest.param({"age": True}, "wrong_dtype", id="true into an integer"),
        pytest.param({"size": False}, "wrong_dtype", id="false into a float"),
        pytest.param({"size": "1"}, "wrong_dtype", id="text into a float"),
        pytest.param({"size": [1]}, "wrong_dtype", id="list into a float"),
        pytest.param({"colour": "blue"}, "unknown_category", id="unknown category"),
        pytest.param({"colour": "Red"}, "unknown_category", id="other case"),
        pytest.param({"colour": 0}, "unknown_category", id="a category's place"),
        pytest.param({"colour": {}}, "unknown_category", id="an object as category"),
        pytest.param({"size": None}, "missing_column", id="null where nothing may be missing"),
        pytest.param({"x": 1}, "unknown_column", id="unknown column"),
        pytest.param({"size\0": 1}, "unknown_column", id="column cut at NUL"),
        pytest.param({"": 1}, "unknown_column", id="column without a name"),
    ],
)
def test_one_wrong_value_refuses_the_row(make_table: Make, change: dict[str, Any], reason: str) -> None:
    assert refusal({**ROW, **change}, make_table()) == reason


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        pytest.param({}, "missing_column", id="empty object"),
        pytest.param([], "wrong_shape", id="empty list"),
        pytest.param([1.5, 30, "red"], "wrong_shape", id="too few"),
        pytest.param([1.5, 30, "red", 2, 1], "wrong_shape", id="too many"),
        pytest.param([list(ROW.values())], "wrong_shape", id="a list of rows"),
        pytest.param("1.5,30,red,2", "wrong_dtype", id="text"),
        pytest.param(None, "wrong_dtype", id="null"),
    ],
)
def test_what_is_no_row_is_refused(make_table: Make, value: Any, reason: str) -> None:
    assert refusal(value, make_table()) == reason


VALUES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.integers(), max_size=2)
)
ITEM = TableInput("row", (Column("a", "float", -1, 1, (), None), Column("b", "category", 0, 0, ("x", "y"), 9.0)))


@SEEDED
@given(
    value=st.lists(VALUES, max_size=3)
    | st.dictionaries(st.sampled_from(["a", "b"]) | st.text(max_size=2), VALUES)
    | VALUES
)
def test_whatever_comes_leaves_numbers_or_a_refusal(value: Any) -> None:
    try:
        row = check_row(value, ITEM)
    except Refused as refused:
        assert type(refused) is REASONS[refused.reason]
    else:
        assert -1 <= row[0] <= 1
        assert row[1] in (0, 1, 9)
