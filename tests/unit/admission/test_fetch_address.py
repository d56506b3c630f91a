"""Addresses of models: what is listed and plain enters, everything else is refused and shown without secrets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from garrison.admission.fetch.address import (
    MAX_CHARACTERS,
    MAX_NAME_BYTES,
    Address,
    parse_address,
    parse_redirect,
    show_address,
)
from garrison.admission.settings import FetchSettings
from garrison.errors import ArtifactRefused

SETTINGS = FetchSettings(
    hosts=("models.example.com", "other.example.com:8443", "192.0.2.7", "plain.example.com:443"),
    buckets=("s3://models", "gs://models", "s3://my.models"),
    unsafe_allow_unencrypted=False,
)
NOTHING = FetchSettings((), (), False)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("s3://models/digits.mar", Address("s3", "models", "digits.mar")),
        ("S3://models/digits.mar", Address("s3", "models", "digits.mar")),
        ("s3://my.models/a/b/digits.mar", Address("s3", "my.models", "a/b/digits.mar")),
        ("s3://models/digits.mar#3sL4kqtJlcpXroDTDmJ", Address("s3", "models", "digits.mar", "3sL4kqtJlcpXroDTDmJ")),
        ("s3://models/digits.mar#null", Address("s3", "models", "digits.mar", "null")),
        ("s3://models/digits/", Address("s3", "models", "digits/")),
        ("s3://models/50%41 off.mar", Address("s3", "models", "50%41 off.mar")),
        ("gs://models/digits.mar#1700000000000000", Address("gs", "models", "digits.mar", "1700000000000000")),
        ("gs://models/modèles/été.mar", Address("gs", "models", "modèles/été.mar")),
        ("https://models.example.com/a/digits.mar", Address("https", "models.example.com", "a/digits.mar")),
        ("HTTPS://Models.Example.COM:443/digits.mar", Address("https", "models.example.com", "digits.mar")),
        ("https://plain.example.com/digits.mar", Address("https", "plain.example.com", "digits.mar")),
        ("https://other.example.com:8443/digits.mar", Address("https", "other.example.com:8443", "digits.mar")),
        ("https://192.0.2.7/digits.mar", Address("https", "192.0.2.7", "digits.mar")),
        (
            "https://models.example.com/digits.mar?a=b&c=%2F",
            Address("https", "models.example.com", "digits.mar", query="a=b&c=%2F"),
        ),
        (
            "https://models.example.com/été/50%25%20off.mar",
            Address("https", "models.example.com", "%C3%A9t%C3%A9/50%25%20off.mar"),
        ),
    ],
)
def test_what_is_listed_is_read(text, address):
    assert parse_address(text, SETTINGS) == address


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("s3://models/a/digits.mar", "digits.mar"),
        ("s3://models/a/digits/", "digits"),
        ("s3://models/50%41.mar", "50%41.mar"),
        ("https://models.example.com/a/50%25%20off.mar?x=y.mar", "50% off.mar"),
    ],
)
def test_the_last_part_is_the_name(text, name):
    assert parse_address(text, SETTINGS).name == name


@pytest.mark.parametrize(
    "text",
    [
        "http://models.example.com/digits.mar",
        "HTTP://models.example.com/digits.mar",
        "https://example.com/digits.mar",
        "https://models.example.com.evil.org/digits.mar",
        "https://evilmodels.example.com/digits.mar",
        "https://sub.models.example.com/digits.mar",
        "https://models.example.com:8443/digits.mar",
        "https://other.example.com/digits.mar",
        "https://other.example.com:443/digits.mar",
        "https://user@models.example.com/digits.mar",
        "https://user:secret@models.example.com/digits.mar",
        "https://models.example.com@evil.org/digits.mar",
        "https://192.0.2.8/digits.mar",
        "https://3221225991/digits.mar",
        "https://169.254.169.254/digits.mar",
        "https://localhost/digits.mar",
        "s3://other/digits.mar",
        "s3://models2/digits.mar",
        "gs://my.models/digits.mar",
    ],
)
def test_what_is_not_listed_is_not_allowed(text):
    with pytest.raises(ArtifactRefused) as caught:
        parse_address(text, SETTINGS)
    assert caught.value.reason == "not_allowed"
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["s3://models/a.mar", "gs://models/a.mar", "https://models.example.com/a.mar"])
def test_where_nothing_is_listed_nothing_is_allowed(text):
    with pytest.raises(ArtifactRefused) as caught:
        parse_address(text, NOTHING)
    assert caught.value.reason == "not_allowed"


BAD = {
    "nothing": "",
    "no-scheme": "models/digits.mar",
    "file": "file:///etc/passwd",
    "ftp": "ftp://models.example.com/digits.mar",
    "other-colon": "https:/models.example.com/digits.mar",
    "no-key": "s3://models",
    "empty-key": "s3://models/",
    "empty-path": "https://models.example.com",
    "bad-bucket": "s3://Models/digits.mar",
    "bucket-traversal": "s3://../digits.mar",
    "bucket-with-user": "s3://key:secret@models/digits.mar",
    "parent": "s3://models/a/../digits.mar",
    "parent-first": "gs://models/../digits.mar",
    "parent-last": "s3://models/a/..",
    "parent-directory": "s3://models/a/../",
    "dot": "s3://models/./digits.mar",
    "empty-part": "s3://models/a//digits.mar",
    "absolute": "s3://models//digits.mar",
    "two-slashes-at-the-end": "s3://models/digits//",
    "question-mark": "s3://models/digits.mar?versionId=abc",
    "empty-version": "s3://models/digits.mar#",
    "bad-version": "s3://models/digits.mar#a b",
    "version-of-a-directory": "s3://models/digits/#abc",
    "bad-generation": "gs://models/digits.mar#abc",
    "long-generation": "gs://models/digits.mar#" + "1" * 20,
    "backslash": "s3://models/a\\digits.mar",
    "newline": "s3://models/a\n.mar",
    "null": "s3://models/a\0.mar",
    "right-to-left": "s3://models/a\u202e.mar",
    "no-archive": "s3://models/digits.zip",
    "no-suffix": "https://models.example.com/digits",
    "web-directory": "https://models.example.com/digits/",
    "hidden": "s3://models/.mar",
    "hidden-directory": "s3://models/.digits/",
    "option": "s3://models/-rf.mar",
    "not-composed": "s3://models/e\u0301te\u0301.mar",
    "fragment": "https://models.example.com/digits.mar#part",
    "encoded-parent": "https://models.example.com/%2e%2e/digits.mar",
    "encoded-slash": "https://models.example.com/a%2fdigits.mar",
    "encoded-backslash": "https://models.example.com/a%5cdigits.mar",
    "encoded-null": "https://models.example.com/a%00.mar",
    "encoded-newline": "https://models.example.com/a%0d%0aHost:%20x.mar",
    "not-utf-8": "https://models.example.com/%ff.mar",
    "ipv6": "https://[::1]/digits.mar",
    "broken-ipv6": "https://[::1/digits.mar",
    "bad-port": "https://models.example.com:port/digits.mar",
    "large-port": "https://models.example.com:65536/digits.mar",
    "empty-port": "https://models.example.com:/digits.mar",
    "trailing-dot": "https://models.example.com./digits.mar",
    "unicode-host": "https://models。example.com/digits.mar",
    "too-long": "s3://models/" + "a" * MAX_CHARACTERS + ".mar",
    "long-name": "s3://models/" + "a" * (MAX_NAME_BYTES - 3) + ".mar",
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_what_could_be_read_in_two_ways_is_refused(text):
    with pytest.raises(ArtifactRefused) as caught:
        parse_address(text, SETTINGS)
    assert caught.value.reason == "bad_address"
    assert str(caught.value).isprintable()
    assert "secret" not in str(caught.value)


def test_the_longest_name_is_read():
    name = "a" * (MAX_NAME_BYTES - 4) + ".mar"
    assert parse_address(f"s3://models/{name}", SETTINGS).name == name


@pytest.mark.parametrize("text", ["https://models.example.com/x?sig=a", "https://models.example.com/store/42"])
def test_a_redirect_may_lead_to_any_path(text):
    assert parse_redirect(text, SETTINGS).place == "models.example.com"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("http://models.example.com/x", "not_allowed"),
        ("s3://models/x.mar", "not_allowed"),
        ("//evil.org/x", "not_allowed"),
        ("https://evil.org/x", "not_allowed"),
        ("https://models.example.com/a/../x", "bad_address"),
        ("https://models.example.com/\n", "bad_address"),
    ],
)
def test_a_redirect_leads_nowhere_else(text, reason):
    with pytest.raises(ArtifactRefused) as caught:
        parse_redirect(text, SETTINGS)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://models.example.com/a.mar?X-Amz-Signature=s3cret", "https://models.example.com/a.mar"),
        ("https://user:s3cret@models.example.com/a.mar", "https://...@models.example.com/a.mar"),
        ("https://user:s3/cret@models.example.com/a.mar", "https://...@models.example.com/a.mar"),
        ("user:s3cret@models.example.com/a.mar", "...@models.example.com/a.mar"),
        ("https://models.example.com/a.mar#s3cret", "https://models.example.com/a.mar"),
        ("s3://models/a.mar#version", "s3://models/a.mar#version"),
        ("s3://models/a\x1b[31m.mar", "s3://models/a?[31m.mar"),
    ],
)
def test_secrets_and_control_characters_are_not_shown(text, shown):
    assert show_address(text) == shown


@given(st.text(max_size=60), st.sampled_from(["", "s3://models/", "gs://models/", "https://models.example.com/"]))
def test_any_text_is_read_or_refused(text, start):
    try:
        address = parse_address(start + text, SETTINGS)
    except ArtifactRefused as refusal:
        assert refusal.reason in ("bad_address", "not_allowed")
    else:
        assert address.name and "/" not in address.name and address.name not in (".", "..")
