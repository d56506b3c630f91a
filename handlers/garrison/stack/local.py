"""Envoy beside TorchServe: its configuration is rendered for what is served, at every start."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from garrison.archive import PackedModel
from garrison.files import write_atomically
from garrison.gateway.certificates import Certificate, name_certificate
from garrison.gateway.clients import load_clients
from garrison.gateway.envoy import render_envoy
from garrison.gateway.rendered import read_rendered
from garrison.gateway.settings import GatewaySettings, load_gateway
from garrison.gateway.source import GatewaySockets, GatewaySource
from garrison.gateway.upstreams import ServerSockets
from garrison.gateway.verification import load_verification
from garrison.sockets import ADMIN
from garrison.stack.gateway import GatewayPart, check_port
from garrison.stack.part import Lifetime
from garrison.stack.server import ServerPart


@dataclass(frozen=True)
class GatewayPlaces:
    """Where a gateway's settings, keys and certificate are, and on which port it listens.

    `address` goes before that of gateway.yaml.
    """

    config: Path
    state: Path
    port: int
    address: str = ""

    def settings(self) -> GatewaySettings:
        """Read gateway.yaml.

        Raises:
            ConfigError: with every problem of the file.
        """
        found = load_gateway(self.config / "gateway.yaml")
        return dataclasses.replace(found, address=self.address) if self.address else found

    def certificate(self, settings: GatewaySettings) -> Certificate:
        """Return the operator's certificate, or where the development certificate is, or will be."""
        if settings.tls_certificate is None or settings.tls_key is None:
            return name_certificate(self.state / "certificates")
        return Certificate(None, settings.tls_certificate, settings.tls_key)


class LocalGatewayPart(GatewayPart):
    """Envoy in front of the server that runs beside it."""

    def __init__(self, places: GatewayPlaces, server: ServerPart, lifetime: Lifetime) -> None:
        super().__init__(Path("envoy.json"), lifetime)
        self._places = places
        self._server = server

    def check(self) -> None:
        """Check the settings, the port and the certificate.

        Raises:
            ConfigError: with every problem of the first that has any.
        """
        settings = self._places.settings()
        check_port(settings.address, self._places.port)
        self.check_certificate(self._places.certificate(settings))

    def prepare(self, run_directory: Path) -> None:
        """Render the configuration, and let Envoy check it.

        Raises:
            ConfigError: a setting or a key is missing or wrong, or Envoy refuses it.
        """
        servers = (ServerSockets.in_directory(self._server.plan.sockets_directory),)
        config = render_gateway(self._places, self._server.models, GatewaySockets(servers, run_directory / ADMIN))
        self.config_path = run_directory / "envoy.json"
        write_atomically(self.config_path, write_config(config), 0o600)
        self.rendered = read_rendered(self.config_path)
        super().prepare(run_directory)

    def has_callers(self) -> bool:
        """Say whether requests went through to the server."""
        return self._server.has_served and self.is_running()

    def watch(self) -> bool:
        """Say whether it accepts connections, and has seen that the server takes requests."""
        return super().watch() and (self.lifetime.ready.is_set() or self.has_servers())


def render_gateway(places: GatewayPlaces, models: Sequence[PackedModel], sockets: GatewaySockets) -> dict[str, Any]:
    """Return Envoy's configuration for these models, from the operator's files and the public keys.

    Raises:
        ConfigError: a file or the key that signs client keys is missing or wrong.
    """
    settings = places.settings()
    source = GatewaySource(
        settings=settings,
        clients=load_clients(places.config / "clients.yaml"),
        contracts=tuple(model.contract for model in models),
        verification=load_verification(settings, places.state),
        certificate=places.certificate(settings),
        sockets=sockets,
        port=places.port,
        budgets=(places.state / "budgets").absolute(),
    )
    return render_envoy(source)


def write_config(config: dict[str, Any]) -> bytes:
    """Return a configuration as the file that Envoy reads."""
    return json.dumps(config, indent=2).encode() + b"\n"
