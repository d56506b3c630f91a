"""Everything on one machine: what is admitted enters, the parts of a run leave, each only where it is needed.

TorchServe             where there are models for it
TensorFlow Serving     where there are SavedModels, with a binary that the caller names
the guard              in front of TensorFlow Serving, and of TorchServe where its gRPC is spoken
the gateway            in front of all
the monitoring         of all, where it is wanted
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from garrison.admission.store import AdmittedModel
from garrison.contract import TFSERVING, TORCHSERVE
from garrison.errors import ConfigError
from garrison.gateway.routes import choose_protocols, select_contracts
from garrison.gateway.settings import GUARD_PROTOCOLS, TORCHSERVE_GRPC
from garrison.stack.admitted import ServerSettings, open_admitted
from garrison.stack.guard import GuardPart, GuardPlaces
from garrison.stack.local import Behind, GatewayPlaces, LocalGatewayPart
from garrison.stack.monitoring import Monitoring, make_monitoring
from garrison.stack.part import Lifetime, Part
from garrison.stack.server import ServerPart
from garrison.stack.tfserving import OWN_SOCKETS, TensorFlowPart

_RUN_DIRECTORY = Path()  # where TorchServe makes its sockets, as seen from there
_SPOKEN = {TORCHSERVE: "torchserve", TFSERVING: "tfserving-rest and tfserving-grpc"}


@dataclass(frozen=True)
class Embedded:
    """Where everything is: the models, the gateway's files, TensorFlow Serving's binary or None, what is private.

    `monitoring`, where it is wanted, watches a gateway that tells metrics: see `GatewayPlaces`.
    """

    settings: ServerSettings
    gateway: GatewayPlaces
    binary: Path | None
    private: Path
    monitoring: Monitoring | None = None


def make_parts(embedded: Embedded, lifetime: Lifetime) -> list[Part]:
    """Admit what is to be served, and return the parts of the run.

    Raises:
        ConfigError: something is missing that the models need, or no protocol leads to one of them.
        ArtifactRefused: models are refused, or one was changed.
    """
    models = open_admitted(embedded.settings, lifetime.log)
    contracts = [model.packed.contract for model in models]
    protocols = choose_protocols(embedded.gateway.settings().protocols, contracts)
    check_protocols(protocols, models)
    behind = {server: _select(models, server) for server in (TORCHSERVE, TFSERVING)}
    parts: list[Part] = []
    server = None
    if behind[TORCHSERVE]:
        server = ServerPart(embedded.settings, (embedded.private,), lifetime, behind[TORCHSERVE])
        parts.append(server)
    if behind[TFSERVING]:
        parts.append(_make_tensorflow(embedded, behind[TFSERVING], lifetime))
    guards = _make_guards(protocols, behind, lifetime)
    packed = tuple(model.packed for model in models)
    monitoring = _make_monitoring(embedded, int(server is not None), len(guards), lifetime)
    gateway = LocalGatewayPart(embedded.gateway, Behind(packed, server, guards), lifetime)
    return [*monitoring, *parts, *guards, gateway]


def check_protocols(protocols: Sequence[str], models: Sequence[AdmittedModel]) -> None:
    """Check that each model can be asked, and that each protocol has models.

    Raises:
        ConfigError: with every problem found.
    """
    contracts = [model.packed.contract for model in models]
    reached = select_contracts(protocols, contracts)
    problems = [
        f"gateway.yaml: protocols: none that is there leads to {contract.model}; add {_SPOKEN[contract.server]}"
        for contract in contracts
        if contract not in reached
    ]
    problems += [
        f"gateway.yaml: protocols: {protocol}: there is no model for it; take it out, or admit one"
        for protocol in protocols
        if not select_contracts((protocol,), contracts)
    ]
    if problems:
        raise ConfigError(*problems)


def _select(models: Sequence[AdmittedModel], server: str) -> tuple[AdmittedModel, ...]:
    return tuple(model for model in models if model.packed.contract.server == server)


def _make_tensorflow(embedded: Embedded, models: Sequence[AdmittedModel], lifetime: Lifetime) -> TensorFlowPart:
    if embedded.binary is None:
        names = ", ".join(model.record.model for model in models)
        advice = (
            "give its binary with --tensorflow-model-server FILE (the image tensorflow/serving holds it as "
            "/usr/bin/tensorflow_model_server), or run containers: docker compose --profile tfserving up"
        )
        raise ConfigError(f"{names}: needs TensorFlow Serving, which is not on PyPI; {advice}")
    return TensorFlowPart(lambda: models, embedded.binary, embedded.settings.config, None, lifetime)


def _make_guards(
    protocols: Sequence[str], behind: dict[str, tuple[AdmittedModel, ...]], lifetime: Lifetime
) -> tuple[GuardPart, ...]:
    """Return the guard's one process, if any of its protocols is spoken."""
    if not {*protocols} & {*GUARD_PROTOCOLS}:
        return ()
    torchserve = _RUN_DIRECTORY if TORCHSERVE_GRPC in protocols else None
    backend = Path(OWN_SOCKETS) if behind[TFSERVING] else None
    places = GuardPlaces(None, backend, torchserve)
    return (GuardPart(places, 0, lambda: [*behind[TORCHSERVE], *behind[TFSERVING]], lifetime),)


def _make_monitoring(embedded: Embedded, servers: int, guards: int, lifetime: Lifetime) -> list[Part]:
    """Return what watches: started before all others, so that it sees them begin, and stopped after them."""
    listener = embedded.gateway.settings().metrics
    if embedded.monitoring is None or listener is None:
        return []
    return make_monitoring(embedded.monitoring, listener, servers, guards, lifetime)
