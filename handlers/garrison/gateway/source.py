"""What a gateway's configuration is rendered from: everything that was read, so that rendering itself reads nothing."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from garrison.contract import Contract
from garrison.gateway.certificates import Certificate
from garrison.gateway.client_authority import ClientAuthority
from garrison.gateway.clients import Client
from garrison.gateway.routes import choose_protocols
from garrison.gateway.settings import GatewaySettings
from garrison.gateway.upstreams import GuardSockets, ServerSockets


@dataclass(frozen=True)
class GatewaySockets:
    """Unix sockets that the gateway connects to, of servers alike and of guards alike, and the one it listens on."""

    servers: tuple[ServerSockets, ...]
    admin: Path
    guards: tuple[GuardSockets, ...] = ()


@dataclass(frozen=True)
class Verification:
    """What callers are verified with; nothing of it is secret."""

    jwks: dict[str, Any]  # a JSON Web Key Set: who may sign key tokens
    revoked_keys: tuple[str, ...] = ()  # ids (jti) of key tokens that count no more
    oidc_jwks: dict[str, Any] | None = None  # the OIDC issuer's public keys, unless they are fetched
    oidc_authority: str | None = None  # in PEM: who may certify the server that they are fetched from
    clients: ClientAuthority | None = None  # who may issue client certificates


@dataclass(frozen=True)
class GatewaySource:
    """The operator's settings and clients, the admitted models' contracts, and where everything is."""

    settings: GatewaySettings
    clients: tuple[Client, ...]
    contracts: tuple[Contract, ...]
    verification: Verification
    certificate: Certificate
    sockets: GatewaySockets
    port: int
    budgets: Path = Path("/state/budgets")  # the directory of the file where budgets are counted; in our image, here

    @property
    def protocols(self) -> tuple[str, ...]:
        """What the gateway speaks: what the settings list, or else what the models need."""
        return choose_protocols(self.settings.protocols, self.contracts)
