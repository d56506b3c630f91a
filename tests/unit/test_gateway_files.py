"""Which files the gateway beside `garrison serve` looks at, and that no haste among them holds up a revocation."""

from datetime import timedelta
from pathlib import Path

import pytest

from garrison.gateway.keys import init_keys, issue_key
from garrison.gateway.revocation import revoke_keys
from garrison.stack.local import GatewayFiles, GatewayPlaces
from garrison.stack.watched import Watched

SETTINGS = Path(__file__).parents[2] / "config" / "gateway.yaml"
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
