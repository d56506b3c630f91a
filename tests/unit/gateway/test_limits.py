"""Limits as they are rendered: enumerated, of models before clients, and of nothing else than names and numbers."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from garrison.gateway import limits
from garrison.gateway.budget.allowances import ALL_MODELS, Allowance
from garrison.gateway.budget.ledger import seconds_to_midnight
from garrison.gateway.certificates import name_certificate
from garrison.gateway.clients import AllowedModel, Client, ClientLimits
from garrison.gateway.settings import load_gateway
from garrison.gateway.source import GatewaySockets, GatewaySource, Verification
from garrison.gateway.upstreams import ServerSockets
from unit.gateway.contracts import make_contract

REPOSITORY = Path(__file__).parents[3]
MINUTE = 60 * 10**6
ALL = ClientLimits(5, 10, concurrent=3, bytes_per_minute=MINUTE, queries_per_day=100)
OWN = ClientLimits(1, 2, concurrent=1, bytes_per_minute=MINUTE // 2, queries_per_day=10)
BANK = Client("bank", (AllowedModel("digits", limits=OWN), AllowedModel("faces")), ALL)
PLAIN = Client("plain", (AllowedModel("digits"),), ClientLimits(7, 8))


def buckets(limiter: dict[str, Any]) -> dict[str, tuple[int, int, str]]:
    return {
        "/".join(entry["value"] for entry in descriptor["entries"]): tuple(descriptor["token_bucket"].values())
        for descriptor in limiter["typed_config"]["descriptors"]
    }


def test_requests_have_a_bucket_for_each_client_and_model_that_has_a_limit() -> None:
    of_models, of_clients = limits.limit_requests([BANK, PLAIN])
    assert buckets(of_models) == {"bank/digits": (2, 1, "1s")}
    assert buckets(of_clients) == {"bank": (10, 5, "1s"), "plain": (8, 7, "1s")}


def test_bytes_have_a_bucket_that_is_filled_within_a_minute() -> None:
    of_models, of_clients = limits.limit_bytes([BANK, PLAIN])
    assert buckets(of_models) == {"bank/digits": (MINUTE // 2, MINUTE // 2, "60s")}
    assert buckets(of_clients) == {"bank": (MINUTE, MINUTE, "60s")}


@pytest.mark.parametrize(
    ("most", "bucket"),
    [
        (2**32 - 1, (2**32 - 1, 2**32 - 1, "60s")),
        (2**32, (2**32 - 1, 2**32 // 60, "1s")),
        (2**40, (2**32 - 1, 2**32 - 1, "1s")),
    ],
)
def test_bytes_that_no_bucket_of_envoys_holds_come_in_smaller_portions(most: int, bucket: tuple[int, int, str]) -> None:
    client = Client("bank", (AllowedModel("digits"),), ClientLimits(1, 1, bytes_per_minute=most))
    _, of_clients = limits.limit_bytes([client])
    assert buckets(of_clients) == {"bank": bucket}


def test_the_filters_are_the_same_whoever_is_limited() -> None:
    """A running Envoy takes no new filters, but other buckets in those that it has."""
    for make in (limits.limit_requests, limits.limit_bytes):
        assert [f["name"] for f in make([])] == [f["name"] for f in make([BANK, PLAIN])]


def test_keys_scopes_and_names_of_certificates_do_not_change_a_limiter() -> None:
    """Envoy fills all buckets of a limiter that changes."""
    models = (dataclasses.replace(BANK.models[0], verbs=("predict",)), BANK.models[1], AllowedModel("more"))
    other = dataclasses.replace(BANK, models=models, subjects=("a1",), certificates=("bank.example",))
    for make in (limits.limit_requests, limits.limit_bytes):
        assert json.dumps(make([BANK])) == json.dumps(make([other]))


def test_the_service_is_told_of_budgets_and_places_only() -> None:
    allowances = limits.find_allowances([BANK, PLAIN], [make_contract("digits", 7), make_contract("faces", 60)])
    assert allowances.names() == {"bank"}
    assert {scope.model: scope.allowance for scope in allowances.find("bank", "digits")} == {
        ALL_MODELS: Allowance(100, 3),
        "digits": Allowance(10, 1),
    }
    assert [scope.model for scope in allowances.find("bank", "faces")] == [ALL_MODELS]
    assert allowances.longest_s == 60


def test_envoy_asks_about_those_whom_the_service_knows() -> None:
    daily = Client("daily", (AllowedModel("digits", limits=ClientLimits(queries_per_day=3)),), ClientLimits(1, 1))
    assert limits.mark_budgets([BANK, PLAIN, daily]) == {"bank": limits.PLACES, "daily": limits.QUERIES}


def test_envoy_refuses_what_it_cannot_ask_about() -> None:
    config = limits.count_budgets()["typed_config"]
    assert config["failure_mode_deny"] is True
    assert config["status_on_error"] == {"code": "ServiceUnavailable"}
    begin, end = config["rate_limits"]
    assert ("apply_on_stream_done" in begin, end["apply_on_stream_done"]) == (False, True)


@pytest.fixture
def source(tmp_path: Path) -> GatewaySource:
    """What a gateway is rendered from, with the shipped settings."""
    return GatewaySource(
        load_gateway(REPOSITORY / "config" / "gateway.yaml"),
        (),
        (make_contract("digits"),),
        Verification({"keys": []}),
        name_certificate(tmp_path),
        GatewaySockets((ServerSockets.in_directory(tmp_path),), tmp_path / "a"),
        8443,
    )


def test_a_limit_of_bytes_that_no_request_would_pass_is_refused(source: GatewaySource) -> None:
    needed = source.contracts[0].max_body_bytes + source.settings.limits.max_request_headers_bytes
    for most, fits in ((needed, True), (needed - 1, False)):
        client = Client("bank", (AllowedModel("digits"),), ClientLimits(1, 1, bytes_per_minute=most))
        problems = limits.check_limits(dataclasses.replace(source, clients=(client,)))
        assert bool(problems) is not fits
    assert problems == [
        f"clients.bank.bytes_per_minute: {needed - 1} is less than one request for digits may have with its headers "
        f"({needed} bytes); write more"
    ]


def test_limits_of_a_model_are_refused_where_the_gateway_cannot_tell_models_apart(source: GatewaySource) -> None:
    settings = dataclasses.replace(source.settings, protocols=("torchserve", "tfserving-grpc"))
    (problem,) = limits.check_limits(dataclasses.replace(source, settings=settings, clients=(BANK, PLAIN)))
    assert problem.startswith("clients.bank.models.digits: the gateway cannot know which model tfserving-grpc asks for")


@pytest.mark.parametrize(("now_s", "left_s"), [(0.0, 86_400), (1.9, 86_399), (86_399.9, 1), (86_400.0, 86_400)])
def test_midnight_is_at_least_a_second_away(now_s: float, left_s: int) -> None:
    assert seconds_to_midnight(now_s) == left_s
