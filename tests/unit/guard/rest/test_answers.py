"""Writing answers: C's digits, rows and columns, bytes, classes."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from garrison.errors import RequestRefused
from garrison.guard.rest.answers import write_classes, write_columns, write_rows, write_values
from garrison.guard.serving import Class
from garrison.guard.tensors import make_strings

DIGITS = {"float16": 5, "float32": 9, "float64": 17}


def write_as_upstream(value: np.floating) -> str:
    """Write a number as json_tensor.cc's WriteDecimal does, one after the other."""
    text = "%g" % value  # noqa: UP031 - C's own words
    if value.dtype.type(text) != value:
        text = f"%.{DIGITS[value.dtype.name]}g" % value
    return text if "." in text or "e" in text else text + ".0"


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(DIGITS)), st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=5))
def test_digits_are_as_upstream_writes_them(dtype, numbers):
    with np.errstate(over="ignore", under="ignore"):
        values = np.array(numbers, dtype)
    values = values[np.isfinite(values)]
    assert write_columns({"y": values}) == f'{{"outputs": [{", ".join(map(write_as_upstream, values))}]}}'


def test_one_output_is_bare_and_several_have_names():
    x, y = np.array([[1, 2], [3, 4]], np.int32), np.array([True, False])
    assert write_rows({"x": x}) == '{"predictions": [[1, 2], [3, 4]]}'
    assert write_rows({"y": y, "x": x}) == '{"predictions": [{"x": [1, 2], "y": true}, {"x": [3, 4], "y": false}]}'
    assert write_columns({"x": x}) == '{"outputs": [[1, 2], [3, 4]]}'
    assert write_columns({"y": y, "x": x}) == '{"outputs": {"x": [[1, 2], [3, 4]], "y": [true, false]}}'


def test_a_scalar_is_no_list_and_cannot_come_in_rows():
    scalar = np.array(2.5)
    assert write_columns({"y": scalar}) == '{"outputs": 2.5}'
    with pytest.raises(RequestRefused) as refusal:
        write_rows({"y": scalar})
    assert refusal.value.reason == "outputs_differ"


def test_outputs_of_different_lengths_cannot_come_in_rows():
    with pytest.raises(RequestRefused) as refusal:
        write_rows({"x": np.zeros(2), "y": np.zeros(3)})
    assert refusal.value.reason == "outputs_differ"


def test_empty_dimensions_are_empty_lists():
    assert write_columns({"y": np.zeros((2, 0, 3))}) == '{"outputs": [[], []]}'
    assert write_rows({"y": np.zeros((2, 0), np.int8)}) == '{"predictions": [[], []]}'
    assert write_columns({"y": np.zeros(0)}) == '{"outputs": []}'


@pytest.mark.parametrize(
    ("name", "value", "written"),
    [
        ("text", 'Grüße " \\ \u2028 \U0001f600 \x00'.encode(), json.dumps('Grüße " \\ \u2028 \U0001f600 \x00')),
        ("text", b"\xff", '{"b64": "/w=="}'),
        ("text", b"", '""'),
        ("text_bytes", b"text", '{"b64": "dGV4dA=="}'),
        ("text_bytes", b"", '{"b64": ""}'),
        ("bytes", b"text", '"text"'),
    ],
    ids=["text", "no-utf8", "empty", "bytes", "empty-bytes", "not-the-ending"],
)
def test_strings(name, value, written):
    assert write_columns({name: make_strings([value])}) == f'{{"outputs": [{written}]}}'


def test_names_are_escaped():
    assert json.loads(write_columns({'a"b': np.zeros(1), "c": np.zeros(1)})) == {"outputs": {'a"b': [0.0], "c": [0.0]}}


def test_classes_and_values():
    rows = [[Class('a"b', 0.25), Class("", 1.0)], []]
    assert write_classes(rows) == '{"results": [[["a\\"b", 0.25], ["", 1.0]], []]}'
    assert write_values([0.1, 3.0]) == '{"results": [0.1, 3.0]}'
