"""The only paths that exist, by protocol, and for the models of its server. Everything else is 404.

`find_endpoints` says what can be asked for, `guarded` below which paths nothing is told to somebody without a name, not
even that it is not there; `table` writes Envoy's routes from both. A protocol that is not configured has neither.
"""

from collections.abc import Callable, Iterator, Sequence

from garrison import contract as contracts_of
from garrison.contract import Contract
from garrison.gateway.routes import guard, kserve, torchserve
from garrison.gateway.routes.endpoint import Endpoint
from garrison.gateway.settings import (
    KSERVE_V1,
    KSERVE_V2,
    TFSERVING_GRPC,
    TFSERVING_REST,
    TORCHSERVE,
    TORCHSERVE_GRPC,
)

__all__ = ["Endpoint", "choose_protocols", "find_endpoints", "guarded", "select_contracts", "speaks_grpc"]

_FINDERS: dict[str, Callable[[Sequence[Contract]], Iterator[Endpoint]]] = {
    TORCHSERVE: torchserve.find_endpoints,
    KSERVE_V1: kserve.find_v1,
    KSERVE_V2: kserve.find_v2,
    TFSERVING_REST: guard.find_rest,
    TFSERVING_GRPC: lambda contracts: guard.find_grpc(TFSERVING_GRPC, contracts),
    TORCHSERVE_GRPC: lambda contracts: guard.find_grpc(TORCHSERVE_GRPC, contracts),
}
_SERVERS = {  # whose models a protocol is for
    TORCHSERVE: contracts_of.TORCHSERVE,
    KSERVE_V1: contracts_of.TORCHSERVE,
    KSERVE_V2: contracts_of.TORCHSERVE,
    TORCHSERVE_GRPC: contracts_of.TORCHSERVE,
    TFSERVING_REST: contracts_of.TFSERVING,
    TFSERVING_GRPC: contracts_of.TFSERVING,
}
_KNOWN_FOR = {
    contracts_of.TORCHSERVE: (TORCHSERVE,),
    contracts_of.TFSERVING: (TFSERVING_REST, TFSERVING_GRPC),
}
_PREFIXES = {
    TORCHSERVE: torchserve.PREFIXES,
    KSERVE_V1: (kserve.V1_MODELS,),
    KSERVE_V2: (kserve.V2_MODELS,),
    TFSERVING_REST: (guard.MODELS,),
    **guard.SERVICES,
}


def choose_protocols(listed: Sequence[str], contracts: Sequence[Contract]) -> tuple[str, ...]:
    """Return the protocols that are listed; without a list those that the models' servers are known for."""
    servers = {contract.server for contract in contracts} or {contracts_of.TORCHSERVE}
    return tuple(listed) or tuple(
        protocol for server in _KNOWN_FOR if server in servers for protocol in _KNOWN_FOR[server]
    )


def find_endpoints(protocols: Sequence[str], contracts: Sequence[Contract]) -> tuple[Endpoint, ...]:
    """Return everything that can be asked for, the readiness check last."""
    found = [one for protocol in protocols for one in _FINDERS[protocol](select_contracts((protocol,), contracts))]
    return (*found, torchserve.find_health())


def select_contracts(protocols: Sequence[str], contracts: Sequence[Contract]) -> tuple[Contract, ...]:
    """Return the contracts of the models that can be asked by any of these protocols."""
    servers = {_SERVERS[protocol] for protocol in protocols}
    return tuple(contract for contract in contracts if contract.server in servers)


def guarded(protocols: Sequence[str]) -> tuple[str, ...]:
    """Return the prefixes of all paths for which clients have to say who they are."""
    return tuple(dict.fromkeys(prefix for protocol in protocols for prefix in _PREFIXES[protocol]))


def speaks_grpc(protocols: Sequence[str]) -> bool:
    """Say whether any of the protocols is gRPC."""
    return any(protocol in guard.METHODS for protocol in protocols)
