"""Tokens of an OIDC issuer: which pass, which do not, and where the issuer's public keys come from."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest

from stack.authorities import SERVER, Authority, make_authority
from stack.gateways import (
    DIGITS,
    OTHER,
    WAIT_S,
    Gateway,
    Place,
    Seen,
    assert_refused,
    open_gateway,
    open_place,
    wait_until,
    without,
)
from stack.issuers import AUDIENCE, ISSUER, MAKERS, Issuer, KeyServer

CLIENTS = """
clients:
  demo:
    {models: [digits, faces], requests_per_second: 1000, burst: 1000, subjects: [a1b2, "auth0|5f7c", 'we"ird\\]]--']}
  other: {models: {digits: {verbs: [explain]}}, requests_per_second: 1000, burst: 1000, subjects: [other]}
  keyed: {models: [digits], requests_per_second: 1000, burst: 1000}
"""
SKEW_S = 5


def write_settings(where: str, more: str = "") -> str:
    return f"""
authentication:
  accept: [oidc, key]
  oidc: {{issuer: "{ISSUER}", audience: {AUDIENCE}, clock_skew_s: {SKEW_S}, {where}{more}}}
"""


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer({algorithm: MAKERS[algorithm]() for algorithm in ("ES256", "RS256", "ES384", "EdDSA")})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, issuer: Issuer) -> Iterator[Place]:
    """A gateway's directory with an issuer's keys in a file, more of them than there are accepted algorithms."""
    directory = tmp_path_factory.mktemp("oidc")
    (directory / "issuer.json").write_text(json.dumps(issuer.public()))
    settings = write_settings("jwks_file: issuer.json", ", algorithms: [ES256, RS256]")
    with open_place(directory, settings=settings, clients=CLIENTS) as place:
        yield place


@pytest.fixture(scope="module")
def running(place: Place) -> Iterator[Gateway]:
    with open_gateway(place) as gateway:
        yield gateway


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


# Which tokens pass ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
def test_a_token_of_the_issuer_is_the_client_that_lists_its_subject(
    gateway: Gateway, issuer: Issuer, seen: list[Seen], algorithm: str
) -> None:
    reply = gateway.send("POST", DIGITS, bearer(issuer.sign("auth0|5f7c", alg=algorithm)), b"x")
    assert reply.status == 200
    headers = {name.lower(): value for name, value in seen[0].headers}
    assert headers["x-garrison-client"] == "demo"
    assert "authorization" not in headers and "x-garrison-scopes" not in headers


def test_a_subject_may_have_any_letters(gateway: Gateway, issuer: Issuer, seen: list[Seen]) -> None:
    """They stand in a script, where they must mean nothing."""
    assert gateway.send("POST", DIGITS, bearer(issuer.sign('we"ird\\]]--')), b"x").status == 200
    assert_refused(gateway.send("POST", DIGITS, bearer(issuer.sign('we"ird')), b"x"), 403, seen[1:])


@pytest.mark.parametrize(
    "scope",
    ["openid garrison/digits:predict profile", ["openid", "garrison/digits:predict"]],
    ids=["words", "a list"],
)
def test_our_scopes_are_found_among_others(gateway: Gateway, issuer: Issuer, seen: list[Seen], scope: Any) -> None:
    assert gateway.send("POST", DIGITS, bearer(issuer.sign(scope=scope)), b"x").status == 200
    assert_refused(gateway.send("POST", OTHER, bearer(issuer.sign(scope=scope)), b"x"), 403, seen[1:])


def test_a_clock_that_is_a_little_off_is_forgiven(gateway: Gateway, issuer: Issuer) -> None:
    just_over = datetime.now(UTC) - timedelta(seconds=SKEW_S - 3)
    assert gateway.send("POST", DIGITS, bearer(issuer.sign(exp=just_over)), b"x").status == 200


def test_a_key_token_passes_beside_it(gateway: Gateway, place: Place, issuer: Issuer, seen: list[Seen]) -> None:
    assert gateway.send("POST", DIGITS, {"x-api-key": place.key("keyed")}, b"x").status == 200
    both = {**bearer(issuer.sign()), "x-api-key": place.key("demo")}
    assert gateway.send("POST", DIGITS, both, b"x").status == 200
    assert [dict(s.headers)["x-garrison-client"] for s in seen] == ["keyed", "demo"]


# Which do not ---------------------------------------------------------------------------------------------------------


def unsigned(issuer: Issuer) -> str:
    claims = jwt.decode(issuer.sign(), options={"verify_signature": False})
    return jwt.encode(claims, None, algorithm="none")


BAD_TOKENS: dict[str, Callable[[Issuer], str]] = {
    "garbage": lambda issuer: "x.y.z",
    "a list of subjects": lambda issuer: issuer.sign(subject=["a1b2"]),
    "another issuer": lambda issuer: issuer.sign(iss="https://evil.example"),
    "an issuer that begins alike": lambda issuer: issuer.sign(iss=f"{ISSUER}.evil.example"),
    "no issuer": lambda issuer: issuer.sign(iss=None),
    "expired": lambda issuer: issuer.sign(exp=datetime.now(UTC) - timedelta(seconds=SKEW_S + 2)),
    "not yet valid": lambda issuer: issuer.sign(nbf=datetime.now(UTC) + timedelta(seconds=SKEW_S + 20)),
    "without expiry": lambda issuer: issuer.sign(exp=None),
    "another signer": lambda issuer: Issuer().sign(),
    "an algorithm that is not accepted": lambda issuer: issuer.sign(alg="ES384"),
    "another one": lambda issuer: issuer.sign(alg="EdDSA"),
    "a padding that is not accepted, by a key that is": lambda issuer: issuer.sign(alg="PS256"),
    "algorithm none": unsigned,
}


@pytest.mark.parametrize("make", BAD_TOKENS.values(), ids=BAD_TOKENS)
def test_a_token_that_is_not_valid_is_refused(
    gateway: Gateway, issuer: Issuer, place: Place, seen: list[Seen], make: Callable[[Issuer], str]
) -> None:
    token = make(issuer)
    assert_refused(gateway.send("POST", DIGITS, bearer(token), b"x"), 401, seen)
    beside_a_key = {**bearer(token), "x-api-key": place.key("keyed")}
    assert_refused(gateway.send("POST", DIGITS, beside_a_key, b"x"), 401, seen)


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "another"},
        {"aud": None},
        {"sub": "nobody"},
        {"sub": None},
        {"sub": "A1B2"},
        {"sub": "demo"},
        {"scope": None},
        {"scope": "digits:predict"},
        {"scope": "garrison/digits:predicted"},
        {"scope": "xgarrison/digits:predict"},
        {"scope": "garrison/digits:explain garrison/faces:predict"},
        {"scope": 7},
        {"scope": {"garrison/digits:predict": True}},
    ],
    ids=str,
)
def test_a_valid_token_is_good_for_what_it_says_only(
    gateway: Gateway, issuer: Issuer, seen: list[Seen], claims: dict[str, Any]
) -> None:
    assert_refused(gateway.send("POST", DIGITS, bearer(issuer.sign(**{"subject": "a1b2", **claims})), b"x"), 403, seen)


def test_what_the_client_may_not_no_token_allows(gateway: Gateway, issuer: Issuer, seen: list[Seen]) -> None:
    assert_refused(gateway.send("POST", DIGITS, bearer(issuer.sign("other")), b"x"), 403, seen)


def test_tokens_in_each_others_place_are_refused(
    gateway: Gateway, issuer: Issuer, place: Place, seen: list[Seen]
) -> None:
    assert_refused(gateway.send("POST", DIGITS, {"x-api-key": issuer.sign()}, b"x"), 401, seen)
    assert_refused(gateway.send("POST", DIGITS, bearer(place.key()), b"x"), 401, seen)


def test_tokens_of_two_clients_are_refused(gateway: Gateway, issuer: Issuer, place: Place, seen: list[Seen]) -> None:
    assert_refused(gateway.send("POST", DIGITS, {**bearer(issuer.sign()), "x-api-key": place.key("keyed")}), 403, seen)


@pytest.mark.parametrize("order", [1, -1], ids=["good first", "good last"])
def test_two_tokens_are_refused(gateway: Gateway, issuer: Issuer, seen: list[Seen], order: int) -> None:
    for second in (issuer.sign(), issuer.sign("other"), Issuer().sign()):
        lines = [f"authorization: Bearer {token}" for token in (issuer.sign(), second)][::order]
        assert_refused(gateway.send("POST", DIGITS, lines, b"x"), 401, seen)


@pytest.mark.parametrize(
    "value",
    ["{}", "Basic {}", "bearer {}", "BEARER {}", "Bearer: {}", "Bearer {} {}", "Token {}", "Bearer", "Bearer ."],
)
def test_only_bearer_tokens_are_looked_at(gateway: Gateway, issuer: Issuer, seen: list[Seen], value: str) -> None:
    token = issuer.sign()
    assert_refused(gateway.send("POST", DIGITS, {"authorization": value.format(token, token)}, b"x"), 401, seen)


def test_a_token_in_the_address_is_not_looked_for(gateway: Gateway, issuer: Issuer, seen: list[Seen]) -> None:
    assert_refused(gateway.send("POST", f"{DIGITS}?access_token={issuer.sign()}"), 401, seen)


def test_without_the_list_of_algorithms_another_padding_passes(place: Place, issuer: Issuer) -> None:
    """What `a padding that is not accepted` stands on: Envoy takes any algorithm that a key can be used with."""
    (place.directory / "issuer.json").write_text(json.dumps(issuer.public(named=False)))
    token = issuer.sign(alg="PS256")
    with open_gateway(place) as gateway:
        assert_refused(gateway.send("POST", DIGITS, bearer(token), b"x"), 401, place.inference.seen)
    with open_gateway(place, without("garrison.identity", "rbac")) as weakened:
        assert weakened.send("POST", DIGITS, bearer(token), b"x").status == 200
    (place.directory / "issuer.json").write_text(json.dumps(issuer.public()))


# Keys from a server ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_authority("issuer's")


@pytest.fixture
def published(tmp_path: Path, authority: Authority) -> Iterator[KeyServer]:
    """An issuer whose keys are on an HTTPS server."""
    authority.issue(tmp_path / "server.pem", "localhost", usage=SERVER)
    server = KeyServer(Issuer(), tmp_path / "server.pem")
    yield server
    server.stop()


@pytest.fixture
def remote(tmp_path: Path, authority: Authority, published: KeyServer) -> Iterator[Place]:
    """A gateway's directory for that issuer."""
    (tmp_path / "authority.pem").write_bytes(authority.pem())
    where = f'jwks_url: "https://localhost:{published.server_port}/keys", authority: authority.pem'
    with open_place(tmp_path, settings=write_settings(where), clients=CLIENTS) as place:
        yield place


def fetch_every(seconds: float) -> Callable[[dict[str, Any]], None]:
    """Return what makes a gateway fetch the keys more often than every five minutes."""

    def change(config: dict[str, Any]) -> None:
        (tokens,) = [f for f in http_filters(config) if f["name"] == "envoy.filters.http.jwt_authn"]
        remote = tokens["typed_config"]["providers"]["oidc"]["remote_jwks"]
        remote["cache_duration"] = remote["async_fetch"]["failed_refetch_duration"] = f"{seconds}s"

    return change


def http_filters(config: dict[str, Any]) -> list[dict[str, Any]]:
    manager = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    filters: list[dict[str, Any]] = manager["http_filters"]
    return filters


def test_keys_are_fetched_once_before_the_first_request(remote: Place, published: KeyServer) -> None:
    with open_gateway(remote) as gateway:
        for _ in range(5):
            assert gateway.send("POST", DIGITS, bearer(published.issuer.sign()), b"x").status == 200
        assert_refused(gateway.send("POST", DIGITS, bearer(Issuer().sign()), b"x"), 401, remote.inference.seen[5:])
    assert published.fetches == 1


def test_new_keys_of_the_issuer_replace_its_old_ones(remote: Place, published: KeyServer) -> None:
    """And a token that was good a moment ago is not remembered for longer than its key is published."""
    with open_gateway(remote, fetch_every(1)) as gateway:
        old = published.issuer.sign()
        assert gateway.send("POST", DIGITS, bearer(old), b"x").status == 200
        published.issuer.rotate()
        new = published.issuer.sign()
        wait_for_status(gateway, new, 200)
        assert gateway.send("POST", DIGITS, bearer(old), b"x").status == 401


def wait_for_status(gateway: Gateway, token: str, status: int) -> None:
    for _ in wait_until(WAIT_S):
        if gateway.send("POST", DIGITS, bearer(token), b"x").status == status:
            return
    raise AssertionError(f"never {status}")


def test_without_the_issuers_keys_its_tokens_are_refused_and_others_are_not(
    remote: Place, published: KeyServer
) -> None:
    token = published.issuer.sign()
    published.broken = True
    with open_gateway(remote, fetch_every(1)) as gateway:
        assert_refused(gateway.send("POST", DIGITS, bearer(token), b"x"), 401, remote.inference.seen)
        assert gateway.send("POST", DIGITS, {"x-api-key": remote.key("keyed")}, b"x").status == 200
        published.broken = False
        wait_for_status(gateway, token, 200)


def test_while_the_issuer_is_away_the_keys_that_it_had_count_on(remote: Place, published: KeyServer) -> None:
    with open_gateway(remote, fetch_every(1)) as gateway:
        published.broken, before = True, published.fetches
        for _ in wait_until(WAIT_S):
            if published.fetches >= before + 2:
                break
        assert gateway.send("POST", DIGITS, bearer(published.issuer.sign()), b"x").status == 200
        assert gateway.send("POST", DIGITS, bearer(Issuer().sign()), b"x").status == 401


@pytest.mark.parametrize("fault", ["of another authority", "for another name", "expired"])
def test_a_server_that_is_not_the_issuers_is_not_believed(
    remote: Place, authority: Authority, published: KeyServer, fault: str
) -> None:
    signer = make_authority("another") if fault == "of another authority" else authority
    name = "login.example" if fault == "for another name" else "localhost"
    ends = timedelta(hours=-1) if fault == "expired" else timedelta(days=1)
    path = remote.directory / "impostor.pem"
    signer.issue(path, name, usage=SERVER, ends=ends)
    published.tls.load_cert_chain(path)
    with open_gateway(remote) as gateway:
        assert_refused(gateway.send("POST", DIGITS, bearer(published.issuer.sign()), b"x"), 401, remote.inference.seen)
    assert published.fetches == 0
