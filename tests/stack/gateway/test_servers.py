"""What is behind the gateway: servers that are there, and servers that are not."""

import copy
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stack.gateways import BODY_LIMIT, DIGITS, Gateway, Place, Seen, assert_refused


def test_health_says_503_when_nobody_listens(place: Place, seen: list[Seen]) -> None:
    def point_elsewhere(config: dict[str, Any]) -> None:
        cluster = config["static_resources"]["clusters"][1]
        endpoint = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
        endpoint["address"]["pipe"]["path"] = str(place.directory / "nobody.sock")

    place.inference.reset()
    gateway = place.start(point_elsewhere)
    try:
        assert_refused(gateway.send("GET", "/healthz"), 503, seen)
    finally:
        gateway.stop()


def add_server(config: dict[str, Any], inference: Path, readiness: Path) -> None:
    """Put another server behind a gateway."""
    for cluster, path in zip(config["static_resources"]["clusters"][:2], (inference, readiness), strict=True):
        endpoints = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
        other = copy.deepcopy(endpoints[0])
        other["endpoint"]["address"]["pipe"]["path"] = str(path)
        other["endpoint"]["health_check_config"]["address"]["pipe"]["path"] = str(readiness)
        endpoints.insert(0, other)


@pytest.fixture
def half_dead(place: Place) -> Iterator[Gateway]:
    """A gateway before two servers, one of which says that it takes requests and takes none."""
    place.inference.reset()

    def change(config: dict[str, Any]) -> None:
        add_server(config, place.directory / "nobody.sock", place.directory / "rdy.sock")

    gateway = place.start(change)
    yield gateway
    gateway.stop()


@pytest.mark.parametrize("size", [1, 40 * 1024, BODY_LIMIT], ids=["a byte", "above a buffer", "the largest"])
def test_what_one_server_does_not_take_another_gets(
    half_dead: Gateway, place: Place, seen: list[Seen], size: int
) -> None:
    body = bytes(index % 251 for index in range(size))
    replies = [half_dead.send("POST", DIGITS, {"x-api-key": place.key()}, body) for _ in range(20)]
    assert [reply.status for reply in replies] == [200] * 20
    assert [one.body for one in seen] == [body] * 20


def test_what_was_sent_is_not_sent_again(half_dead: Gateway, place: Place, seen: list[Seen]) -> None:
    """A server that dies with a request in its hands: nobody knows what it did with it."""
    place.inference.answer.status = 0  # breaks off
    for _ in range(4):
        assert half_dead.send("POST", DIGITS, {"x-api-key": place.key()}, b"x").status in (502, 503)
    assert len(seen) == 4


def test_the_clear_refusal_where_no_server_takes_requests(place: Place, seen: list[Seen]) -> None:
    place.readiness.serving = 503
    place.inference.reset()
    try:
        gateway = place.start(wait_for_server=False)
        began = time.monotonic()
        reply = gateway.send("POST", DIGITS, {"x-api-key": place.key()}, b"x")
        assert_refused(reply, 503, seen)
        assert json.loads(reply.body)["reason"] == "unavailable"
        assert time.monotonic() - began < 1
        (line,) = gateway.access_log(1)
        assert line["detail"].startswith("no_healthy_upstream")
    finally:
        place.readiness.serving = 200
        gateway.stop()


def test_no_server_is_503(place: Place) -> None:
    def point_elsewhere(config: dict[str, Any]) -> None:
        cluster = config["static_resources"]["clusters"][0]
        endpoint = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
        endpoint["address"]["pipe"]["path"] = str(place.directory / "nobody.sock")

    gateway = place.start(point_elsewhere)
    try:
        assert_refused(gateway.send("POST", DIGITS, {"x-api-key": place.key()}, b"x"), 503, [])
    finally:
        gateway.stop()
