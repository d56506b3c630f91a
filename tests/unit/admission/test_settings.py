"""What an operator admits: every key of config/admission.yaml, its bounds, and what is said when it is wrong."""

import copy

import pytest
import yaml

from garrison.admission.settings import MAX_BYTES, AdmissionSettings, FetchSettings, Limits, load_admission
from garrison.errors import ConfigError
from garrison.settings import parse_settings

LIMITS = {
    "max_files": 200,
    "max_bytes": "20GiB",
    "max_ratio": 200,
    "max_workers": 16,
    "max_queue": 1000,
    "max_timeout_s": 300,
}
FETCH = {
    "hosts": ["models.example.com", "10.1.2.3:8443"],
    "buckets": ["s3://models", "gs://other.models"],
    "unsafe_allow_unencrypted": True,
}
NOWHERE = FetchSettings(hosts=(), buckets=(), unsafe_allow_unencrypted=False)


@pytest.fixture
def load(tmp_path):
    """Load settings with changes: `limits__max_files=3` changes a key, `...` takes it out."""

    def call(**changes):
        values = {"limits": copy.deepcopy(LIMITS)}
        for name, value in changes.items():
            *path, key = name.split("__")
            section = values
            for part in path:
                section = section.setdefault(part, {})
            if value is ...:
                del section[key]
            else:
                section[key] = value
        path = tmp_path / "admission.yaml"
        path.write_text(yaml.safe_dump(values))
        return load_admission(path)

    return call


def problems_of(load, **changes):
    with pytest.raises(ConfigError) as caught:
        load(**changes)
    return [problem.split("admission.yaml: ", 1)[1] for problem in caught.value.problems]


def test_the_shipped_file_is_read(repository):
    settings = load_admission(repository / "config" / "admission.yaml")
    assert settings.limits == Limits(200, 20 * 2**30, 200, 16, 1000, 300)
    assert (settings.handler_imports, settings.fetch) == ((), NOWHERE)


def test_every_key_is_read(load):
    settings = load(handlers={"imports": ["scipy.special", "sklearn"]}, fetch=FETCH)
    assert settings == AdmissionSettings(
        limits=Limits(200, 20 * 2**30, 200, 16, 1000, 300),
        handler_imports=("scipy.special", "sklearn"),
        fetch=FetchSettings(tuple(FETCH["hosts"]), tuple(FETCH["buckets"]), unsafe_allow_unencrypted=True),
    )


@pytest.mark.parametrize("changes", [{}, {"handlers": {}, "fetch": {}}], ids=["no-sections", "empty-sections"])
def test_nothing_more_is_allowed_than_is_written(load, changes):
    settings = load(**changes)
    assert (settings.handler_imports, settings.fetch) == ((), NOWHERE)


def test_one_key_of_a_section_leaves_the_others_as_they_are(load):
    assert load(fetch__hosts=["a.example.com"]).fetch == FetchSettings(("a.example.com",), (), False)


BOUNDS = {
    "max_files": (1, 100_000),
    "max_bytes": (1, MAX_BYTES),
    "max_ratio": (2, 10_000),
    "max_workers": (1, 256),
    "max_queue": (1, 100_000),
    "max_timeout_s": (1, 3600),
}


@pytest.mark.parametrize("end", [0, 1], ids=["lowest", "highest"])
@pytest.mark.parametrize("key", BOUNDS)
def test_a_limit_may_be_at_its_bound(load, key, end):
    bound = BOUNDS[key][end]
    assert getattr(load(**{f"limits__{key}": bound}).limits, key) == bound


@pytest.mark.parametrize("key", BOUNDS)
@pytest.mark.parametrize("beyond", ["below", "above", "zero", "negative"])
def test_a_limit_beyond_its_bound_is_refused(load, key, beyond):
    low, high = BOUNDS[key]
    value = {"below": low - 1, "above": high + 1, "zero": 0, "negative": -1}[beyond]
    (problem,) = problems_of(load, **{f"limits__{key}": value})
    assert problem.startswith(f"limits.{key}: {value}")


@pytest.mark.parametrize("value", ["many", "", None, True, 1.5, [1], {}], ids=repr)
@pytest.mark.parametrize("key", BOUNDS)
def test_a_limit_that_is_no_number_is_refused(load, key, value):
    (problem,) = problems_of(load, **{f"limits__{key}": value})
    assert problem.startswith(f"limits.{key}: ")


@pytest.mark.parametrize("key", BOUNDS)
def test_a_limit_that_is_missing_is_named(load, key):
    (problem,) = problems_of(load, **{f"limits__{key}": ...})
    assert problem.startswith(f"limits.{key}: missing; write ")


def test_without_limits_one_thing_is_said(load):
    (problem,) = problems_of(load, limits=...)
    assert problem.startswith("limits: missing; write max_files, max_bytes")


@pytest.mark.parametrize(
    "imports",
    [["os.path"], ["_private"], ["a." * 9 + "b"], ["scipy.special", "scipy.stats"]],
    ids=["dotted", "underscore", "ten-parts", "several"],
)
def test_names_of_modules_are_read(load, imports):
    assert load(handlers__imports=imports).handler_imports == tuple(imports)


@pytest.mark.parametrize(
    "imports",
    [
        ["*"],
        ["scipy."],
        [".scipy"],
        ["1a"],
        ["a b"],
        ["a." * 10 + "b"],
        ["scipy\n"],
        ["a", "a"],
        [],
        "scipy",
        [1],
        None,
    ],
    ids=repr,
)
def test_what_is_no_list_of_modules_is_refused(load, imports):
    (problem,) = problems_of(load, handlers__imports=imports)
    assert problem.startswith("handlers.imports: ")


@pytest.mark.parametrize("host", ["a", "models.example.com", "models.example.com:443", "192.0.2.7:8443", "a-b.c-d"])
def test_hosts_are_read(load, host):
    assert load(fetch__hosts=[host]).fetch.hosts == (host,)


@pytest.mark.parametrize(
    "host",
    [
        "*",
        "*.example.com",
        "https://example.com",
        "example.com/",
        "example.com/path",
        "Example.com",
        "example.com.",
        "-example.com",
        "user@example.com",
        "example.com:",
        "example.com:port",
        "example.com:123456",
        "[::1]",
        "éxample.com",
        "example.com\n",
        "",
    ],
)
def test_what_is_no_host_is_refused(load, host):
    (problem,) = problems_of(load, fetch__hosts=[host])
    assert "is not a list of different values, each a host name such as models.example.com" in problem


@pytest.mark.parametrize(
    "bucket", ["s3://abc", "gs://abc", "s3://my.models-1", "gs://under_score", "s3://" + "a" * 222]
)
def test_buckets_are_read(load, bucket):
    assert load(fetch__buckets=[bucket]).fetch.buckets == (bucket,)


@pytest.mark.parametrize(
    "bucket",
    [
        "models",
        "s3://",
        "s3://ab",
        "s3://Models",
        "s3://models/",
        "s3://models/prefix",
        "s3://*",
        "s3://-models",
        "s3://models-",
        "S3://models",
        "https://models",
        "s3://" + "a" * 223,
        "arn:aws:s3:::models",
        "s3://models\n",
    ],
)
def test_what_is_no_bucket_is_refused(load, bucket):
    (problem,) = problems_of(load, fetch__buckets=[bucket])
    assert "each a bucket such as s3://models or gs://models" in problem


@pytest.mark.parametrize("value", ["yes please", 1, 0, None, []], ids=repr)
def test_what_is_neither_true_nor_false_is_refused(load, value):
    (problem,) = problems_of(load, fetch__unsafe_allow_unencrypted=value)
    assert problem.startswith("fetch.unsafe_allow_unencrypted: ") and "is not true or false" in problem


@pytest.mark.parametrize("section", ["limits", "handlers", "fetch"])
@pytest.mark.parametrize("value", [[], "text", 1], ids=repr)
def test_a_section_that_is_no_mapping_is_refused(load, section, value):
    assert any(problem.startswith(f"{section}: ") for problem in problems_of(load, **{section: value}))


@pytest.mark.parametrize(
    "key", ["limit", "limits__max_file", "handlers__import", "fetch__host", "fetch__allow_unencrypted"]
)
def test_an_unknown_key_is_refused(load, key):
    (problem,) = problems_of(load, **{key: 1})
    assert problem.startswith(f"{key.replace('__', '.')}: unknown key; take it out, or write one of: ")


def test_all_problems_are_told_at_once(load):
    problems = problems_of(load, limits__max_files=0, limits__max_queue=..., fetch__hosts=["*"], more=1)
    assert len(problems) == 4


@pytest.mark.parametrize("text", ["", "[]", "limits", "limits: {", "a: 1\na: 2"], ids=repr)
def test_what_is_no_settings_file_is_refused(tmp_path, text):
    path = tmp_path / "admission.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"admission\.yaml"):
        load_admission(path)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_admission(tmp_path / "admission.yaml")


# Settings.texts -------------------------------------------------------------------------------------------------------


def texts_of(text, **named):
    settings = parse_settings(text.encode(), "file.yaml")
    found = settings.texts("words", "[a-z]+", "a small word", **named)
    settings.finish()
    return found


def test_texts_that_are_written_are_read():
    assert texts_of("words: [a, b]", default=()) == ("a", "b")


@pytest.mark.parametrize("default", [(), ("a",), ["a", "b"]], ids=repr)
def test_texts_that_are_missing_are_the_default(default):
    assert texts_of("{}", default=default) == tuple(default)


@pytest.mark.parametrize("text", ["words: []", "words:", "words: a", "words: [a, a]", "words: [A]", "words: [1]"])
def test_a_default_is_not_for_what_is_written_wrong(text):
    with pytest.raises(
        ConfigError, match=r"file\.yaml: words: .* is not a list of different values, each a small word"
    ):
        texts_of(text, default=())


def test_texts_without_a_default_must_be_written():
    with pytest.raises(ConfigError, match=r"file\.yaml: words: missing; write a list of a small word"):
        texts_of("{}")
