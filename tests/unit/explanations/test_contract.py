"""The contract's section `explanations`: absent, or a method that fits the task at a cost that the contract bounds."""

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from garrison.contract import TASKS, Contract, Explanations, parse_contract
from garrison.errors import ConfigError

ABLATION = {"method": "feature-ablation", "max_evaluations": 5, "grid": 2}
GRADIENTS = {"method": "integrated-gradients", "max_evaluations": 64, "grid": 2}
NO_PICTURE = {"method": "feature-ablation", "max_evaluations": 64}
TEXT = {"kind": "text", "max_bytes": "1KiB", "max_characters": 200, "max_tokens": 20}
TENSOR = {"kind": "tensor", "dtype": "float32", "shape": [[1, 4], 2]}
TABLE = {"kind": "table", "columns": {name: {"kind": "int", "min": 0, "max": 9} for name in "abc"}}
INPUTS = {"text": TEXT, "tensor": TENSOR, "table": TABLE}
LARGER = {"inputs__image__exact": [64, 64, 3], "batch__max_bytes": "1MiB"}


def read(text: str) -> Contract:
    return parse_contract(text.encode(), "contract.yaml")


def problems_of(text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        read(text)
    return caught.value.problems


def without(section: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in section.items() if name != key}


def test_without_the_section_there_are_none(make_contract):
    assert read(make_contract()).explanations is None


def test_the_section_is_read_into_frozen_values(make_contract):
    explanations = read(make_contract(explanations=ABLATION)).explanations
    assert explanations == Explanations("feature-ablation", 5, 2)
    with pytest.raises(FrozenInstanceError):
        explanations.max_evaluations = 6


@pytest.mark.parametrize("key", ABLATION)
def test_a_missing_key_is_one_problem_that_names_it(make_contract, key):
    (problem,) = problems_of(make_contract(explanations=without(ABLATION, key)))
    assert problem.startswith(f"contract.yaml: explanations.{key}: missing; write ")


@pytest.mark.parametrize("value", [None, True, [], "feature-ablation", 64], ids=repr)
def test_the_section_is_a_mapping(make_contract, value):
    (problem,) = problems_of(make_contract(explanations=value))
    assert problem.startswith("contract.yaml: explanations: ")


@pytest.mark.parametrize("value", [0, -1, 1, 1.5, True, "many", None], ids=repr)
def test_there_is_no_way_to_write_that_the_cost_is_not_bounded(make_contract, value):
    (problem,) = problems_of(make_contract(explanations=GRADIENTS | {"max_evaluations": value}))
    assert problem.startswith(f"contract.yaml: explanations.max_evaluations: {value!r} is not a whole number from 2 to")


@pytest.mark.parametrize(("value", "fits"), [(2, True), (1025, True), (1026, False)])
def test_the_cost_has_a_ceiling(make_contract, value, fits):
    text = make_contract(explanations=GRADIENTS | {"max_evaluations": value})
    if fits:
        assert read(text).explanations.max_evaluations == value
    else:
        assert "from 2 to 1025" in str(problems_of(text))


@pytest.mark.parametrize("key", ["extra", "target", "baseline"])
def test_an_unknown_key_is_refused(make_contract, key):
    (problem,) = problems_of(make_contract(explanations=ABLATION | {key: 1}))
    assert problem.startswith(f"contract.yaml: explanations.{key}: unknown key")


@pytest.mark.parametrize("method", ["gradients", "FEATURE-ABLATION", "", 1, None], ids=repr)
def test_an_unknown_method_is_one_problem(make_contract, method):
    (problem,) = problems_of(make_contract(explanations=ABLATION | {"method": method}))
    assert problem.startswith("contract.yaml: explanations.method: ")


@pytest.mark.parametrize(
    ("section", "fits"),
    [
        pytest.param({"grid": 2, "max_evaluations": 5}, True, id="every-cell-and-the-whole"),
        pytest.param({"grid": 2, "max_evaluations": 4}, False, id="one-run-too-few"),
        pytest.param({"grid": 32, "max_evaluations": 1025}, True, id="the-finest-grid"),
        pytest.param({"grid": 32, "max_evaluations": 1024}, False, id="the-finest-grid-one-too-few"),
    ],
)
def test_leaving_out_every_cell_has_to_fit_the_cost(make_contract, section, fits):
    text = make_contract(explanations=ABLATION | section, **LARGER)
    if fits:
        assert read(text).explanations.grid == section["grid"]
    else:
        needed = section["max_evaluations"] + 1
        assert f"needs {needed}; write at least that, or a smaller grid" in str(problems_of(text))


@pytest.mark.parametrize("section", [ABLATION, GRADIENTS], ids=lambda section: section["method"])
@pytest.mark.parametrize(("side", "fits"), [(4, True), (3, False)])
def test_a_cell_is_never_a_single_pixel(make_contract, section, side, fits):
    """An attribution for each pixel would be the gradient that a picture made to fool the model follows."""
    text = make_contract(explanations=section, inputs__image__exact=[4, side, 3])
    if fits:
        read(text)
    else:
        (problem,) = problems_of(text)
        assert problem.startswith("contract.yaml: explanations.grid: 2 is more than 1")


@pytest.mark.parametrize("grid", [0, -1, 33, 1.5, "2"], ids=repr)
def test_the_grid_has_bounds(make_contract, grid):
    (problem,) = problems_of(make_contract(explanations=GRADIENTS | {"grid": grid}, **LARGER))
    assert problem.startswith("contract.yaml: explanations.grid: ")


@pytest.mark.parametrize("task", ["tabular", "tensor", "text-classification"])
def test_only_pictures_have_a_grid(make_contract, task):
    inputs = {"x": INPUTS[TASKS[task]]}
    assert read(make_contract(task=task, inputs=inputs, explanations=NO_PICTURE)).explanations.grid == 0
    (problem,) = problems_of(make_contract(task=task, inputs=inputs, explanations=NO_PICTURE | {"grid": 2}))
    assert problem == "contract.yaml: explanations.grid: only pictures have one; take it out"


@pytest.mark.parametrize("task", ["object-detection", "image-segmentation", "custom"])
def test_other_tasks_have_none(make_contract, task):
    (problem,) = problems_of(make_contract(task=task, explanations=ABLATION))
    assert problem == f"contract.yaml: explanations: {task} has none; take the section out"


@pytest.mark.parametrize(
    ("task", "item"),
    [
        pytest.param("text-classification", TEXT, id="text"),
        *(pytest.param("tensor", TENSOR | {"dtype": dtype}, id=dtype) for dtype in ("int64", "uint8", "bool")),
    ],
)
def test_whole_numbers_have_no_gradients(make_contract, task, item):
    section = {"method": "integrated-gradients", "max_evaluations": 64}
    (problem,) = problems_of(make_contract(task=task, inputs={"x": item}, explanations=section))
    assert problem.startswith("contract.yaml: explanations.method: ")
    assert problem.endswith("has no gradients; write feature-ablation")


@pytest.mark.parametrize(
    ("task", "item", "needed"),
    [
        pytest.param("tabular", TABLE, 4, id="columns"),
        pytest.param("tensor", TENSOR, 9, id="values-of-the-largest-tensor"),
    ],
)
def test_leaving_out_every_part_has_to_fit_the_cost(make_contract, task, item, needed):
    def make(most):
        section = {"method": "feature-ablation", "max_evaluations": most}
        return make_contract(task=task, inputs={"x": item}, explanations=section)

    read(make(needed))
    assert f"feature-ablation needs {needed}; write at least that" in str(problems_of(make(needed - 1)))


def test_what_can_never_be_left_out_part_by_part_is_told(make_contract):
    item = {"kind": "tensor", "dtype": "float32", "shape": [1025]}
    (problem,) = problems_of(make_contract(task="tensor", inputs={"x": item}, explanations=NO_PICTURE))
    assert "needs 1026, which is too many; write the method integrated-gradients" in problem


def test_numbers_do_not_leave_where_only_labels_may(make_contract):
    (problem,) = problems_of(make_contract(explanations=ABLATION, outputs__label_only=True))
    assert problem.startswith("contract.yaml: explanations: its numbers are what outputs.label_only holds back")


def test_all_problems_are_told_at_once(make_contract):
    section = {"method": "none", "max_evaluations": 0, "grid": 99, "extra": 1}
    told = problems_of(make_contract(explanations=section, task="image-classification", outputs__top_k=0))
    assert [problem.split(": ")[1] for problem in told] == [
        *("outputs.top_k", "explanations.method", "explanations.max_evaluations", "explanations.grid"),
        "explanations.extra",
    ]


def test_a_wrong_task_is_the_only_problem(make_contract):
    (problem,) = problems_of(make_contract(task="unknown", explanations=without(ABLATION, "grid")))
    assert problem.startswith("contract.yaml: task: ")
