"""Ways in, one for each model: what has to be presented together, by whom, and with which scopes."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stack.authorities import make_authority
from stack.gateways import (
    Gateway,
    Place,
    Seen,
    assert_refused,
    http_manager,
    open_gateway,
    open_place,
    with_script_broken,
    without,
)
from stack.issuers import AUDIENCE, ISSUER, Issuer

MODELS = ("plain", "guarded", "either", "triple")
SETTINGS = f"""
authentication:
  accept: [key]
  models: {{guarded: [mtls+key], either: [oidc, mtls+key], triple: [oidc+mtls+key]}}
  oidc: {{issuer: "{ISSUER}", audience: {AUDIENCE}, jwks_file: issuer.json}}
  mtls: {{authority: clients.pem}}
"""
CLIENTS = """
clients:
  demo:
    {models: [plain, guarded, either, triple], requests_per_second: 1000, burst: 1000,
     subjects: [demo-sub], certificates: [demo.example]}
  other:
    {models: [plain, guarded, either, triple], requests_per_second: 1000, burst: 1000,
     subjects: [other-sub], certificates: [other.example]}
  reader:
    {models: {plain: {verbs: [describe]}, either: {verbs: [predict]}}, requests_per_second: 1000, burst: 1000,
     certificates: [reader.example]}
"""
ALL = " ".join(f"garrison/{model}:predict" for model in MODELS)


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, issuer: Issuer) -> Iterator[Place]:
    """A gateway's directory, an issuer's keys and certificates of all clients in it."""
    directory = tmp_path_factory.mktemp("ways")
    authority = make_authority("clients")
    (directory / "clients.pem").write_bytes(authority.pem())
    (directory / "issuer.json").write_text(json.dumps(issuer.public()))
    for client in ("demo", "other", "reader"):
        authority.issue(directory / f"{client}.pem", f"{client}.example")
    with open_place(directory, settings=SETTINGS, clients=CLIENTS, models=MODELS) as place:
        yield place


@pytest.fixture(scope="module")
def running(place: Place) -> Iterator[Gateway]:
    with open_gateway(place) as gateway:
        yield gateway


@pytest.fixture
def ask(gateway: Gateway, place: Place, issuer: Issuer) -> Callable[..., Any]:
    """Ask for a model with a client's key, token and certificate, or any of them."""

    def send(model: str, key: str = "", oidc: str = "", mtls: str = "") -> Any:
        headers = {"x-api-key": place.key(key, MODELS)} if key else {}
        if oidc:
            headers["authorization"] = f"Bearer {issuer.sign(f'{oidc}-sub', ALL)}"
        certificate = place.directory / f"{mtls}.pem" if mtls else None
        return gateway.send("POST", f"/predictions/{model}", headers, b"x", certificate)

    return send


@pytest.mark.parametrize(
    ("model", "presented"),
    [
        ("plain", {"key": "demo"}),
        ("plain", {"key": "demo", "oidc": "demo", "mtls": "demo"}),
        ("guarded", {"key": "demo", "mtls": "demo"}),
        ("either", {"oidc": "demo"}),
        ("either", {"key": "demo", "mtls": "demo"}),
        ("triple", {"key": "demo", "oidc": "demo", "mtls": "demo"}),
    ],
    ids=str,
)
def test_each_accepted_way_leads_in(ask: Callable[..., Any], seen: list[Seen], model: str, presented: Any) -> None:
    assert ask(model, **presented).status == 200
    assert dict(seen[0].headers)["x-garrison-client"] == "demo"


@pytest.mark.parametrize(
    ("model", "presented"),
    [
        ("plain", {}),
        ("plain", {"oidc": "demo"}),
        ("plain", {"mtls": "demo"}),
        ("guarded", {"key": "demo"}),
        ("guarded", {"mtls": "demo"}),
        ("guarded", {"oidc": "demo", "mtls": "demo"}),
        ("either", {"key": "demo"}),
        ("either", {"mtls": "demo"}),
        ("triple", {"key": "demo", "mtls": "demo"}),
        ("triple", {"key": "demo", "oidc": "demo"}),
        ("nosuch", {}),
        ("nosuch", {"mtls": "demo"}),
    ],
    ids=str,
)
def test_half_a_way_and_another_models_way_do_not(
    ask: Callable[..., Any], seen: list[Seen], model: str, presented: Any
) -> None:
    assert_refused(ask(model, **presented), 401, seen)


@pytest.mark.parametrize(
    ("model", "presented"),
    [
        ("guarded", {"key": "demo", "mtls": "other"}),
        ("triple", {"key": "demo", "oidc": "demo", "mtls": "other"}),
        ("triple", {"key": "demo", "oidc": "other", "mtls": "demo"}),
        ("triple", {"key": "other", "oidc": "demo", "mtls": "demo"}),
        ("plain", {"key": "demo", "oidc": "other"}),
        ("either", {"oidc": "demo", "mtls": "other"}),
        ("guarded", {"key": "nobody", "mtls": "demo"}),
        ("guarded", {"key": "reader", "mtls": "reader"}),
        ("triple", {"key": "demo", "oidc": "nobody", "mtls": "demo"}),
    ],
    ids=str,
)
def test_halves_of_different_clients_do_not_make_a_whole(
    ask: Callable[..., Any], seen: list[Seen], model: str, presented: Any
) -> None:
    assert_refused(ask(model, **presented), 403, seen)


def test_with_several_ways_one_has_to_allow_it_all(gateway: Gateway, place: Place, issuer: Issuer) -> None:
    """A token without the scope is no way in; the certificate and the key beside it are."""
    token = {"authorization": f"Bearer {issuer.sign('demo-sub', 'garrison/plain:predict')}"}
    certificate = place.directory / "demo.pem"
    assert gateway.send("POST", "/predictions/either", token, b"x").status == 403
    both = {**token, "x-api-key": place.key("demo", ("either",))}
    assert gateway.send("POST", "/predictions/either", both, b"x", certificate).status == 200
    narrow = {**token, "x-api-key": place.key("demo", ("plain",))}
    assert gateway.send("POST", "/predictions/either", narrow, b"x", certificate).status == 403


def test_the_log_names_the_way_and_the_client(place: Place, issuer: Issuer) -> None:
    issued = place.issue("demo", ["guarded:predict"])
    with open_gateway(place) as gateway:
        certificate = place.directory / "demo.pem"
        token = {"authorization": f"Bearer {issuer.sign('demo-sub', ALL)}"}
        gateway.send("POST", "/predictions/guarded", {"x-api-key": issued.token}, b"x", certificate)
        gateway.send("POST", "/predictions/either", token, b"x")
        gateway.send("POST", "/predictions/triple", {"x-api-key": issued.token}, b"x", certificate)
        lines = gateway.access_log(3)
    assert [(n["client"], n["way"], n["key_id"], n["status"]) for n in lines] == [
        ("demo", "key+mtls", issued.record.key_id, 200),
        ("demo", "oidc", "t1", 200),
        ("demo", "", issued.record.key_id, 401),
    ]


# The guard's routes ---------------------------------------------------------------------------------------------------


def add_guard_route(verb: str) -> Callable[[dict[str, Any]], None]:
    """Return what adds a route whose model stands in the message."""

    def change(config: dict[str, Any]) -> None:
        (host,) = http_manager(config)["route_config"]["virtual_hosts"]
        route = dict(host["routes"][0])
        need = {"needs": "scopes", "kind": "guard", "model": "", "verb": verb}
        route |= {
            "name": "guard",
            "match": {"path": "/predictions/"},
            "metadata": {"filter_metadata": {"envoy.filters.http.lua": need}},
        }
        host["routes"].insert(0, route)

    return change


@pytest.mark.parametrize(
    ("verb", "presented", "scopes"),
    [
        ("predict", {"key": "demo"}, "plain:predict"),
        ("", {"key": "demo"}, "plain:describe plain:explain plain:predict"),
        ("predict", {"key": "demo", "mtls": "demo"}, "either:predict guarded:predict plain:predict"),
        ("predict", {"oidc": "demo"}, "either:predict"),
        ("predict", {"key": "reader", "mtls": "reader"}, "either:predict"),
    ],
    ids=str,
)
def test_the_guard_hears_what_the_caller_may_by_what_it_has_presented(
    place: Place, issuer: Issuer, verb: str, presented: dict[str, str], scopes: str
) -> None:
    headers = {"x-garrison-scopes": "guarded:predict"}
    if "key" in presented:
        headers["x-api-key"] = place.key(presented["key"], MODELS)
    if "oidc" in presented:
        headers["authorization"] = f"Bearer {issuer.sign('demo-sub', ALL)}"
    certificate = place.directory / f"{presented['mtls']}.pem" if "mtls" in presented else None
    with open_gateway(place, add_guard_route(verb)) as gateway:
        assert gateway.send("POST", "/predictions/", headers, b"x", certificate).status == 200
        ours = [(name, value) for name, value in place.inference.seen[0].headers if name.startswith("x-garrison")]
    client = presented.get("key") or presented.get("oidc")
    assert sorted(ours) == [("x-garrison-client", client), ("x-garrison-scopes", scopes)]


@pytest.mark.parametrize(
    ("client", "status"), [("", 401), ("nobody", 403), ("reader", 403)], ids=["nobody", "not listed", "no such scope"]
)
def test_without_any_scope_the_guard_hears_nothing(place: Place, client: str, status: int) -> None:
    headers = {"x-api-key": place.key(client, ("plain",))} if client else {}
    with open_gateway(place, add_guard_route("predict")) as gateway:
        assert_refused(gateway.send("POST", "/predictions/", headers, b"x"), status, place.inference.seen)


# When the script fails ------------------------------------------------------------------------------------------------


def test_a_script_that_fails_refuses(place: Place) -> None:
    broken = with_script_broken("garrison.identity", "local function find_client(caller)", "local function x(caller)")
    with open_gateway(place, broken) as gateway:
        reply = gateway.send("POST", "/predictions/plain", {"x-api-key": place.key("demo", MODELS)}, b"x")
        assert_refused(reply, 500, place.inference.seen)


def test_a_script_that_fails_where_it_would_catch_it_is_backed_up(place: Place) -> None:
    """Envoy lets a request pass whose script raises; the filter behind does not, and it is what stops it."""
    broken = with_script_broken("garrison.identity", "pcall(check_request, handle)", "error('no')")

    def unguarded(config: dict[str, Any]) -> None:
        broken(config)
        without("rbac")(config)

    with open_gateway(place, broken) as gateway:
        reply = gateway.send("POST", "/predictions/plain", {"x-api-key": place.key("demo", MODELS)}, b"x")
        assert_refused(reply, 403, place.inference.seen)
        assert gateway.send("POST", "/predictions/plain", {}, b"x").status == 403
    with open_gateway(place, unguarded) as weakened:
        assert weakened.send("POST", "/predictions/plain", {}, b"x").status == 200


def test_a_route_that_does_not_say_what_it_needs_lets_nobody_pass(place: Place) -> None:
    def forget(config: dict[str, Any]) -> None:
        for route in http_manager(config)["route_config"]["virtual_hosts"][0]["routes"]:
            route["metadata"]["filter_metadata"].pop("envoy.filters.http.lua")

    with open_gateway(place, forget) as gateway:
        reply = gateway.send("POST", "/predictions/plain", {"x-api-key": place.key("demo", MODELS)}, b"x")
        assert_refused(reply, 403, place.inference.seen)


# Many clients ---------------------------------------------------------------------------------------------------------


def test_ten_thousand_clients_and_their_revoked_keys(tmp_path: Path) -> None:
    lines = [f"  c{n}: {{models: [m{n % 300}, digits], requests_per_second: 9, burst: 9}}" for n in range(10_000)]
    with open_place(tmp_path, clients="\n".join(["clients:", *lines])) as place:
        keys = [place.issue(f"c{n}", ["digits:predict"]) for n in (0, 4999, 9999, 10_000)]
        place.revoke(keys[1])
        with open_gateway(place) as gateway:
            statuses = [gateway.send("POST", "/predictions/digits", {"x-api-key": k.token}, b"x").status for k in keys]
    assert statuses == [200, 401, 200, 403]
