"""A gateway that lacks one defence lets the attacks through that this defence is there for, and the server sees them.

What is not in these lists falls to Envoy's parsers, which have no switch; test_without_the_gateway.py shows those.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from attacks.gateway.door import Door, Grounds, open_door, wait_for_nobody
from attacks.gateway.exchange import Http1, Verdict
from attacks.gateway.rows import GROUPS, OTHER_WAYS
from attacks.gateway.rows.floods import SMALL_FRAMES
from attacks.gateway.rows.identity import IGNORED
from attacks.gateway.rows.paths import NOWHERE, SAME
from attacks.gateway.rows.row import post
from stack.gateways import http_manager, without

Config = dict[str, Any]
LARGEST = 2**31 - 1
AUTHORISATION = ("jwt_authn", "garrison.identity", "rbac")
NOT_THERE = {
    "key in the query",
    "key in the query as a token",
    "key in the path",
}  # no such path, with or without a key


def ask_for_no_key(config: Config) -> None:
    without(*AUTHORISATION)(config)


def believe_every_certificate(config: Config) -> None:
    ask_for_no_key(config)
    (chain,) = config["static_resources"]["listeners"][0]["filter_chains"]
    del chain["transport_socket"]["typed_config"]["common_tls_context"]["validation_context"]


def believe_headers(config: Config) -> None:
    without("garrison.identity", "rbac", "garrison.headers")(config)
    manager = http_manager(config)
    del (
        manager["early_header_mutation_extensions"],
        manager["common_http_protocol_options"]["headers_with_underscores_action"],
    )
    manager |= {"use_remote_address": False, "preserve_external_request_id": True}


def read_paths_as_they_are(config: Config) -> None:
    without("garrison.identity", "rbac")(config)
    manager = http_manager(config)
    manager |= {
        "normalize_path": False,
        "merge_slashes": False,
        "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
    }
    manager["http_protocol_options"]["allow_absolute_url"] = True
    route_everything(config)


def take_any_method(config: Config) -> None:
    without("garrison.identity", "rbac")(config)
    route_everything(config)


def take_any_body(config: Config) -> None:
    without("garrison.headers", "garrison.forms", "buffer")(config)


def take_any_size(config: Config) -> None:
    manager = http_manager(config)
    manager["max_request_headers_kb"] = 8192  # the most that Envoy can be set to
    manager["common_http_protocol_options"]["max_headers_count"] = 20_000
    without("garrison.identity", "rbac")(config)
    route_everything(config)


def upgrade(config: Config) -> None:
    without("garrison.identity", "rbac", "garrison.headers", "garrison.forms", "buffer")(config)
    manager = http_manager(config)
    kinds = ("websocket", "evil/1", "TLS/1.0", "h2c, websocket")
    manager["upgrade_configs"] = [{"upgrade_type": kind} for kind in kinds]
    manager["http2_protocol_options"]["allow_connect"] = True
    route_everything(config)


def take_both_lengths(config: Config) -> None:
    http_manager(config)["http_protocol_options"] |= {"allow_chunked_length": True, "accept_http_10": True}


def stand_floods(config: Config) -> None:
    take_any_size(config)
    http_manager(config)["http2_protocol_options"] |= {
        "max_concurrent_streams": 100_000,
        "max_outbound_frames": LARGEST,
        "max_outbound_control_frames": LARGEST,
        "max_consecutive_inbound_frames_with_empty_payload": LARGEST,
        "max_inbound_priority_frames_per_stream": LARGEST,
    }
    runtime = {"overload.premature_reset_total_stream_count": LARGEST}
    config["layered_runtime"]["layers"].append({"name": "weak", "static_layer": runtime})


def route_everything(config: Config) -> None:
    """Let one route take every path and method."""
    (host,) = http_manager(config)["route_config"]["virtual_hosts"]
    route = next(one for one in host["routes"] if one["name"] == "predict digits")
    host["routes"] = [{**route, "match": {"prefix": "/"}}, {**route, "match": {"connect_matcher": {}}}]


@dataclass(frozen=True)
class Weakness:
    """A defence taken out, and rows of one group that get through then."""

    group: str
    weaken: Callable[[Config], None]
    rows: set[str]


def all_of(group: str, *but: str) -> set[str]:
    return {row.name for row in GROUPS[group]} - set(but)


WEAKNESSES = [
    Weakness("keys", ask_for_no_key, all_of("keys", *NOT_THERE)),
    Weakness("tokens", ask_for_no_key, all_of("tokens", "token in the query")),
    Weakness("certificates", believe_every_certificate, all_of("certificates")),
    Weakness(
        "identity",
        believe_headers,
        {*IGNORED, "underscores", "one underscore", "in a trailer", "HTTP/2: as it is", "HTTP/2: in a trailer"},
    ),
    Weakness("smuggling", take_both_lengths, {"CL.TE", "TE.CL", "CL.0", "HTTP/1.0"}),
    Weakness(
        "paths",
        read_paths_as_they_are,
        {*NOWHERE, *(f"without a key: {name}" for name in SAME)} - {"an asterisk alone"},
    ),
    Weakness(
        "methods", take_any_method, {"GET", "HEAD", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "HTTP/2: TRACE"}
    ),
    Weakness("bodies", take_any_body, all_of("bodies")),
    Weakness("sizes", take_any_size, all_of("sizes", "a long method", "a long key")),
    Weakness("upgrades", upgrade, {"WebSocket", "WebSocket by POST", "an unknown protocol", "HTTP/2: WebSocket"}),
    Weakness("floods", stand_floods, {"rapid reset", "a bomb for HPACK", *SMALL_FRAMES} - {"WINDOW_UPDATE"}),
]


@pytest.mark.parametrize("weakness", WEAKNESSES, ids=[weakness.group for weakness in WEAKNESSES])
def test_the_server_sees_what_the_defence_is_there_for(grounds: Grounds, weakness: Weakness) -> None:
    rows = [row for row in GROUPS[weakness.group] if row.name in weakness.rows]
    assert len(rows) == len(weakness.rows)
    place = grounds.in_other_ways() if weakness.group in OTHER_WAYS else grounds
    with open_weakened(place, weakness.weaken) as weakened:
        assert [row.name for row in rows if not weakened.lets_through(row, patience_s=1)] == []


def test_who_is_slow_has_the_time_that_the_timeouts_give(shipped: Door, hurried: Door) -> None:
    """The same pause is an attack where the timeout is shorter than it, and none where it is longer."""
    assert [say_slowly(door, post(), pause_s=1.5) for door in (hurried, shipped)] == [408, 200]


def say_slowly(door: Door, request: bytes, pause_s: float) -> Verdict:
    with door.connect("http/1.1") as connection:
        wire = Http1(connection)
        wire.send(door.grounds.fill(request[:20]))
        time.sleep(pause_s)
        wire.send(door.grounds.fill(request[20:]))
        return wire.read().verdict


@contextlib.contextmanager
def open_weakened(grounds: Grounds, weaken: Callable[[Config], None]) -> Iterator[Door]:
    def change(config: Config) -> None:
        weaken(config)
        wait_for_nobody(config)

    with open_door(grounds, change) as door:
        yield door
