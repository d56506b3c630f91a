"""Say who may call what, by which ways and within which limits: settings, clients and contracts enter, facts leave.

It says what a gateway that is rendered now would do. It knows nothing of single keys, which may allow less.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from garrison.contract import Contract
from garrison.gateway.authentication import KINDS, Authentication
from garrison.gateway.clients import VERBS, AllowedModel, Client, ClientLimits
from garrison.gateway.routes import Endpoint, choose_protocols, find_endpoints
from garrison.gateway.settings import GatewaySettings

NEEDS = {
    "key": "",
    "oidc": "it lists no subjects",
    "mtls": "it lists no certificates",
}


@dataclass(frozen=True)
class ModelAccess:
    """What a client may do with a model: `addresses` by verb, the ways that lead there, and why others do not."""

    model: str
    version: str  # empty if the model is not admitted
    addresses: dict[str, tuple[str, ...]]
    ways: tuple[str, ...]
    closed_ways: dict[str, str]
    limits: ClientLimits


@dataclass(frozen=True)
class ClientAccess:
    """What a client may do, and how it is known."""

    client: str
    closed_kinds: dict[str, str]  # kinds that some way accepts, but of nobody as this client: why
    limits: ClientLimits
    models: tuple[ModelAccess, ...]


@dataclass(frozen=True)
class Explanation:
    """Everything that a gateway lets anybody do."""

    address: str
    tls_profile: str
    protocols: tuple[str, ...]
    ways: tuple[str, ...]
    ways_of_models: dict[str, tuple[str, ...]]
    open: tuple[str, ...]
    clients: tuple[ClientAccess, ...]
    warnings: tuple[str, ...]


def explain_gateway(settings: GatewaySettings, clients: Sequence[Client], contracts: Sequence[Contract]) -> Explanation:
    """Explain what a gateway with these settings, clients and models does."""
    authentication = settings.authentication
    protocols = choose_protocols(settings.protocols, contracts)
    endpoints = find_endpoints(protocols, contracts)
    versions = {contract.model: contract.version for contract in contracts}
    return Explanation(
        address=settings.address,
        tls_profile=settings.tls_profile,
        protocols=protocols,
        ways=_name_ways(authentication.accept),
        ways_of_models={model: _name_ways(ways) for model, ways in authentication.models.items()},
        open=tuple(_name_endpoint(endpoint) for endpoint in endpoints if not endpoint.is_guarded),
        clients=tuple(_explain_client(client, authentication, endpoints, versions) for client in clients),
        warnings=tuple(dict.fromkeys(_find_warnings(authentication, clients, endpoints, versions))),
    )


def _explain_client(
    client: Client, authentication: Authentication, endpoints: Sequence[Endpoint], versions: dict[str, str]
) -> ClientAccess:
    closed = _find_closed(client, authentication)
    models = (_explain_model(model, authentication, closed, endpoints, versions) for model in client.models)
    return ClientAccess(client.name, closed, client.limits, tuple(models))


def _find_closed(client: Client, authentication: Authentication) -> dict[str, str]:
    listed = {"key": True, "oidc": bool(client.subjects), "mtls": bool(client.certificates)}
    return {kind: NEEDS[kind] for kind in KINDS if authentication.uses(kind) and not listed[kind]}


def _explain_model(
    model: AllowedModel,
    authentication: Authentication,
    closed: dict[str, str],
    endpoints: Sequence[Endpoint],
    versions: dict[str, str],
) -> ModelAccess:
    ways, closed_ways = [], {}
    for way in authentication.ways(model.name):
        reasons = [closed[kind] for kind in way if kind in closed]
        if reasons:
            closed_ways["+".join(way)] = " and ".join(reasons)
        else:
            ways.append("+".join(way))
    version = versions.get(model.name, "")
    addresses = {verb: _find_addresses(model.name, verb, endpoints) if version else () for verb in model.verbs}
    return ModelAccess(model.name, version, addresses, tuple(ways), closed_ways, model.limits)


def _find_addresses(model: str, verb: str, endpoints: Sequence[Endpoint]) -> tuple[str, ...]:
    """Return where a model answers a verb; where the message names the model, any model does."""
    return tuple(_name_endpoint(e) for e in endpoints if e.is_guarded and e.verb == verb and e.model in ("", model))


def _name_endpoint(endpoint: Endpoint) -> str:
    return f"{'|'.join(endpoint.methods)} {endpoint.path}"


def _name_ways(ways: Sequence[Sequence[str]]) -> tuple[str, ...]:
    return tuple("+".join(way) for way in ways)


def _find_warnings(
    authentication: Authentication,
    clients: Sequence[Client],
    endpoints: Sequence[Endpoint],
    versions: dict[str, str],
) -> Iterator[str]:
    """Yield what stands in the files without an effect, and what nobody can use."""
    for client in clients:
        yield from _warn_of_client(client, authentication, endpoints, versions)
    used = {model.name for client in clients for model in client.models}
    for model in sorted(versions.keys() - used):
        yield f"model {model}: no client lists it"
    for model in sorted(authentication.models.keys() - versions.keys()):
        yield f"gateway.yaml, authentication.models.{model}: the model is not admitted"
    if not clients:
        yield "clients.yaml: lists no client; everybody is refused"


def _warn_of_client(
    client: Client, authentication: Authentication, endpoints: Sequence[Endpoint], versions: dict[str, str]
) -> Iterator[str]:
    who = f"client {client.name}"
    for names, kind in ((client.subjects, "oidc"), (client.certificates, "mtls")):
        if names and not authentication.uses(kind):
            yield f"{who}: {names[0]} and the like have no effect: no way accepts {kind}"
    closed = _find_closed(client, authentication)
    for model in client.models:
        access = _explain_model(model, authentication, closed, endpoints, versions)
        if not access.version:
            yield f"{who}: lists {model.name}, which is not admitted"
            continue
        if not access.ways:
            why = "; ".join(f"{way}: {reason}" for way, reason in access.closed_ways.items())
            yield f"{who}: no way leads to {model.name}: {why}"
        if set(model.verbs) != set(VERBS):
            unused = [verb for verb in model.verbs if not access.addresses[verb]]
            yield from (f"{who}: {model.name}:{verb} opens nothing: there is no such route" for verb in unused)
        yield from _warn_of_limits(f"{who}, {model.name}", model.limits, client.limits)


def _warn_of_limits(who: str, of_model: ClientLimits, of_client: ClientLimits) -> Iterator[str]:
    for field in dataclasses.fields(ClientLimits):
        narrow, wide = getattr(of_model, field.name), getattr(of_client, field.name)
        if narrow is not None and wide is not None and narrow > wide:
            yield f"{who}: {field.name} {narrow} has no effect: the client's own for all models is {wide}"
