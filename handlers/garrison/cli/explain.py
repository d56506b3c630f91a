"""`garrison gateway explain`: who may call what, in plain words or as JSON."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from garrison.cli.options import add_command, add_json, add_places, escape, find_config, find_store, find_trust
from garrison.errors import EXIT_OK, ConfigError

if TYPE_CHECKING:
    from garrison.contract import Contract
    from garrison.gateway.clients import ClientLimits
    from garrison.gateway.explanation import ClientAccess, Explanation, ModelAccess


def add_explain(actions: Any) -> None:
    """Add the command."""
    summary = "Say in plain words who may call what, by which ways and within which limits."
    parser = add_command(actions, "explain", gateway_explain, summary, "garrison gateway explain --models build/models")
    models_help = "explain with the packed models there, which need not be admitted (default: those of the store)"
    parser.add_argument("--models", type=Path, metavar="DIR", help=models_help)
    add_places(parser)
    add_json(parser, "print it as one JSON object")


def gateway_explain(options: argparse.Namespace) -> int:
    """Explain the gateway that would be rendered now."""
    from garrison.gateway.clients import load_clients
    from garrison.gateway.explanation import explain_gateway
    from garrison.gateway.settings import load_gateway

    config = find_config(options)
    settings, clients = load_gateway(config / "gateway.yaml"), load_clients(config / "clients.yaml")
    explanation = explain_gateway(settings, clients, _load_contracts(options))
    if options.json:
        print(json.dumps(dataclasses.asdict(explanation)))
        return EXIT_OK
    print(escape("\n".join(_tell(explanation))))
    for warning in explanation.warnings:
        print(escape(f"garrison: warning: {warning}"), file=sys.stderr)
    return EXIT_OK


def _load_contracts(options: argparse.Namespace) -> "tuple[Contract, ...]":
    from garrison.admission.admit import find_sources
    from garrison.admission.serving import open_store
    from garrison.admission.sign.trust import load_trust
    from garrison.admission.store import Store
    from garrison.archive import CONTRACT_FILE
    from garrison.contract import load_contract

    if options.models is None:
        models = open_store(Store(find_store(options)), load_trust(find_trust(options)))
        return tuple(model.packed.contract for model in models)
    sources = find_sources(options.models)
    for source in sources:
        if not source.is_dir():
            raise ConfigError(f"{source}: is an archive; admit it, and leave --models out")
    return tuple(load_contract(source / CONTRACT_FILE) for source in sources)


def _tell(explanation: "Explanation") -> Iterator[str]:
    yield f"listens on {explanation.address}, TLS {explanation.tls_profile}, for {', '.join(explanation.protocols)}"
    yield f"ways in: {_either(explanation.ways)}"
    for model, ways in explanation.ways_of_models.items():
        yield f"ways in for {model}: {_either(ways)}"
    yield f"open to everybody: {', '.join(explanation.open)}"
    if not explanation.clients:
        yield "no client is listed: everybody is refused"
    for client in explanation.clients:
        yield ""
        yield from _tell_client(client)


def _tell_client(client: "ClientAccess") -> Iterator[str]:
    yield f"client {client.client}"
    yield f"  all models together: {_tell_limits(client.limits)}"
    for kind, reason in client.closed_kinds.items():
        yield f"  not by {kind}: {reason}"
    for model in client.models:
        yield from _tell_model(model)


def _tell_model(model: "ModelAccess") -> Iterator[str]:
    if not model.version:
        yield f"  {model.model}: nothing, as it is not admitted"
        return
    by = f"by {_either(model.ways)}" if model.ways else "by no way"
    limits = _tell_limits(model.limits)
    yield f"  {model.model} {model.version}, {by}" + (f"; {limits}" if limits else "")
    for verb, addresses in model.addresses.items():
        if addresses:
            yield f"    {verb}: {', '.join(addresses)}"
    nowhere = [verb for verb, addresses in model.addresses.items() if not addresses]
    if nowhere:
        yield f"    {', '.join(nowhere)}: no route"


def _either(ways: Sequence[str]) -> str:
    joint = ", or " if any("+" in way for way in ways) else " or "
    return joint.join(way.replace("+", " and ") for way in ways)


def _tell_limits(limits: "ClientLimits") -> str:
    told = {
        "requests_per_second": "{:,} requests a second",
        "burst": "{:,} after a pause",
        "concurrent": "{:,} at the same time",
        "bytes_per_minute": "{:,} bytes a minute",
        "queries_per_day": "{:,} queries a day",
    }
    values = dataclasses.asdict(limits)
    return ", ".join(text.format(values[name]) for name, text in told.items() if values[name] is not None)
