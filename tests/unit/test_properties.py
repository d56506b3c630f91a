"""TorchServe's config.properties: locked lines stay as they are, the rest within a range, and in one spelling only."""

import pytest

from garrison.errors import ConfigError
from garrison.torchserve.properties import LOCKED, TUNABLE, check_properties

VALID = LOCKED | {key: str(low) for key, (low, high) in TUNABLE.items()}


@pytest.fixture
def properties(tmp_path):
    """Write a file of settings, valid but for the changes, and the text to put after them."""

    def write(changes=None, more: str = ""):
        values = {key: value for key, value in (VALID | (changes or {})).items() if value is not None}
        path = tmp_path / "config.properties"
        path.write_text("".join(f"{key}={value}\n" for key, value in values.items()) + more)
        return path

    return write


def problems_of(path) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        check_properties(path)
    return caught.value.problems


def test_the_shipped_file_passes(repository):
    check_properties(repository / "config/config.properties")


def test_comments_and_empty_lines_are_free(properties):
    check_properties(properties(more="\n# a comment, with = and : in it\n   \n"))


@pytest.mark.parametrize("key", LOCKED)
def test_a_locked_line_must_not_change(properties, key):
    assert problems_of(properties({key: "other"})) == (problem_of_locked(properties({key: "other"}), key),)


@pytest.mark.parametrize("key", LOCKED)
def test_a_locked_line_must_not_be_missing(properties, key):
    assert problems_of(properties({key: None})) == (problem_of_locked(properties({key: None}), key),)


def problem_of_locked(path, key: str) -> str:
    return f"{path}: {key}: locked; write {key}={LOCKED[key]}"


@pytest.mark.parametrize("key", TUNABLE)
def test_a_tunable_line_may_be_at_either_limit(properties, key):
    for value in TUNABLE[key]:
        check_properties(properties({key: str(value)}))


@pytest.mark.parametrize("value", ["below", "above", "", "-1", "1.5", "0x10", "٤", "many", "1" * 13, None])
@pytest.mark.parametrize("key", TUNABLE)
def test_a_tunable_line_outside_its_range_is_refused(properties, key, value):
    low, high = TUNABLE[key]
    value = {"below": str(low - 1), "above": str(high + 1)}.get(value, value)
    (problem,) = problems_of(properties({key: value}))
    assert f"{key}: write a whole number from {low} to {high}" in problem


@pytest.mark.parametrize("key", ["load_models", "model_store", "private_key_file", "ENABLE_MODEL_API"])
def test_an_unknown_setting_is_refused(properties, key):
    assert problems_of(properties({key: "all"})) == (
        f"{properties({key: 'all'})}: {key}: unknown setting; take it out",
    )


def test_a_setting_that_stands_twice_is_refused(properties):
    assert "enable_model_api stands twice" in problems_of(properties(more="enable_model_api=false\n"))[0]


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("enable_model_api:true", id="colon"),
        pytest.param("enable_model_api true", id="blank"),
        pytest.param("enable_model_api", id="no-value"),
        pytest.param("enable_model_api =true", id="blank-before"),
        pytest.param("enable_model_api= true", id="blank-after"),
        pytest.param(" enable_model_api=true", id="indented"),
        pytest.param("enable_model_\\u0061pi=true", id="escape"),
        pytest.param("enable\\_model_api=true", id="backslash-in-key"),
        pytest.param("x=\\", id="continuation"),
        pytest.param("!comment", id="exclamation-mark"),
        pytest.param("  # comment", id="indented-comment"),
        pytest.param("=true", id="no-key"),
        pytest.param("\ufeffenable_model_api=true", id="byte-order-mark"),
        pytest.param("enable_model_api\t=true", id="tab"),
        pytest.param("enable_model_api:x=true", id="colon-in-key"),
    ],
)
def test_java_s_other_spellings_are_refused(properties, line):
    assert any("write key=value" in problem for problem in problems_of(properties(more=line + "\n")))


@pytest.mark.parametrize("end", ["\v", "\f", "\x1c", "\x1e", "\x85", "\u2028", "\u2029"], ids=ascii)
def test_what_only_python_takes_for_the_end_of_a_line_hides_no_setting(properties, end):
    """To Java the line is one comment and the setting is missing: TorchServe's default, a TCP port, would be used."""
    path = properties({"inference_address": None}, more=f"# x{end}inference_address={LOCKED['inference_address']}\n")
    assert problems_of(path) == (problem_of_locked(path, "inference_address"),)


@pytest.mark.parametrize("end", ["\r", "\r\n"], ids=["cr", "crlf"])
def test_both_take_a_carriage_return_for_the_end_of_a_line(properties, end):
    path = properties()
    path.write_bytes(path.read_bytes().replace(b"\n", end.encode()))
    check_properties(path)


@pytest.mark.parametrize("data", [None, b"\xff\xfe", b""], ids=["missing", "not-text", "empty"])
def test_a_file_that_is_not_the_release_s_is_refused(tmp_path, data):
    path = tmp_path / "config.properties"
    if data is not None:
        path.write_bytes(data)
    assert str(path) in problems_of(path)[0]
