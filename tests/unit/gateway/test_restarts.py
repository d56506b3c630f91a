"""What only a restart changes is named as an operator writes it."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from garrison.gateway.certificates import Certificate
from garrison.gateway.envoy import render_envoy
from garrison.gateway.resources import split
from garrison.gateway.restarts import name_fixed
from garrison.gateway.settings import load_gateway
from garrison.gateway.source import GatewaySockets, GatewaySource, Verification
from garrison.gateway.upstreams import ServerSockets
from unit.gateway.contracts import make_contract

SHIPPED = (Path(__file__).parents[3] / "config" / "gateway.yaml").read_text()
PEMS = {"/c/server.pem": "chain", "/c/server.key": "key"}


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Return what Envoy is started with."""

    def start(settings: str = SHIPPED, port: int = 8443, run: str = "/run/g", models: int = 1) -> dict[str, Any]:
        path = tmp_path / "gateway.yaml"
        path.write_text(settings)
        config = render_envoy(
            GatewaySource(
                load_gateway(path),
                (),
                tuple(make_contract(f"m{number}", 10) for number in range(models)),
                Verification({"keys": []}),
                Certificate(None, Path("/c/server.pem"), Path("/c/server.key")),
                GatewaySockets((ServerSockets.in_directory(Path("/s")),), Path(run) / "admin.sock"),
                port,
            )
        )
        return copy.deepcopy(split(config, Path("/xds"), PEMS).bootstrap)

    return start


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("address: 127.0.0.1", "address: 127.0.0.2", ["address"]),
        ("profile: intermediate", "profile: modern", ["tls.profile"]),
        ("max_connections: 1000", "max_connections: 1001", ["limits.max_connections"]),
        ("max_heap: 512MiB", "max_heap: 513MiB", ["limits.max_heap"]),
        ("max_request_headers: 16KiB", "max_request_headers: 17KiB", ["limits.max_request_headers"]),
        ("max_header_count: 50", "max_header_count: 51", ["limits.max_header_count"]),
        ("handshake_s: 10", "handshake_s: 11", ["timeouts.handshake_s"]),
        ("headers_s: 10", "headers_s: 11", ["timeouts.headers_s"]),
        ("request_s: 30", "request_s: 31", ["timeouts.request_s"]),
        ("idle_s: 60", "idle_s: 61", ["timeouts.idle_s"]),
        ("timeouts:", "metrics: {port: 1}\ntimeouts:", ["metrics"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_setting(start: Callable[..., dict[str, Any]], old: str, new: str, named: list[str]) -> None:
    assert old in SHIPPED
    assert name_fixed(start(), start(SHIPPED.replace(old, new, 1))) == named


def test_options_of_the_command(start: Callable[..., dict[str, Any]]) -> None:
    assert name_fixed(start(), start(port=8444)) == ["--port"]
    assert name_fixed(start(), start(run="/run/h")) == ["--run-dir"]


def test_several_are_named_once_each(start: Callable[..., dict[str, Any]]) -> None:
    changed = SHIPPED.replace("request_s: 30", "request_s: 31").replace("idle_s: 60", "idle_s: 61")
    assert sorted(name_fixed(start(), start(changed))) == ["timeouts.idle_s", "timeouts.request_s"]


def test_what_is_no_setting_has_envoys_name(start: Callable[..., dict[str, Any]]) -> None:
    assert name_fixed(start(), {**start(), "flags_path": "/x"}) == ["flags_path"]


def test_models_need_none(start: Callable[..., dict[str, Any]]) -> None:
    assert name_fixed(start(), start(models=5)) == []
