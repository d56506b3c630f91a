"""The contract's loader: a valid contract or a `ConfigError` that tells everything that is wrong, and nothing else."""

from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from garrison.contract import Contract, count_room, count_server_bytes, load_contract, parse_contract
from garrison.errors import ConfigError

REQUIRED = [
    *("garrison", "model", "version", "task", "inputs", "batch", "workers", "outputs"),
    *(f"inputs__image__{key}" for key in ("kind", "formats", "max_bytes", "min_side", "max_side", "max_pixels")),
    *("inputs__image__max_frames", "inputs__image__colour", "inputs__image__exact"),
    *("inputs__image__normalise__mean", "inputs__image__normalise__std"),
    *("batch__max_items", "batch__max_delay_ms", "batch__max_bytes"),
    *("workers__count", "workers__queue", "workers__timeout_s"),
    *("outputs__labels", "outputs__top_k", "outputs__decimals"),
]
HIGHEST = {
    "inputs__image__max_bytes": 64 * 2**20,
    "inputs__image__max_side": 65_535,
    "inputs__image__max_pixels": 65_535**2,
    "inputs__image__max_frames": 1000,
    "batch__max_items": 1024,
    "batch__max_delay_ms": 10_000,
    "batch__max_bytes": 16 * 2**30,
    "workers__count": 64,
    "workers__queue": 10_000,
    "workers__timeout_s": 600,
    "outputs__top_k": 1000,
}
LIMITS = [*HIGHEST, "inputs__image__min_side"]


def read(text: str) -> Contract:
    return parse_contract(text.encode(), "contract.yaml")


def problems_of(text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        read(text)
    return caught.value.problems


def test_a_contract_is_read_into_frozen_values(make_contract):
    contract = read(make_contract())
    assert (contract.model, contract.version, contract.inputs[0].shape) == ("tiny", "1", (4, 4, 3))
    with pytest.raises(FrozenInstanceError):
        contract.batch.max_items = 9


def test_the_sample_model_s_contract_is_valid(repository):
    assert load_contract(repository / "models/digits/contract.yaml").model == "digits"


@pytest.mark.parametrize("key", REQUIRED)
def test_a_missing_key_is_one_problem_that_names_it(make_contract, key):
    (problem,) = problems_of(make_contract(**{key: ...}))
    name = "inputs.image.resize" if key.endswith("exact") else key.replace("__", ".")
    assert problem.startswith(f"contract.yaml: {name}: missing; write ")


@pytest.mark.parametrize("value", [0, -1], ids=["zero", "negative"])
@pytest.mark.parametrize("key", LIMITS)
def test_no_limit_can_be_zero_or_negative(make_contract, key, value):
    (problem,) = problems_of(make_contract(**{key: value}))
    assert problem.startswith(f"contract.yaml: {key.replace('__', '.')}: {value} is not a ")


@pytest.mark.parametrize("value", [True, 1.5, "many", None, [1], {"a": 1}], ids=repr)
@pytest.mark.parametrize("key", LIMITS)
def test_a_limit_of_the_wrong_type_is_one_problem(make_contract, key, value):
    (problem,) = problems_of(make_contract(**{key: value}))
    assert problem.startswith(f"contract.yaml: {key.replace('__', '.')}: ")


@pytest.mark.parametrize("key", HIGHEST)
def test_a_limit_at_its_ceiling_is_accepted(make_contract, key):
    read(make_contract(**{key: HIGHEST[key]}))


@pytest.mark.parametrize("key", HIGHEST)
def test_a_limit_one_over_its_ceiling_is_refused(make_contract, key):
    (problem,) = problems_of(make_contract(**{key: HIGHEST[key] + 1}))
    assert str(HIGHEST[key]) in problem


@pytest.mark.parametrize(
    "key",
    [
        "extra",
        "inputs__image__extra",
        "batch__extra",
        "workers__extra",
        "outputs__extra",
        "inputs__image__normalise__x",
    ],
)
def test_an_unknown_key_is_refused_wherever_it_stands(make_contract, key):
    (problem,) = problems_of(make_contract(**{key: 1}))
    assert problem.startswith(f"contract.yaml: {key.replace('__', '.')}: unknown key")


@pytest.mark.parametrize("version", ["1", "0", "999999", "1.2", "1.2.3"])
def test_a_version_has_one_to_three_numbers(make_contract, version):
    assert read(make_contract(version=version)).version == version


@pytest.mark.parametrize(
    "version",
    ["", "v1", "1.", "1.2.3.4", "1000000", "1-rc", "../1", "1\n", "٣", 3, 1.1],
    ids=repr,
)
def test_what_is_not_a_version_in_quotes_is_refused(make_contract, version):
    (problem,) = problems_of(make_contract(version=version))
    assert "in quotes" in problem


@pytest.mark.parametrize("name", ["a", "A-b_9", "a" * 64])
def test_a_model_name_is_accepted(make_contract, name):
    assert read(make_contract(model=name)).model == name


@pytest.mark.parametrize("name", ["", "-a", "_a", "a b", "a/b", "..", "a" * 65, "ä", "a\n", "a\0b"], ids=repr)
def test_a_model_name_that_could_be_a_path_or_an_option_is_refused(make_contract, name):
    assert "model:" in str(problems_of(make_contract(model=name)))


@pytest.mark.parametrize(
    "name", ["../labels.json", "/etc/passwd", "a/b.json", ".hidden", "", "x" * 129, "a\n"], ids=repr
)
def test_the_labels_are_a_file_beside_the_contract(make_contract, name):
    (problem,) = problems_of(make_contract(outputs__labels=name))
    assert problem.startswith("contract.yaml: outputs.labels: ")


@pytest.mark.parametrize("formats", [[], ["all"], ["png", "png"], "png", ["svg"], ["PNG"], [["png"]]], ids=repr)
def test_formats_are_an_explicit_list(make_contract, formats):
    (problem,) = problems_of(make_contract(inputs__image__formats=formats))
    assert problem.startswith("contract.yaml: inputs.image.formats: ")


@pytest.mark.parametrize("inputs", [{}, None, [], "image"], ids=repr)
def test_there_is_exactly_one_input(make_contract, inputs):
    assert any(problem.startswith("contract.yaml: inputs: ") for problem in problems_of(make_contract(inputs=inputs)))


def test_two_inputs_are_refused(make_contract):
    text = make_contract()
    image = text[text.index("  image:") : text.index("batch:")]
    assert "exactly one input" in str(problems_of(text.replace(image, image + image.replace("image:", "other:", 1))))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"inputs__image__min_side": 65}, "65 is more than max_side 64", id="min-over-max-side"),
        pytest.param({"inputs__image__max_pixels": 3}, "less than an image of min_side", id="too-few-pixels"),
        pytest.param({"inputs__image__colour": "grey"}, "this colour has 1", id="channels"),
        pytest.param({"inputs__image__normalise__mean": [0]}, "needs 3 number(s)", id="one-mean-for-three-channels"),
        pytest.param({"inputs__image__resize": {"short_side": 4, "crop": 4}}, "not both", id="exact-and-resize"),
        pytest.param({"batch__max_bytes": 191}, "needs 192 bytes", id="one-item-does-not-fit"),
        pytest.param(
            {"inputs__image__exact": ..., "inputs__image__resize": {"short_side": 4, "crop": 5}},
            "5 is more than short_side 4",
            id="crop-over-short-side",
        ),
        pytest.param({"inputs__image__normalise__std": [0, 1, 1]}, "std: [0, 1, 1]", id="division-by-zero"),
        pytest.param({"inputs__image__normalise__mean": [float("nan")] * 3}, "mean: ['.nan'", id="mean-nan"),
        pytest.param({"outputs__min_score": 1.01}, "min_score: 1.01", id="score-over-one"),
        pytest.param({"garrison": 2}, "garrison: 2", id="format-of-the-future"),
        pytest.param({"garrison": True}, "garrison: True", id="true-is-not-one"),
    ],
)
def test_values_have_to_agree_with_each_other(make_contract, changes, message):
    assert message in "\n".join(problems_of(make_contract(**changes)))


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(
            {"inputs__image__min_side": 64, "inputs__image__exact": [64, 64, 3], "inputs__image__max_pixels": 4096},
            id="min-side-equals-max-side",
        ),
        pytest.param({"inputs__image__max_pixels": 16}, id="pixels-of-the-smallest-image"),
        pytest.param({"batch__max_bytes": 192}, id="one-item-fits-exactly"),
    ],
)
def test_values_may_agree_exactly(make_contract, changes):
    read(make_contract(**changes))


def test_all_problems_are_told_at_once_and_no_stand_in_is(make_contract):
    changes = {"model": "a b", "inputs__image__max_side": "big", "batch": ..., "outputs__top_k": 0, "extra": 1}
    assert [problem.split(": ")[1] for problem in problems_of(make_contract(**changes))] == [
        *("model", "inputs.image.max_side", "batch", "outputs.top_k", "extra")
    ]


@pytest.mark.parametrize(
    ("forms", "body_bytes"),
    [pytest.param(["raw"], 300, id="raw"), pytest.param(["raw", "json"], 400 + 4096, id="json-is-a-third-longer")],
)
def test_the_largest_body_follows_from_the_largest_image(make_contract, forms, body_bytes):
    contract = read(make_contract(inputs__image__forms=forms, inputs__image__max_bytes=300))
    assert contract.max_body_bytes == body_bytes


def check_any(data: bytes) -> None:
    try:
        contract = parse_contract(data, "contract.yaml")
    except ConfigError as error:
        assert error.problems
        assert all(problem.startswith("contract.yaml") for problem in error.problems)
    else:
        assert isinstance(contract, Contract)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_a_contract_or_a_config_error(data):
    check_any(data)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=":-?[]{},&*!|>'\"%@`#<=~ \n\t0123456789abcdefxTZ._+\\", max_size=80))
def test_any_yaml_like_text_is_a_contract_or_a_config_error(text):
    check_any(text.encode())


SCALARS = [
    *(
        "0x" + "f" * 9000,
        "1" + ":59" * 900,
        "9" * 5000,
        "0b_",
        "0x_",
        "0o8",
        "1e999",
        "-.inf",
        ".nan",
        "true",
        "~",
        "=",
        "<<",
    ),
    *(
        "2024-02-30",
        "9999-12-31T23:59:59-23:59",
        "!!bool x",
        "!!float ''",
        "*a",
        "&a",
        "? a",
        "|",
        "%TAG",
        "'\\'",
        '"\\ud800"',
    ),
    *("{}", "[]", "[[]]", "{a: b}", "[{a: b}]", "!!python/object:os.x {}", "1_000", "0", "-1", "4MiB", "exact", ""),
]
LINES = [f"{key}: %s" for key in ("garrison", "model", "version", "task", "inputs", "batch", "workers", "outputs")]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(LINES), st.sampled_from(SCALARS)), max_size=8))
def test_any_odd_value_under_a_known_key_is_a_config_error(lines):
    check_any("\n".join(line % value for line, value in lines).encode())


@pytest.mark.parametrize("value", SCALARS, ids=lambda value: value[:20] or "nothing")
def test_any_odd_value_deep_in_a_contract_is_a_contract_or_a_config_error(make_contract, value):
    text = make_contract()
    for line in text.splitlines():
        key, colon, _ = line.partition(":")
        if colon:
            check_any(text.replace(line, f"{key}: {value}").encode())


@pytest.mark.parametrize("megabytes", [1, 4, 16, 48], ids=str)
def test_the_server_is_given_no_more_than_its_memory_holds(make_contract, megabytes):
    contract = read(make_contract(inputs__image__max_bytes=f"{megabytes}MiB", batch__max_bytes="64MiB"))
    room, memory = count_room([contract]), count_server_bytes([contract])
    assert 1 <= room <= contract.workers.queue + contract.batch.max_items
    assert 2 * contract.max_body_bytes * room <= memory <= 2 * 2**30
