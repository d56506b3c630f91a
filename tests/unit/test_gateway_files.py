"""Which files the gateway beside `garrison serve` looks at, and that no haste among them holds up a revocation."""

import dataclasses
from datetime import timedelta
from pathlib import Path

import pytest

from garrison.gateway.keys import init_keys, issue_key
from garrison.gateway.revocation import revoke_keys
from garrison.gateway.source import GatewaySockets
from garrison.stack.local import GatewayFiles, GatewayPlaces
from garrison.stack.watched import Watched
from stack.authorities import make_authority

SOCKETS = GatewaySockets((), Path("admin.sock"))
SETTINGS = Path(__file__).parents[2] / "config" / "gateway.yaml"
MTLS = "authentication: {accept: [key, mtls], mtls: {authority: authority.pem, revoked: crl.pem}}\n"
CLIENTS = "clients: {demo: {models: [digits], requests_per_second: 1, burst: 1}}\n"


@pytest.fixture
def places(tmp_path: Path) -> GatewayPlaces:
    """A gateway's files: settings, clients and keys."""
    (tmp_path / "gateway.yaml").write_bytes(SETTINGS.read_bytes())
    (tmp_path / "clients.yaml").write_text(CLIENTS)
    init_keys(tmp_path / "keys")
    return GatewayPlaces(tmp_path, tmp_path, 8443)


def issue(places: GatewayPlaces) -> str:
    return issue_key(places.state / "keys", "demo", ["digits:predict"], timedelta(hours=1)).record.key_id


def test_a_revocation_is_seen_while_keys_are_issued_one_after_the_other(places: GatewayPlaces) -> None:
    """A file that differs at each look is still being written; so the ledger of issued keys must not be one of them."""
    stolen, watched = issue(places), Watched(GatewayFiles(places).paths())
    looks = []
    revoke_keys(places.state / "keys", [stolen])
    for _ in range(3):
        issue(places)
        looks.append(watched.changed())
    assert looks == [False, True, False]


def test_keys_that_are_only_issued_change_nothing(places: GatewayPlaces) -> None:
    watched = Watched(GatewayFiles(places).paths())
    for _ in range(3):
        issue(places)
        assert not watched.changed()


# What is broken holds up only itself ----------------------------------------------------------------------------------


def revoked(files: GatewayFiles) -> tuple[str, ...]:
    return files.source((), SOCKETS).verification.revoked_keys


def test_a_list_of_revoked_certificates_that_is_broken_holds_up_no_revoked_key(places: GatewayPlaces) -> None:
    authority = make_authority("clients")
    (places.config / "authority.pem").write_bytes(authority.pem())
    (places.config / "crl.pem").write_bytes(authority.revoke())
    (places.config / "gateway.yaml").write_text(MTLS)
    files, stolen = GatewayFiles(places), issue(places)
    (places.config / "crl.pem").write_text("half of i")
    revoke_keys(places.state / "keys", [stolen])
    assert any("crl.pem" in problem for problem in files.refresh())
    assert revoked(files) == (stolen,)


def test_clients_that_do_not_go_together_with_the_rest_hold_up_no_revoked_key(places: GatewayPlaces) -> None:
    files, stolen = GatewayFiles(places), issue(places)
    before = files.source((), SOCKETS)
    (places.config / "clients.yaml").write_text(CLIENTS.replace("burst: 1", "burst: 9"))
    revoke_keys(places.state / "keys", [stolen])
    assert files.refresh() == []
    assert files.source((), SOCKETS).clients != before.clients
    assert files.fall_back() == []
    verification = dataclasses.replace(before.verification, revoked_keys=(stolen,))
    assert files.source((), SOCKETS) == dataclasses.replace(before, verification=verification)
    files.refresh()
    files.confirm()
    files.fall_back()
    assert files.source((), SOCKETS).clients != before.clients
