"""Who is who, as Envoy gets it: tables, providers of tokens, what TLS asks of clients; accepted without a warning."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from garrison.gateway import binary, certificates, envoy, keys
from garrison.gateway.clients import load_clients
from garrison.gateway.identity import render_tables
from garrison.gateway.settings import load_gateway
from garrison.gateway.source import GatewaySockets, GatewaySource
from garrison.gateway.upstreams import ServerSockets
from garrison.gateway.verification import load_verification
from stack.authorities import make_authority
from stack.issuers import Issuer
from unit.gateway.contracts import make_contract

EVERYTHING = """
authentication:
  accept: [key, oidc]
  models: {faces: [mtls+key, oidc]}
  oidc: {issuer: "https://i", audience: a, jwks_file: issuer.json, algorithms: [ES256, PS384], scope_claim: scp}
  mtls: {authority: clients.pem, revoked: crl.pem}
"""
CLIENTS = r"""
clients:
  one: {models: [digits], requests_per_second: 1, burst: 1, subjects: ['a"b\c'], certificates: ["One.Example"]}
  two: {models: [digits], requests_per_second: 1, burst: 1, certificates: ["spiffe://Bank/Two"]}
  three: {models: {digits: {verbs: [predict]}, faces: {verbs: [explain]}}, requests_per_second: 1, burst: 1}
"""
Source = Callable[..., GatewaySource]


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """Return what makes a source of the text of gateway.yaml."""
    root = make_authority("clients")
    gone = root.issue(tmp_path / "gone.pem", "x.example", serial=0xAB)
    (tmp_path / "clients.pem").write_bytes(root.pem())
    (tmp_path / "crl.pem").write_bytes(root.revoke(gone))
    (tmp_path / "issuer.json").write_text(json.dumps(Issuer().public()))
    (tmp_path / "clients.yaml").write_text(CLIENTS)
    keys.init_keys(tmp_path / "keys")

    def make(text: str = EVERYTHING) -> GatewaySource:
        (tmp_path / "gateway.yaml").write_text(text)
        settings = load_gateway(tmp_path / "gateway.yaml")
        return GatewaySource(
            settings,
            load_clients(tmp_path / "clients.yaml"),
            (make_contract("digits"), make_contract("faces")),
            load_verification(settings, tmp_path),
            certificates.ensure_certificate(tmp_path / "tls"),
            GatewaySockets((ServerSockets.in_directory(tmp_path),), tmp_path / "a"),
            8443,
        )

    return make


def tables_of(source: GatewaySource) -> dict[str, str]:
    """Return each line of the form `local NAME = "text"`."""
    found = re.findall(r'^local ([A-Z_]+) = (".*")$', render_tables(source), re.MULTILINE)
    return {name: json.loads(text) for name, text in found}


def test_clients_with_the_same_scopes_share_a_set(source: Source) -> None:
    tables = tables_of(source())
    assert tables["SETS"].splitlines() == [
        "0\tdigits:describe digits:explain digits:predict",
        "1\tdigits:predict faces:explain",
    ]
    assert tables["CLIENTS"].splitlines() == ["one\t0", "two\t0", "three\t1"]


def test_names_are_looked_up_as_they_are_compared(source: Source) -> None:
    tables = tables_of(source())
    assert tables["SUBJECTS"] == 'a"b\\c\tone\n'
    assert tables["CERTIFICATES"].splitlines() == ["one.example\tone", "spiffe://Bank/Two\ttwo"]
    assert tables["REVOKED_CERTIFICATES"] == "ab\t\n"
    assert (tables["DEFAULT_WAYS"], tables["MODEL_WAYS"]) == ("key oidc", "faces\tkey+mtls oidc\n")


def test_kinds_that_no_way_accepts_are_not_looked_at(source: Source) -> None:
    text = render_tables(source("authentication: {accept: [key]}"))
    assert "local USES = { key = true, oidc = false, mtls = false }" in text
    tokens = filter_of(envoy.render_envoy(source("authentication: {accept: [key]}")), "envoy.filters.http.jwt_authn")
    assert list(tokens["providers"]) == ["key"]
    required = [rule for rule in tokens["rules"] if "prefix" in rule["match"]]
    assert {header["name"] for rule in required for header in rule["match"]["headers"]} == {"x-api-key"}


def filter_of(config: dict[str, Any], name: str) -> dict[str, Any]:
    manager = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    (found,) = [f for f in manager["http_filters"] if f["name"] == name]
    typed: dict[str, Any] = found["typed_config"]
    return typed


def tls_of(config: dict[str, Any]) -> dict[str, Any]:
    typed: dict[str, Any] = config["static_resources"]["listeners"][0]["filter_chains"][0]["transport_socket"]
    return dict(typed["typed_config"])


def test_every_token_that_is_presented_has_to_be_valid(source: Source) -> None:
    rules = filter_of(envoy.render_envoy(source()), "envoy.filters.http.jwt_authn")["rules"]
    for prefix in ("/predictions/", "/explanations/"):
        both, key, oidc = [rule for rule in rules if rule["match"].get("prefix") == prefix]
        assert [len(rule["match"]["headers"]) for rule in (both, key, oidc)] == [2, 1, 1]
        wanted = [{"provider_name": "key"}, {"provider_name": "oidc"}]
        assert both["requires"] == {"requires_all": {"requirements": wanted}}
        assert [key["requires"], oidc["requires"]] == wanted


@pytest.mark.parametrize(
    ("accept", "required"), [("[mtls]", True), ("[mtls+key]", True), ("[mtls, key]", False)], ids=str
)
def test_a_certificate_is_required_where_every_way_needs_one(source: Source, accept: str, required: bool) -> None:
    text = f"authentication: {{accept: {accept}, mtls: {{authority: clients.pem}}}}"
    tls = tls_of(envoy.render_envoy(source(text)))
    assert tls["require_client_certificate"] is required
    assert tls["disable_stateless_session_resumption"] and tls["disable_stateful_session_resumption"]
    assert "validation_context" in tls["common_tls_context"]


def test_where_none_is_accepted_none_is_asked_for(source: Source) -> None:
    tls = tls_of(envoy.render_envoy(source("authentication: {accept: [key]}")))
    assert set(tls) == {"@type", "common_tls_context"} and "validation_context" not in tls["common_tls_context"]


REMOTE = """
authentication:
  accept: [oidc, mtls]
  oidc: {issuer: "https://i", audience: a, jwks_url: "%s", authority: clients.pem}
  mtls: {authority: clients.pem}
"""


@pytest.mark.parametrize(
    ("url", "address", "kind", "name"),
    [
        ("https://login.example/keys", ("login.example", 443), "LOGICAL_DNS", "DNS"),
        ("https://10.1.2.3:8443/keys", ("10.1.2.3", 8443), "STATIC", "IP_ADDRESS"),
    ],
)
def test_the_issuers_server_has_to_have_its_name(
    source: Source, url: str, address: tuple[str, int], kind: str, name: str
) -> None:
    config = envoy.render_envoy(source(REMOTE % url))
    (cluster,) = [c for c in config["static_resources"]["clusters"] if c["name"] == "issuer"]
    endpoint = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]
    assert ((endpoint["address"], endpoint["port_value"]), cluster["type"]) == (address, kind)
    context = cluster["transport_socket"]["typed_config"]["common_tls_context"]["validation_context"]
    assert context["match_typed_subject_alt_names"] == [{"san_type": name, "matcher": {"exact": address[0]}}]
    assert "BEGIN CERTIFICATE" in context["trusted_ca"]["inline_string"]


@pytest.mark.parametrize("text", [EVERYTHING, REMOTE % "https://login.example/keys"], ids=["everything", "remote keys"])
def test_envoy_accepts_all_ways_without_a_warning(source: Source, tmp_path: Path, text: str) -> None:
    path = tmp_path / "envoy.json"
    path.write_text(json.dumps(envoy.render_envoy(source(text))))
    command = [*binary.envoy_command(binary.find_envoy(), path), "--mode", "validate"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, "warning" in result.stderr, "deprecated" in result.stderr) == (0, False, False)
