"""`describe` tells a client about every kind of input and every task, in words and as JSON."""

import json

import pytest

from garrison.contract import TASKS, parse_contract
from garrison.contract.explanations import EXPLAINED_TASKS
from garrison.describe import describe_contract, describe_in_words
from garrison.describe.torchserve import ANSWERS, ATTRIBUTIONS

KINDS = {
    "text": {"kind": "text", "max_bytes": "1KiB", "min_characters": 3, "max_characters": 200, "max_tokens": 20},
    "tensor": {"kind": "tensor", "dtype": "float32", "shape": [[1, 4], 2], "min": -10, "max": 10},
    "table": {
        "kind": "table",
        "columns": {
            "age": {"kind": "float", "min": 0, "max": 120, "missing": 50},
            "job": {"kind": "category", "categories": ["a", "b"]},
        },
    },
}


def describe(text: str):
    contract = parse_contract(text.encode(), "contract.yaml")
    values = describe_contract(contract)
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    return values, describe_in_words(contract)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_says_what_its_answer_looks_like(make_contract, task):
    kind = TASKS[task] or "tensor"
    changes = {} if kind == "image" else {"inputs": {"x": KINDS[kind]}}
    values, words = describe(make_contract(task=task, **changes))
    assert values["answer"]["form"] in words
    assert values["answer"]["form"] == ANSWERS.get(task, ANSWERS["image-classification"])


@pytest.mark.parametrize(
    ("kind", "sentences"),
    [
        pytest.param(
            "text", ["text      3 to 200 characters", "at most 20 tokens", "curl --data-binary 'a text'"], id="text"
        ),
        pytest.param(
            "tensor", ["tensor    float32, shape 1..4 x 2, at least -10, at most 10", "-T tensor.npy"], id="tensor"
        ),
        pytest.param(
            "table",
            ["age: float, 0 to 120, may be missing", "job: category, a or b", '{"data": {"age": ..., "job": ...}}'],
            id="table",
        ),
    ],
)
def test_every_kind_of_input_is_described(make_contract, kind, sentences):
    values, words = describe(make_contract(task="custom", inputs={"x": KINDS[kind]}))
    assert values["inputs"]["x"]["kind"] == kind
    for sentence in sentences:
        assert sentence in words


def test_several_inputs_are_described_by_name(make_contract):
    _, words = describe(make_contract(task="custom", inputs={"first": KINDS["text"], "second": KINDS["tensor"]}))
    assert "first     3 to 200 characters" in words
    assert '{"data": {"first": "a text", "second": [...]}}' in words


def test_an_image_is_described_as_before(make_contract):
    values, words = describe(make_contract())
    assert values["inputs"]["image"]["shape"] == [4, 4, 3]
    assert "must be exactly 4 x 4 pixels" in words
    assert "curl -X POST -T image.png" in words


def test_a_table_of_many_columns_is_cut_short_in_words_only(make_contract):
    columns = {f"c{n}": {"kind": "int", "min": 0, "max": 1} for n in range(20)}
    values, words = describe(make_contract(task="custom", inputs={"x": {"kind": "table", "columns": columns}}))
    assert len(values["inputs"]["x"]["columns"]) == 20
    assert "and 12 more: see --json" in words


def test_without_explanations_nothing_is_said_of_them(make_contract):
    values, words = describe(make_contract())
    assert values["explanations"] is None
    assert "explain" not in words


@pytest.mark.parametrize("task", ATTRIBUTIONS)
def test_explanations_are_told(make_contract, task):
    kind = TASKS[task]
    section = {"method": "feature-ablation", "max_evaluations": 64} | ({"grid": 2} if kind == "image" else {})
    changes = {} if kind == "image" else {"inputs": {"x": KINDS[kind]}}
    values, words = describe(make_contract(task=task, explanations=section, **changes))
    told = values["explanations"]
    assert (told["path"], told["by"], told["max_evaluations"]) == ("/explanations/tiny", "feature-ablation", 64)
    assert told["form"] in words
    assert "explain   POST /explanations/tiny" in words
    assert ("2 rows of 2 cells" in words) == (kind == "image")


def test_every_task_that_can_be_explained_says_how():
    assert ATTRIBUTIONS.keys() == EXPLAINED_TASKS.keys()


def test_label_only_is_told(make_contract):
    values, _ = describe(make_contract(outputs__label_only=True))
    assert values["answer"]["form"] == '["label", ...], the best first'
