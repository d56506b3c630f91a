"""Settings files: what YAML allows and nobody means is refused; every problem is reported at once."""

import os
from pathlib import Path

import pytest

from garrison.errors import ConfigError
from garrison.settings import MAX_FILE_BYTES, Settings, load_settings, parse_settings


def read(text: str | bytes) -> Settings:
    return parse_settings(text.encode() if isinstance(text, str) else text, "file.yaml")


def problems_of(settings: Settings) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        settings.finish()
    return caught.value.problems


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("a: 1\nb: *x\n", "line 2: aliases", id="alias"),
        pytest.param("a: 1\nb: &x 2\n", "line 2: anchors", id="anchor"),
        pytest.param("a: &a [*a]\n", "anchors", id="alias-of-itself"),
        pytest.param("a: 1\na: 2\n", "'a' stands twice", id="duplicate-key"),
        pytest.param('a: 1\n"a": 2\n', "'a' stands twice", id="duplicate-key-in-quotes"),
        pytest.param("a: {b: 1, b: 2}\n", "'b' stands twice", id="duplicate-nested-key"),
        pytest.param("<<: {a: 1}\na: 2\n", "merges", id="merge-key"),
        pytest.param("<<: [{a: 1}, {a: 2}]\n", "merges", id="merge-list"),
        pytest.param("a: 1\n---\nb: 2\n", "another document", id="two-documents"),
        pytest.param("a: !!python/object/apply:os.system ['true']\n", "tags", id="python-object"),
        pytest.param("a: !!python/name:os.system\n", "tags", id="python-name"),
        pytest.param("a: !!binary aGVsbG8=\n", "tags", id="binary"),
        pytest.param("!!binary aGVsbG8=: 1\n", "tags", id="binary-key"),
        pytest.param("a: !!bool maybe\n", "tags", id="bool-tag-on-a-word"),
        pytest.param("a: !!int ''\n", "tags", id="int-tag-on-nothing"),
        pytest.param("a: !!timestamp soon\n", "tags", id="timestamp-tag-on-a-word"),
        pytest.param("a: !!set {b, c}\n", "tags", id="set"),
        pytest.param("a: ! b\n", "tags", id="bare-tag"),
        pytest.param("? [a, b]\n: 1\n", "plain word", id="list-as-key"),
        pytest.param("? {a: b}\n: 1\n", "plain word", id="mapping-as-key"),
        pytest.param("a: 2024-13-45\n", "month", id="impossible-date"),
        pytest.param("a: 2001-01-01T00:00:00+99:99\n", "offset", id="impossible-time-zone"),
        pytest.param("a: \0\n", "not YAML", id="nul"),
        pytest.param(b"a: \xff\xfe\n", "not UTF-8 at byte 3", id="not-utf-8"),
        pytest.param("a: [\n", "line 2", id="open-bracket"),
        pytest.param("[" * 20_000, "nested too deeply", id="deep-lists"),
        pytest.param("{a: " * 9_000, "nested too deeply", id="deep-mappings"),
        pytest.param("", "must be a YAML mapping", id="empty"),
        pytest.param("- a\n", "must be a YAML mapping", id="list"),
        pytest.param("just text", "must be a YAML mapping", id="text"),
        pytest.param("null", "must be a YAML mapping", id="null"),
    ],
)
def test_what_is_not_one_plain_mapping_is_refused(text, message):
    with pytest.raises(ConfigError, match=r"^file\.yaml") as caught:
        read(text)
    assert message in str(caught.value)


def test_a_file_at_the_size_limit_is_read():
    assert "a" in read("a: 1\n" + "#" * (MAX_FILE_BYTES - 5))


def test_a_file_one_byte_over_the_size_limit_is_refused():
    with pytest.raises(ConfigError, match="larger than"):
        read("a: 1\n" + "#" * (MAX_FILE_BYTES - 4))


def test_no_more_than_the_limit_is_read_from_disk(tmp_path):
    (tmp_path / "large.yaml").write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    with pytest.raises(ConfigError, match="larger than"):
        load_settings(tmp_path / "large.yaml")


def test_what_is_no_plain_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "fifo.yaml")
    for path in (Path("/dev/zero"), tmp_path / "fifo.yaml"):
        with pytest.raises(ConfigError, match="not a plain file"):
            load_settings(path)


@pytest.mark.parametrize("text", ["010", "1:00", "0x1F", "0b1", "020000", "1_000:30"])
def test_numbers_mean_what_a_person_reads(text):
    settings = read(f"n: {text}")
    settings.integer("n", 0, 100_000)
    assert "is not a whole number" in problems_of(settings)[0]


def test_plain_numbers_are_numbers():
    settings = read("a: 25_000_000\nb: -0.5\nc: 1.5e-3\nd: 0\ne: .5")
    assert settings.integer("a", 0, 10**9) == 25_000_000
    assert [settings.number(key, -1, 1) for key in "bcde"] == [-0.5, 0.0015, 0.0, 0.5]
    settings.finish()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"missing\.yaml: cannot be read \(No such file"):
        load_settings(tmp_path / "missing.yaml")


def test_a_directory_is_not_a_file(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings(tmp_path)


def test_a_byte_order_mark_is_no_part_of_the_first_key():
    assert "a" in read(b"\xef\xbb\xbfa: 1\n")


@pytest.mark.parametrize("value", [1, 9], ids=["low", "high"])
def test_an_integer_at_its_limits_is_taken(value):
    settings = read(f"n: {value}")
    assert settings.integer("n", 1, 9) == value
    settings.finish()


HUGE = "0x" + "f" * 9_000


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("0", id="below"),
        pytest.param("10", id="above"),
        pytest.param("-1", id="negative"),
        pytest.param("true", id="boolean"),
        pytest.param("1.0", id="float"),
        pytest.param("'1'", id="text"),
        pytest.param("null", id="null"),
        pytest.param("2024-01-01", id="date"),
        pytest.param(".nan", id="nan"),
        pytest.param(".inf", id="infinity"),
        pytest.param("[1]", id="list"),
        pytest.param(HUGE, id="number-too-long-to-print"),
        pytest.param("1" + ":59" * 9_000, id="sexagesimal-number-too-long-to-print"),
    ],
)
def test_what_is_not_an_integer_in_range_is_refused(text):
    settings = read(f"n: {text}")
    assert settings.integer("n", 1, 9) == 1
    (problem,) = problems_of(settings)
    assert problem.startswith("file.yaml: n: ")
    assert problem.endswith("is not a whole number from 1 to 9")
    assert len(problem) < 200


@pytest.mark.parametrize(("text", "value"), [("0", 0.0), ("1", 1.0), ("0.5", 0.5)], ids=["low", "high", "between"])
def test_a_number_at_its_limits_is_taken(text, value):
    settings = read(f"n: {text}")
    assert settings.number("n", 0, 1) == value
    settings.finish()


@pytest.mark.parametrize(
    "text", ["-0.001", "1.001", "true", ".nan", ".inf", "-.inf", "'0.5'", "1.0e+400", HUGE], ids=lambda text: text[:12]
)
def test_what_is_not_a_number_in_range_is_refused(text):
    settings = read(f"n: {text}")
    settings.number("n", 0, 1)
    assert "is not a number from 0 to 1" in problems_of(settings)[0]


@pytest.mark.parametrize(
    "text",
    ["[]", "[1, 1, 1, 1, 1]", "[true]", "['1']", "1", "[.nan]", "[2]", "{a: 1}", f"[{HUGE}]", "[[1]]"],
    ids=lambda text: text[:12],
)
def test_what_is_not_a_short_list_of_numbers_is_refused(text):
    settings = read(f"n: {text}")
    settings.numbers("n", 0, 1)
    assert "is not a list of one to four numbers" in problems_of(settings)[0]


@pytest.mark.parametrize("text", ["[1]", "[1, 2, 3]", "[1, true]", "[1, 2.0]", "[0, 1]", "[1, 10]", "12", "null"])
def test_what_is_not_a_list_of_two_integers_is_refused(text):
    settings = read(f"n: {text}")
    settings.integers("n", 2, 1, 9)
    assert "is not a list of 2 whole numbers from 1 to 9" in problems_of(settings)[0]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("1B", 1),
        ("1kB", 1000),
        ("1KiB", 1024),
        ("2MB", 2_000_000),
        ("4MiB", 4 * 2**20),
        ("1GiB", 2**30),
        ("3 MiB", 3 * 2**20),
        ("1_000", 1000),
    ],
)
def test_a_size_has_a_unit_or_is_in_bytes(text, size):
    settings = read(f"n: {text}")
    assert settings.size("n", 2**30) == size
    settings.finish()


@pytest.mark.parametrize(
    "text",
    [
        *("0", "0MiB", "-1", "-1MiB", "1.5MiB", "4mib", "4 M", "4iB", "MiB", "true", ".inf", "null", "[1]"),
        *("1073741825", "2GiB", "'٤MiB'", '"4MiB\\n"', HUGE),
    ],
    ids=lambda text: text[:12],
)
def test_what_is_not_a_size_in_range_is_refused(text):
    settings = read(f"n: {text}")
    settings.size("n", 2**30)
    assert "is not a size from 1 byte to 1073741824 bytes" in problems_of(settings)[0]


@pytest.mark.parametrize(
    "text", ["A", '"a\\n"', "''", "' a'", '"a\\0"'], ids=["case", "newline", "empty", "blank", "nul"]
)
def test_text_has_to_match_as_a_whole(text):
    settings = read(f"n: {text}")
    settings.text("n", "[a-z]+", "lower case letters")
    assert problems_of(settings)[0].endswith("is not lower case letters")


@pytest.mark.parametrize("text", ["3", "1.10", "true", "no", "null", "2024-01-01", "[a]"], ids=lambda text: text[:12])
def test_what_yaml_does_not_read_as_text_is_sent_back_for_quotes(text):
    settings = read(f"n: {text}")
    settings.text("n", ".*", "a version")
    assert "in quotes" in problems_of(settings)[0]


@pytest.mark.parametrize("text", ["c", "1", "true", "[a]", "{a: b}", "null"])
def test_what_is_not_one_of_the_options_is_refused(text):
    settings = read(f"n: {text}")
    settings.choice("n", ("a", "b"))
    assert "is not one of a, b" in problems_of(settings)[0]


@pytest.mark.parametrize("text", ["[]", "a", "[a, a]", "[a, c]", "[1]", "[[a]]", "[{a: b}]", "null"])
def test_what_is_not_a_list_of_different_options_is_refused(text):
    settings = read(f"n: {text}")
    settings.choices("n", ("a", "b"))
    assert "is not a list of different words out of a, b" in problems_of(settings)[0]


@pytest.mark.parametrize("text", ["[]", "a", "[a, a]", "[A]", "[1]", "[[a]]", "{a: 1}", "null"])
def test_what_is_not_a_list_of_different_texts_is_refused(text):
    settings = read(f"n: {text}")
    settings.texts("n", "[a-z]", "a letter")
    assert "is not a list of different values, each a letter" in problems_of(settings)[0]


def test_every_problem_is_reported_at_once_with_file_and_key():
    settings = read("a: 0\nc: {d: x}\nz: 1\n")
    settings.integer("a", 1, 9)
    settings.integer("b", 1, 9)
    settings.section("c").integer("d", 1, 9)
    assert problems_of(settings) == (
        "file.yaml: a: 0 is not a whole number from 1 to 9",
        "file.yaml: b: missing; write a whole number from 1 to 9",
        "file.yaml: c.d: 'x' is not a whole number from 1 to 9",
        "file.yaml: z: unknown key; take it out, or write one of: a, b, c",
    )


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        pytest.param("1", "1", id="number"),
        pytest.param("null", "None", id="null"),
        pytest.param("2024-01-01", "datetime.date(2024, 1, 1)", id="date"),
        pytest.param('"\\e[31mred"', r"'\x1b[31mred'", id="terminal-escape"),
        pytest.param('"a\\nb"', r"'a\nb'", id="newline"),
        pytest.param('"' + "a" * 100 + '"', "'" + "a" * 56 + "...", id="long"),
    ],
)
def test_an_unknown_key_of_any_kind_is_shown_safely(key, shown):
    (problem,) = problems_of(read(f"{key}: 1\n"))
    assert problem.startswith(f"file.yaml: {shown}: unknown key")


def test_a_missing_section_is_one_problem_and_not_one_per_key():
    settings = read("a: 1\n")
    settings.integer("a", 1, 1)
    settings.section("b").integer("c", 1, 9)
    assert problems_of(settings) == ("file.yaml: b: missing; write a mapping",)


def test_an_optional_section_may_be_missing():
    settings = read("a: 1\n")
    settings.integer("a", 1, 1)
    assert settings.section("b", required=False).integer("c", 1, 9, default=5) == 5
    settings.finish()


@pytest.mark.parametrize("key", ["A", "1", "null", "a.b"])
def test_a_mapping_of_names_refuses_other_keys(key):
    settings = read(f"m: {{{key}: {{}}}}\n")
    assert list(settings.section("m").sections("[a-z]", "a letter")) == []
    assert "is not a letter" in problems_of(settings)[0]


def test_values_are_sound_until_something_is_wrong_with_them_or_below_them():
    settings = read("a: 0\nb: {c: 0}\nd: 1\n")
    settings.integer("a", 1, 9)
    settings.section("b").integer("c", 1, 9)
    settings.integer("d", 1, 9)
    assert settings.sound("d")
    assert not settings.sound("d", "a")
    assert not settings.sound("b")
