"""What was rendered can be read back by who runs it; something else, or what others may write, is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from garrison.errors import ConfigError
from garrison.gateway.certificates import Certificate
from garrison.gateway.envoy import render_envoy
from garrison.gateway.rendered import Rendered, read_rendered
from garrison.gateway.settings import load_gateway
from garrison.gateway.source import GatewaySockets, GatewaySource, Verification
from garrison.gateway.upstreams import ServerSockets
from unit.gateway.contracts import make_contract

CONFIG = Path(__file__).parents[3] / "config"


@pytest.fixture
def render(tmp_path: Path) -> Callable[..., Path]:
    """Write a configuration for a model."""

    def render(certificate: Certificate, timeout_s: int = 10) -> Path:
        contracts = (make_contract("digits", timeout_s),) if timeout_s else ()
        sockets = GatewaySockets((ServerSockets.in_directory(Path("/s")),), Path("/run/g/admin.sock"))
        settings = load_gateway(CONFIG / "gateway.yaml")
        config = render_envoy(
            GatewaySource(
                settings,
                (),
                contracts,
                Verification({"keys": []}),
                certificate,
                sockets,
                9,
            )
        )
        path = tmp_path / "envoy.json"
        path.write_text(json.dumps(config))
        path.chmod(0o644)
        return path

    return render


DEVELOPMENT = Certificate(Path("/c/ca.pem"), Path("/c/server.pem"), Path("/c/server.key"))
OPERATOR = Certificate(None, Path("/run/secrets/tls.pem"), Path("/run/secrets/tls.key"))


@pytest.mark.parametrize("certificate", [DEVELOPMENT, OPERATOR], ids=["development", "operator"])
def test_everything_comes_back(render: Callable[..., Path], certificate: Certificate) -> None:
    expected = Rendered("127.0.0.1", 9, Path("/run/g/admin.sock"), certificate, 61, models=("digits",))
    assert read_rendered(render(certificate, 60)) == expected


def test_without_a_model_the_health_route_is_the_longest(render: Callable[..., Path]) -> None:
    assert read_rendered(render(DEVELOPMENT, 0)).longest_s == 2


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_others_must_not_write_it(render: Callable[..., Path], mode: int) -> None:
    path = render(DEVELOPMENT)
    path.chmod(mode)
    with pytest.raises(ConfigError, match="chmod go-w"):
        read_rendered(path)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", "null", '{"static_resources": {"listeners": []}}', "[" * 100_000]
)
def test_something_else_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "envoy.json"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="write it anew"):
        read_rendered(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("port_value", port) for port in (0, -1, 65_536, 1.5, float("inf"), float("nan"), "8443", None, 10**400)),
        *(("address", address) for address in ("", "localhost", "\0", "1.2.3", "a" * 300, None, 1)),
    ],
    ids=lambda value: str(value)[:12],
)
def test_a_place_where_nothing_can_listen_is_told(render: Callable[..., Path], key: str, value: object) -> None:
    path = render(DEVELOPMENT)
    config = json.loads(path.read_text())
    config["static_resources"]["listeners"][0]["address"]["socket_address"][key] = value
    path.write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="write it anew"):
        read_rendered(path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="gateway render --output"):
        read_rendered(tmp_path / "envoy.json")
