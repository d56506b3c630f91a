"""Which paths are requests, and what they ask for: the forms of upstream's http_rest_api_util.cc."""

import pytest

from garrison.errors import RequestRefused
from garrison.guard.rest.paths import Asked, read_path
from garrison.guard.serving import Target

WHICH = {
    "": Target("digits"),
    "/versions/3": Target("digits", 3),
    "/versions/0": Target("digits", 0),
    f"/versions/{2**63 - 1}": Target("digits", 2**63 - 1),
    "/labels/stable": Target("digits", None, "stable"),
    "/labels/a%2Fb": Target("digits", None, "a/b"),
}
VERBS = ("predict", "classify", "regress")


@pytest.mark.parametrize("which", WHICH)
@pytest.mark.parametrize("verb", VERBS)
def test_verbs_are_posted(which: str, verb: str) -> None:
    assert read_path("POST", f"/v1/models/digits{which}:{verb}", b"") == Asked(WHICH[which], verb)


@pytest.mark.parametrize("which", WHICH)
@pytest.mark.parametrize(("end", "what"), [("", "status"), ("/metadata", "metadata")])
def test_what_is_known_is_got(which: str, end: str, what: str) -> None:
    assert read_path("GET", f"/v1/models/digits{which}{end}", b"") == Asked(WHICH[which], what)


@pytest.mark.parametrize(
    ("method", "path", "reason"),
    [
        ("GET", "/v1/models/digits:predict", "bad_path"),
        ("POST", "/v1/models/digits", "bad_path"),
        ("POST", "/v1/models/digits/metadata", "bad_path"),
        ("PUT", "/v1/models/digits:predict", "bad_path"),
        ("DELETE", "/v1/models/digits", "bad_path"),
        ("POST", "/v1/models/digits:explain", "bad_path"),
        ("POST", "/v1/models/digits:predict/", "bad_path"),
        ("POST", "/v1/models/digits:predict:predict", "bad_path"),
        ("POST", "/v1/models/:predict", "bad_path"),
        ("POST", "/v1/models/a/b:predict", "bad_path"),
        ("POST", "/v1/models/digits/versions/:predict", "bad_path"),
        ("POST", "/v1/models/digits/versions/-1:predict", "bad_path"),
        ("POST", "/v1/models/digits/versions/x:predict", "bad_path"),
        ("POST", f"/v1/models/digits/versions/{2**63}:predict", "bad_path"),
        ("POST", f"/v1/models/digits/versions/{10**25}:predict", "bad_path"),
        ("POST", "/v1/models/digits/versions/\u0663:predict", "bad_path"),
        ("POST", "/v1/models/digits/versions/3/labels/stable:predict", "bad_path"),
        ("POST", "/v1/models/digits/labels/:predict", "bad_path"),
        ("POST", "/v1/models/%ff:predict", "bad_path"),
        ("GET", "/v1/models", "bad_path"),
        ("GET", "/v1/", "bad_path"),
        ("GET", "/", "not_found"),
        ("GET", "/metrics", "not_found"),
        ("GET", "/monitoring/prometheus/metrics", "not_found"),
        ("POST", "/V1/models/digits:predict", "not_found"),
    ],
)
def test_everything_else_is_refused(method: str, path: str, reason: str) -> None:
    with pytest.raises(RequestRefused) as refusal:
        read_path(method, path, b"")
    assert refusal.value.reason == reason


def test_a_query_is_refused() -> None:
    with pytest.raises(RequestRefused) as refusal:
        read_path("GET", "/v1/models/digits", b"x=1")
    assert refusal.value.reason == "bad_path"
