"""A tensor is exactly of the contract's dtype, shape and range, or it is refused."""

import io
import pickle
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from garrison.checks.tensor import check_tensor
from garrison.contract import TensorInput
from garrison.contract.tensor import DTYPES, NPY_HEADER_BYTES
from garrison.errors import Refused
from garrison.reasons import REASONS

Make = Callable[..., TensorInput]
SEEDED = settings(derandomize=True, max_examples=300, deadline=None)
INTEGERS = ("int8", "int16", "int32", "int64", "uint8")
FLOATS = ("float16", "float32", "float64")


def save(array: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def write_npy(header: str, values: bytes, version: bytes = b"\1\0", length: int | None = None) -> bytes:
    text = header.encode("latin-1") + b"\n"
    size = struct.pack("<H" if version == b"\1\0" else "<L", len(text) if length is None else length)
    return b"\x93NUMPY" + version + size + text + values


def header(descr: str = "'<f4'", order: str = "False", shape: str = "(2, 2)") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"


def refusal(value: Any, item: TensorInput) -> str:
    with pytest.raises(Refused) as caught:
        check_tensor(value, item)
    assert type(caught.value) is REASONS[caught.value.reason]
    return caught.value.reason


# --- nested lists and files alike


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("as_file", [True, False], ids=["npy", "lists"])
def test_every_dtype_and_order_is_read(make_tensor: Make, dtype: str, order: Any, as_file: bool) -> None:
    array = np.array([[0, 1], [1, 1], [1, 0]]).astype(dtype, order=order)
    checked = check_tensor(save(array) if as_file else array.tolist(), make_tensor(dtype=dtype))
    assert checked.dtype == array.dtype
    assert checked.flags.c_contiguous
    assert checked.flags.writeable
    assert np.array_equal(checked, array)


@pytest.mark.parametrize("as_file", [True, False], ids=["npy", "lists"])
@pytest.mark.parametrize(
    ("shape", "fits"),
    [
        *[((2, 2), True), ((3, 2), True), ((1, 2), False), ((4, 2), False), ((2, 1), False), ((2, 3), False)],
        *[((2,), False), ((2, 2, 1), False), ((0, 2), False), ((2, 0), False)],
    ],
    ids=str,
)
def test_shapes_at_the_limits_pass_and_others_are_refused(
    make_tensor: Make, shape: tuple[int, ...], fits: bool, as_file: bool
) -> None:
    array = np.ones(shape, np.float32)
    value = save(array) if as_file else array.tolist()
    if fits:
        assert check_tensor(value, make_tensor()).shape == shape
    else:
        assert refusal(value, make_tensor()) in ("wrong_shape", "wrong_dtype")


@pytest.mark.parametrize("as_file", [True, False], ids=["npy", "lists"])
@pytest.mark.parametrize(
    ("dtype", "low", "high", "inside", "outside"),
    [
        pytest.param(
            "float32", 0.1, 0.7, [0.1, 0.7], [np.nextafter(np.float32(0.1), np.float32(0)), 0.71], id="float32"
        ),
        pytest.param("float64", 0.1, 0.7, [0.1, 0.7], [np.nextafter(0.1, 0), np.nextafter(0.7, 1)], id="float64"),
        pytest.param("float16", -1e300, 1e300, [-65504, 65504], [], id="float16 with wide limits"),
        pytest.param("int64", -(2.0**62), 2.0**62, [-(2**62), 2**62], [-(2**62) - 1, 2**62 + 1], id="int64"),
        pytest.param("uint8", 1.5, 9.5, [2, 9], [1, 10], id="fractions"),
    ],
)
def test_values_at_the_limits_pass_and_one_beyond_is_refused(
    make_tensor: Make, dtype: str, low: float, high: float, inside: list[Any], outside: list[Any], as_file: bool
) -> None:
    item = make_tensor(dtype=dtype, shape=((1, 1),), minimum=low, maximum=high)
    for values, fits in ((inside, True), (outside, False)):
        for number in values:
            array = np.array([number], dtype)
            value = save(array) if as_file else array.tolist()
            if fits:
                assert check_tensor(value, item).tolist() == array.tolist()
            else:
                assert refusal(value, item) == "value_out_of_range"


# --- nested lists


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_at_the_end_of_their_type_pass_and_one_more_is_refused(make_tensor: Make, dtype: str) -> None:
    item = make_tensor(dtype=dtype, shape=((1, 1),))
    limits = np.iinfo(dtype)
    for end, beyond in ((limits.min, limits.min - 1), (limits.max, limits.max + 1)):
        assert check_tensor([int(end)], item).tolist() == [end]
        assert refusal([int(beyond)], item) == "value_out_of_range"


@pytest.mark.parametrize("dtype", FLOATS)
def test_floats_at_the_end_of_their_type_pass_and_larger_ones_are_refused(make_tensor: Make, dtype: str) -> None:
    item = make_tensor(dtype=dtype, shape=((1, 1),))
    most = float(np.finfo(dtype).max)
    assert check_tensor([most], item).tolist() == [most]
    assert refusal([float("inf") if dtype == "float64" else most * 1.01], item) == "value_out_of_range"


@pytest.mark.parametrize(
    ("dtype", "leaf", "reason"),
    [
        pytest.param("uint8", 300, "value_out_of_range", id="300 into uint8"),
        pytest.param("uint8", 1.0, "wrong_dtype", id="1.0 into an integer"),
        pytest.param("int64", 1.5, "wrong_dtype", id="1.5 into an integer"),
        pytest.param("int64", True, "wrong_dtype", id="true into an integer"),
        pytest.param("int64", 10**400, "value_out_of_range", id="a huge integer"),
        pytest.param("float32", True, "wrong_dtype", id="true into a float"),
        pytest.param("float32", 10**400, "value_out_of_range", id="a huge integer into a float"),
        pytest.param("float32", float("inf"), "value_out_of_range", id="1e400"),
        pytest.param("float64", float("-inf"), "value_out_of_range", id="-1e400"),
        pytest.param("float32", 1e39, "value_out_of_range", id="beyond float32"),
        pytest.param("float32", "1", "wrong_dtype", id="text"),
        pytest.param("float32", None, "wrong_dtype", id="null"),
        pytest.param("float32", {}, "wrong_dtype", id="object"),
        pytest.param("float32", [1.0], "wrong_dtype", id="a level too many"),
        pytest.param("bool", 1, "wrong_dtype", id="1 into a truth value"),
    ],
)
def test_one_value_of_another_type_is_refused(make_tensor: Make, dtype: str, leaf: Any, reason: str) -> None:
    good: Any = True if dtype == "bool" else 1
    item = make_tensor(dtype=dtype)
    assert check_tensor([[good, good], [good, good]], item).shape == (2, 2)
    assert refusal([[good, good], [good, leaf]], item) == reason


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        pytest.param([[1, 2], [3]], "ragged", id="one too few"),
        pytest.param([[1, 2], [3, 4, 5]], "ragged", id="one too many"),
        pytest.param([[1, 2], 3], "wrong_shape", id="a number among lists"),
        pytest.param([1, [2, 3]], "wrong_shape", id="a list among numbers"),
        pytest.param([], "wrong_shape", id="empty"),
        pytest.param([[], []], "wrong_shape", id="empty rows"),
        pytest.param([{"a": 1}, {"b": 2}], "wrong_shape", id="objects"),
        pytest.param(["ab", "cd"], "wrong_shape", id="strings as rows"),
        pytest.param(1.0, "wrong_shape", id="a number"),
        pytest.param(None, "wrong_shape", id="null"),
    ],
)
def test_lists_that_are_no_array_are_refused(make_tensor: Make, value: Any, reason: str) -> None:
    assert refusal(value, make_tensor()) == reason


def test_integers_are_taken_for_floats(make_tensor: Make) -> None:
    assert check_tensor([[1, 2], [3, 4]], make_tensor()).tolist() == [[1.0, 2.0], [3.0, 4.0]]


# --- .npy files


class Boom:
    def __reduce__(self) -> Any:
        return (pytest.fail, ("unpickled",))


PLAIN = np.arange(4, dtype=np.float32).reshape(2, 2)
VALUES = PLAIN.tobytes()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"", "empty_body", id="nothing"),
        pytest.param(b"\x93NUMPY", "unknown_format", id="only magic"),
        pytest.param(b"\x93NUMPY\1\0", "bad_npy", id="no length"),
        pytest.param(b"PK\3\4", "unknown_format", id="npz"),
        pytest.param(pickle.dumps(Boom()), "unknown_format", id="pickle"),
        pytest.param(write_npy(header("'|O'"), pickle.dumps(Boom())), "wrong_dtype", id="objects"),
        pytest.param(save(np.array([[Boom(), 1]]), allow_pickle=True), "wrong_dtype", id="objects by NumPy"),
        pytest.param(save(np.zeros((2, 2), "i4,f4")), "bad_npy", id="records"),
        pytest.param(save(np.zeros((2, 2), ">f4")), "wrong_dtype", id="big-endian"),
        pytest.param(write_npy(header("'=f4'"), VALUES), "wrong_dtype", id="native"),
        pytest.param(write_npy(header("'f4'"), VALUES), "wrong_dtype", id="no byte order"),
        pytest.param(write_npy(header("'<f4,'"), VALUES), "wrong_dtype", id="comma"),
        pytest.param(save(PLAIN.astype("f8")), "wrong_dtype", id="float64"),
        pytest.param(save(PLAIN.astype("c8")), "wrong_dtype", id="complex"),
        pytest.param(save(PLAIN.astype("S4")), "wrong_dtype", id="strings"),
        pytest.param(save(PLAIN.astype("M8[s]")), "wrong_dtype", id="dates"),
        pytest.param(write_npy(header(), VALUES, b"\2\0"), "unknown_format", id="version 2"),
        pytest.param(write_npy(header(), VALUES, b"\3\0"), "unknown_format", id="version 3"),
        pytest.param(write_npy(header(), VALUES, b"\1\1"), "unknown_format", id="version 1.1"),
        pytest.param(write_npy(header(shape="(3, 2)"), VALUES), "bad_npy", id="more rows than bytes"),
        pytest.param(write_npy(header(), VALUES[:-1]), "bad_npy", id="a byte short"),
        pytest.param(write_npy(header(), VALUES + b"\0"), "bad_npy", id="a byte after the end"),
        pytest.param(save(PLAIN) + save(PLAIN), "bad_npy", id="two files"),
        pytest.param(write_npy(header(shape="(99999999, 99999999)"), VALUES), "wrong_shape", id="huge dimensions"),
        pytest.param(write_npy(header(shape="(4294967297, 2)"), VALUES), "bad_npy", id="dimension beyond 32 bits"),
        pytest.param(write_npy(header(shape="(-2, 2)"), VALUES), "bad_npy", id="negative dimension"),
        pytest.param(write_npy(header(shape="(2.0, 2)"), VALUES), "bad_npy", id="dimension as a float"),
        pytest.param(write_npy(header(shape="(True, 2)"), VALUES), "bad_npy", id="dimension as a truth value"),
        pytest.param(write_npy(header(shape="[2, 2]"), VALUES), "bad_npy", id="shape as a list"),
        pytest.param(write_npy(header(shape="()"), VALUES[:4]), "wrong_shape", id="no dimension"),
        pytest.param(write_npy(header(shape="(" + "1, " * 8 + "4)"), VALUES), "bad_npy", id="nine dimensions"),
        pytest.param(write_npy(header(order="1"), VALUES), "bad_npy", id="order as a number"),
        pytest.param(write_npy(header() + header(), VALUES), "bad_npy", id="two headers"),
        pytest.param(write_npy(header()[:-1] + "'x': 1}", VALUES), "bad_npy", id="a further key"),
        pytest.param(write_npy("__import__('os').abort()", VALUES), "bad_npy", id="code"),
        pytest.param(write_npy("(" * 900, VALUES), "bad_npy", id="nested brackets"),
        pytest.param(write_npy(header(), VALUES, length=0), "bad_npy", id="header of no length"),
        pytest.param(write_npy(header(), VALUES, length=65_535), "bad_npy", id="header longer than the file"),
        pytest.param(write_npy(header() + " " * 60_000, VALUES), "too_many_bytes", id="header too long"),
    ],
)
def test_files_that_lie_are_refused(make_tensor: Make, data: bytes, reason: str) -> None:
    assert refusal(data, make_tensor()) == reason


def test_a_header_at_the_limit_passes_and_a_longer_one_is_refused(make_tensor: Make) -> None:
    padding = NPY_HEADER_BYTES - 11 - len(header())
    item = make_tensor(shape=((2, 9), (2, 2)))
    assert check_tensor(write_npy(header() + " " * padding, VALUES), item).tolist() == PLAIN.tolist()
    assert refusal(write_npy(header() + " " * (padding + 1), VALUES), item) == "bad_npy"


def test_the_largest_file_passes(make_tensor: Make) -> None:
    item = make_tensor()
    padding = NPY_HEADER_BYTES - 11 - len(header(shape="(3, 2)"))
    data = write_npy(header(shape="(3, 2)") + " " * padding, bytes(24))
    assert len(data) == item.max_bytes
    assert check_tensor(data, item).shape == (3, 2)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf], ids=str)
@pytest.mark.parametrize("dtype", FLOATS)
def test_what_is_not_finite_is_refused(make_tensor: Make, dtype: str, number: float) -> None:
    array = np.ones((2, 2), dtype)
    array[1, 1] = number
    assert refusal(save(array), make_tensor(dtype=dtype)) == "not_finite"


def test_a_truth_value_of_another_byte_is_refused(make_tensor: Make) -> None:
    data = save(np.ones((2, 2), bool))
    assert check_tensor(data, make_tensor(dtype="bool")).all()
    assert refusal(data[:-1] + b"\2", make_tensor(dtype="bool")) == "value_out_of_range"


# --- whatever comes

ITEMS = [TensorInput("tensor", ("raw",), dtype, ((1, 3), (2, 2)), None, 100.0) for dtype in DTYPES]


@SEEDED
@given(
    item=st.sampled_from(ITEMS),
    array=hnp.arrays(st.sampled_from(list(DTYPES)), hnp.array_shapes(max_dims=3, max_side=3)),
)
def test_any_array_comes_out_as_it_went_in_or_is_refused(item: TensorInput, array: Any) -> None:
    for value in (save(array), array.tolist()):
        try:
            checked = check_tensor(value, item)
        except Refused:
            continue
        assert checked.dtype == item.dtype
        assert np.isfinite(checked).all()
        assert np.array_equal(checked, array)


@SEEDED
@given(item=st.sampled_from(ITEMS), data=st.data())
def test_any_damage_to_a_file_leaves_an_array_or_a_refusal(item: TensorInput, data: st.DataObject) -> None:
    body = bytearray(save(np.ones((2, 2), item.dtype)))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(body)))
        body[start : start + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    try:
        checked = check_tensor(bytes(body), item)
    except Refused as refused:
        assert type(refused) is REASONS[refused.reason]
    else:
        assert (checked.dtype, checked.ndim) == (np.dtype(item.dtype), 2)


ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
)


@SEEDED
@given(item=st.sampled_from(ITEMS), value=ANYTHING)
def test_any_json_leaves_an_array_or_a_refusal(item: TensorInput, value: Any) -> None:
    try:
        assert check_tensor(value, item).dtype == item.dtype
    except Refused as refused:
        assert type(refused) is REASONS[refused.reason]
