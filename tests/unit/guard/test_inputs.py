"""Inputs by their contract: at each limit, and just over it."""

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from garrison.contract import Contract
from garrison.errors import RequestRefused
from garrison.guard.inputs import check_declared, check_examples, check_inputs, count_fields, needs_time
from garrison.guard.tensors import make_strings
from garrison.tensorflow.messages import messages
from unit.guard.contracts import CLASSIFY, EXAMPLES, make_contract, make_signature

PHOTO = {
    "kind": "image",
    "formats": ["png"],
    "max_bytes": 2000,
    "min_side": 4,
    "max_side": 8,
    "max_pixels": 48,
}
WORD = {"kind": "text", "max_bytes": 12, "max_characters": 4, "shape": [[1, 2]]}
KEY = {"kind": "bytes", "min_bytes": 2, "max_bytes": 4}


def contract_of(inputs: Any, **changes: Any) -> Contract:
    return make_contract({"serving_default": make_signature(inputs, **changes)})


def check(contract: Contract, **inputs: Any) -> Any:
    return check_inputs(contract, contract.signatures[0], inputs)


def refusal(contract: Contract, **inputs: Any) -> str:
    with pytest.raises(RequestRefused) as refused:
        check(contract, **inputs)
    return refused.value.reason


def numbers(*shape: int, dtype: str = "float32") -> Any:
    return np.zeros(shape, dtype)


def strings(*values: bytes, shape: Any = None) -> Any:
    return make_strings(values).reshape(shape or (len(values),))


def draw(width: int = 6, height: int = 8, image_format: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(file, image_format)
    return file.getvalue()


def example(age: Any = (5,), word: Any = (b"hi",), **more: Any) -> bytes:
    message = messages.Example()
    features = message.features.feature
    features["age"].int64_list.value.extend(age)
    features["word"].bytes_list.value.extend(word)
    for name, value in more.items():
        features[name].float_list.value.append(value)
    return message.SerializeToString()


PIXELS = make_contract()


@pytest.mark.parametrize("rows", [1, 4], ids=["one-row", "as-many-as-are-allowed"])
def test_numbers_are_given_as_they_came(rows):
    given_numbers = numbers(rows, 4)
    assert check(PIXELS, pixels=given_numbers)["pixels"] is given_numbers


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        pytest.param({}, "missing_input", id="nothing"),
        pytest.param({"pixels": numbers(1, 4), "more": numbers(1)}, "unknown_input", id="one-more"),
        pytest.param({"pixels": numbers(1, 4, dtype="float64")}, "wrong_dtype", id="another-type"),
        pytest.param({"pixels": numbers(1, 4, dtype="complex64")}, "wrong_dtype", id="a-type-of-no-contract"),
        pytest.param({"pixels": strings(b"a")}, "wrong_dtype", id="strings"),
        pytest.param({"pixels": numbers(4)}, "wrong_shape", id="no-rows-dimension"),
        pytest.param({"pixels": numbers()}, "wrong_shape", id="a-single-number"),
        pytest.param({"pixels": numbers(1, 5)}, "wrong_shape", id="too-wide"),
        pytest.param({"pixels": numbers(1, 4, 1)}, "wrong_shape", id="a-dimension-more"),
        pytest.param({"pixels": numbers(0, 4)}, "no_rows", id="no-rows"),
        pytest.param({"pixels": numbers(5, 4)}, "too_many_instances", id="a-row-too-many"),
        pytest.param({"pixels": numbers(1, 4) + 17}, "value_out_of_range", id="too-high"),
        pytest.param({"pixels": numbers(1, 4) - 1}, "value_out_of_range", id="too-low"),
        pytest.param({"pixels": numbers(1, 4) + np.float32("nan")}, "not_finite", id="nan"),
        pytest.param({"pixels": numbers(1, 4) + np.float32("inf")}, "not_finite", id="infinite"),
    ],
)
def test_numbers_that_are_not_the_contracts_are_refused(inputs, reason):
    assert refusal(PIXELS, **inputs) == reason


def test_one_nan_among_good_numbers_is_found():
    one = numbers(4, 4)
    one[2, 1] = np.nan
    assert refusal(PIXELS, pixels=one) == "not_finite"


def test_all_inputs_have_the_same_number_of_rows():
    two = contract_of({"a": {"kind": "tensor", "dtype": "int64", "shape": []}, "b": KEY})
    given_numbers = numbers(2, dtype="int64")
    assert check(two, a=given_numbers, b=strings(b"xx", b"yy"))
    assert refusal(two, a=given_numbers, b=strings(b"xx")) == "rows_differ"


def test_a_signature_without_rows_takes_the_whole_tensor():
    whole = contract_of({"a": {"kind": "tensor", "dtype": "int64", "shape": [[1, 3]]}}, batched=False)
    assert check(whole, a=numbers(3, dtype="int64"))
    assert refusal(whole, a=numbers(4, dtype="int64")) == "wrong_shape"
    assert refusal(whole, a=numbers(1, 3, dtype="int64")) == "wrong_shape"


def test_shapes_are_checked_before_there_are_values():
    rows = check_declared(PIXELS, PIXELS.signatures[0], {"pixels": ("float32", (2, 4))})
    assert rows == 2
    with pytest.raises(RequestRefused) as refused:
        check_declared(PIXELS, PIXELS.signatures[0], {"pixels": ("float32", (1, 2**60))})
    assert refused.value.reason == "wrong_shape"


def test_all_of_a_request_fits_into_a_batch():
    batch = {"max_items": 8, "max_delay_ms": 1, "max_bytes": 40, "max_instances": 4}
    small = make_contract(batch=batch)
    assert check(small, pixels=numbers(2, 4))
    assert refusal(small, pixels=numbers(3, 4)) == "too_many_bytes"


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        pytest.param(b"abcd", "", id="as-long-as-allowed"),
        pytest.param(b"abcde", "too_many_characters", id="a-character-too-many"),
        pytest.param(b"abcdefghijklm", "too_many_bytes", id="a-byte-too-many"),
        pytest.param(b"", "too_few_characters", id="empty"),
        pytest.param(b"\xff", "bad_utf8", id="not-utf-8"),
        pytest.param(b"a\0", "control_character", id="zero"),
    ],
)
def test_each_text_is_checked(word, reason):
    words = contract_of({"words": WORD})
    given_words = strings(b"ok", word, shape=(1, 2))
    if reason:
        assert refusal(words, words=given_words) == reason
    else:
        assert check(words, words=given_words)["words"].tolist() == [[b"ok", word]]


def test_a_text_leaves_in_its_normal_form():
    words = contract_of({"words": WORD})
    composed = check(words, words=strings("e\u0301".encode(), shape=(1, 1)))["words"]
    assert composed.tolist() == [["\u00e9".encode()]]


@pytest.mark.parametrize(
    ("key", "reason"),
    [(b"ab", ""), (b"\0\0\0\0", ""), (b"a", "wrong_shape"), (b"abcde", "too_many_bytes")],
    ids=["shortest", "longest", "too-short", "too-long"],
)
def test_bytes_are_counted(key, reason):
    keys = contract_of({"key": KEY})
    if reason:
        assert refusal(keys, key=strings(key)) == reason
    else:
        assert check(keys, key=strings(key))["key"].tolist() == [key]


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        pytest.param(draw(), "", id="good"),
        pytest.param(draw(8, 8), "too_many_pixels", id="too-many-pixels"),
        pytest.param(draw(9, 4), "side_too_long", id="too-long"),
        pytest.param(draw(3, 8), "side_too_short", id="too-short"),
        pytest.param(draw(image_format="GIF"), "format_not_allowed", id="another-format"),
        pytest.param(draw() + b"more", "trailing_bytes", id="bytes-behind"),
        pytest.param(draw()[:-20], "broken_image", id="cut-off"),
        pytest.param(bytes(2001), "too_many_bytes", id="too-many-bytes"),
        pytest.param(b"", "empty_body", id="empty"),
        pytest.param(b"no image", "unknown_format", id="no-image"),
    ],
)
def test_each_image_is_checked_and_given_as_it_was_sent(image, reason):
    photos = contract_of({"photo": PHOTO})
    if reason:
        assert refusal(photos, photo=strings(draw(), image)) == reason
    else:
        assert check(photos, photo=strings(image))["photo"].tolist() == [image]


def test_an_image_with_a_sound_header_and_a_broken_body_is_refused():
    image = bytearray(draw(4, 4))
    start = image.index(b"IDAT")
    image[start + 6 : start + 10] = b"\xff" * 4
    assert refusal(contract_of({"photo": PHOTO}), photo=strings(bytes(image))) == "broken_image"


CLASSES = make_contract({"classes": CLASSIFY})


def check_example(value: bytes) -> Any:
    return check_examples(CLASSES, CLASSES.signatures[0], [value])


def test_an_example_is_written_anew():
    features = messages.Example.FromString(example()).features
    twice = messages.Example(features=features).SerializeToString() * 2  # fields that come twice are merged
    assert len(twice) == 2 * len(example())
    (written,) = check_example(twice)
    assert written == messages.Example.FromString(written).SerializeToString(deterministic=True)
    found = messages.Example.FromString(written).features.feature
    assert (found["age"].int64_list.value, found["word"].bytes_list.value) == ([5], [b"hi"])


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        pytest.param(b"\xff", "bad_message", id="no-example"),
        pytest.param(b"", "missing_input", id="no-features"),
        pytest.param(b"\x12\x00", "unknown_field", id="an-unknown-field"),
        pytest.param(example(more=1.0), "unknown_input", id="a-feature-more"),
        pytest.param(example(age=(1, 2)), "wrong_shape", id="two-numbers"),
        pytest.param(example(age=()), "wrong_shape", id="no-number"),
        pytest.param(example(age=(151,)), "value_out_of_range", id="too-high"),
        pytest.param(example(word=(b"123456789",)), "too_many_characters", id="too-long-a-word"),
        pytest.param(example(word=(b"\xff",)), "bad_utf8", id="not-utf-8"),
        pytest.param(example(word=(b"x" * 300,)), "too_many_bytes", id="too-long"),
        pytest.param(b"\x0a\x00" * 60, "too_many_fields", id="the-same-again-and-again"),
    ],
)
def test_examples_that_are_not_the_contracts_are_refused(value, reason):
    assert check_example(example())
    with pytest.raises(RequestRefused) as refused:
        check_example(value)
    assert refused.value.reason == reason


def test_a_feature_of_another_kind_is_refused():
    message = messages.Example.FromString(example())
    message.features.feature["age"].float_list.value.append(5.0)
    with pytest.raises(RequestRefused) as refused:
        check_example(message.SerializeToString())
    assert refused.value.reason == "wrong_dtype"


@pytest.mark.parametrize(
    ("shape", "good", "bad"),
    [([[1, 3]], [1, 3], [0, 4]), ([2, [1, 2]], [2, 4], [1, 3, 6]), ([[1, 2], [1, 2]], [1, 4], [0, 5])],
    ids=["one-varies", "a-multiple", "two-vary"],
)
def test_a_features_number_of_values_fits_its_shape(shape, good, bad):
    features = {"f": {"kind": "tensor", "dtype": "float32", "shape": shape}}
    contract = contract_of({"examples": {"kind": "example", "max_bytes": 200, "features": features}})

    def send(count: int) -> Any:
        message = messages.Example()
        message.features.feature["f"].float_list.value.extend([1.0] * count)
        return check(contract, examples=strings(message.SerializeToString()))

    for count in good:
        assert send(count)
    for count in bad:
        with pytest.raises(RequestRefused) as refused:
            send(count)
        assert refused.value.reason == "wrong_shape"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=3))
def test_random_strings_are_checked_or_refused(values):
    for contract, name in ((CLASSES, "examples"), (contract_of({"a": PHOTO}), "a"), (contract_of({"a": KEY}), "a")):
        try:
            check(contract, **{name: strings(*values)})
        except RequestRefused as refused:
            assert refused.reason


def test_decoding_images_takes_time_also_inside_examples():
    inside = {"examples": {"kind": "example", "max_bytes": 4000, "features": {"photo": PHOTO}}}
    contracts = [contract_of({"a": PHOTO}), contract_of(inside), PIXELS, contract_of(EXAMPLES)]
    assert [needs_time(contract.signatures[0]) for contract in contracts] == [True, True, False, False]


def test_fields_are_allowed_for_every_string():
    contract = contract_of({"words": {**WORD, "shape": [100]}})
    request = messages.PredictRequest()
    request.inputs["words"].string_val.extend([b"a"] * 100 * contract.batch.max_instances)
    assert count_fields(contract) == 400
    assert count_fields(PIXELS) == 0
