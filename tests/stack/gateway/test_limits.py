"""Rates of a client and of one of its models, bytes per minute, and that nobody can make Envoy forget a bucket."""

import copy
import time
from collections.abc import Iterator
from typing import Any

import pytest

from stack.gateways import Gateway, Place, http_manager, open_gateway, open_place

BURST, CROWD = 12, 25  # more than the buckets that Envoy keeps for wildcards
KIB = 1024
NAMES = [f"crowd{number}" for number in range(CROWD)]
CLIENTS = """
clients:
  modest:
    models: {digits: {requests_per_second: 1, burst: 2}, faces: {}}
    requests_per_second: 1
    burst: 6
  heavy: {models: [digits, faces], requests_per_second: 1000, burst: 1000, bytes_per_minute: 200KiB}
  split:
    models: {digits: {bytes_per_minute: 100KiB}, faces: {}}
    requests_per_second: 1000
    burst: 1000
    bytes_per_minute: 200KiB
  light: {models: [digits], requests_per_second: 1000, burst: 1000, bytes_per_minute: 1000GB}
  victim: {models: [digits], requests_per_second: 1, burst: BURST}
"""
CLIENTS = CLIENTS.replace("BURST", str(BURST))
CLIENTS += "".join(f"  {name}: {{models: [digits], requests_per_second: 1, burst: 2}}\n" for name in NAMES)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with open_place(tmp_path_factory.mktemp("l"), clients=CLIENTS) as place:
        yield place


@pytest.fixture(scope="module")
def gateway(place: Place) -> Iterator[Gateway]:
    with open_gateway(place) as gateway:
        yield gateway


def ask(gateway: Gateway, place: Place, client: str, model: str = "digits", size: int = 1) -> tuple[int, int]:
    """Send one request; return its status, and after how many seconds to come back."""
    key = place.key(client, place.models)
    reply = gateway.send("POST", f"/predictions/{model}", {"x-api-key": key}, bytes(size))
    assert reply.status == 200 or reply.reason == "rate_limited"
    return reply.status, int(reply.headers.get("retry-after", "0"))


def test_what_a_models_limit_refuses_takes_nothing_from_the_client(gateway: Gateway, place: Place) -> None:
    digits = [ask(gateway, place, "modest")[0] for _ in range(8)]
    faces = [ask(gateway, place, "modest", "faces")[0] for _ in range(8)]
    assert (digits[:2], digits[-1], faces[:3], faces[-1]) == ([200, 200], 429, [200, 200, 200], 429)


def test_bytes_are_limited_exactly_and_the_refusal_says_for_how_long(gateway: Gateway, place: Place) -> None:
    found = [ask(gateway, place, "heavy", size=60 * KIB) for _ in range(5)]
    assert [status for status, _ in found] == [200, 200, 200, 429, 429]
    assert {50 <= seconds <= 60 for _, seconds in found[3:]} == {True}  # 180 of 200 KiB are used
    assert ask(gateway, place, "heavy", size=KIB)[0] == 200  # which there is still room for


def test_bytes_of_a_model_within_those_of_its_client(gateway: Gateway, place: Place) -> None:
    models = ["digits"] * 2 + ["faces"] * 3
    found = [ask(gateway, place, "split", model, 60 * KIB)[0] for model in models]
    assert found == [200, 429, 200, 200, 429]


def test_requests_without_a_body_pass_a_limit_of_bytes(gateway: Gateway, place: Place) -> None:
    assert [ask(gateway, place, "heavy", "faces", 0)[0] for _ in range(3)] == [200] * 3


def test_the_largest_limit_that_can_be_written_is_one(gateway: Gateway, place: Place) -> None:
    assert ask(gateway, place, "light", size=60 * KIB) == (200, 0)


# Many clients, so that Envoy forgets a bucket -------------------------------------------------------------------------


def evict(gateway: Gateway, place: Place) -> tuple[int, int]:
    """Use a bucket up, let many others ask, and return how many requests then pass, and how many should have."""
    keys = {name: place.key(name) for name in ("victim", *NAMES)}

    def passes(name: str) -> bool:
        return gateway.send("POST", "/predictions/digits", {"x-api-key": keys[name]}, b"x").status == 200

    while passes("victim"):
        pass
    began = time.monotonic()
    for name in NAMES:
        passes(name)
    passed = 0
    while passed <= BURST and passes("victim"):
        passed += 1
    return passed, int(time.monotonic() - began) + 1  # one a second


def use_wildcards(config: dict[str, Any]) -> None:
    """Configure the limiter as most people do: one descriptor for whatever client there is."""
    (limiter,) = [f for f in http_manager(config)["http_filters"] if f["name"] == "envoy.filters.http.local_ratelimit"]
    (victim,) = [d for d in limiter["typed_config"]["descriptors"] if d["entries"][0]["value"] == "victim"]
    anybody = copy.deepcopy(victim)
    del anybody["entries"][0]["value"]
    limiter["typed_config"]["descriptors"] = [anybody]


def test_no_crowd_makes_envoy_forget_a_bucket(gateway: Gateway, place: Place) -> None:
    passed, earned = evict(gateway, place)
    assert passed <= earned


def test_a_crowd_does_where_clients_are_not_enumerated(place: Place) -> None:
    with open_gateway(place, use_wildcards) as gateway:
        passed, _ = evict(gateway, place)
    assert passed >= BURST
