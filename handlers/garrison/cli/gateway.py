"""`garrison gateway`: render Envoy's configuration, and run Envoy with it in a container of its own."""

import argparse
import ipaddress
import os
import sys
from typing import Any

from garrison.cli.explain import add_explain
from garrison.cli.options import (
    RUN_DIRECTORY,
    absolute,
    add_command,
    add_log,
    add_places,
    add_port,
    find_config,
    find_store,
    find_trust,
    open_log,
)
from garrison.errors import EXIT_OK

FILE_MODE = 0o644  # it holds no secret, and the gateway is another user


def add_commands(commands: Any) -> None:
    """Add the commands of this part."""
    summary = "Render the gateway's configuration, explain it, and run the gateway alone."
    gateway = commands.add_parser("gateway", help=summary, description=summary)
    actions = gateway.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_render(actions)
    _add_run(actions)
    add_explain(actions)


def gateway_render(options: argparse.Namespace) -> int:
    """Write the Envoy configuration for the models of the store."""
    from garrison.admission.serving import open_store
    from garrison.admission.sign.trust import load_trust
    from garrison.admission.store import Store
    from garrison.files import write_atomically
    from garrison.gateway.source import GatewaySockets
    from garrison.gateway.upstreams import GuardSockets, ServerSockets
    from garrison.sockets import ADMIN
    from garrison.stack.local import GatewayPlaces, render_gateway, write_config

    store, trust = find_store(options), find_trust(options)
    models = tuple(model.packed for model in open_store(Store(store), load_trust(trust)))
    servers = tuple(ServerSockets.in_directory(directory) for directory in options.sockets or [options.run_dir])
    guards = tuple(GuardSockets.in_directory(directory) for directory in options.guard)
    places = GatewayPlaces(
        find_config(options),
        options.state,
        options.port,
        options.address or "",
        metrics_address=options.metrics_address or "",
    )
    written = write_config(render_gateway(places, models, GatewaySockets(servers, options.run_dir / ADMIN, guards)))
    if options.output is None:
        sys.stdout.write(written.decode())
    else:
        write_atomically(options.output, written, FILE_MODE)
        names = ", ".join(model.contract.model for model in models)
        print(f"wrote {options.output}: {names}; servers: {len(servers)}", file=sys.stderr)
    return EXIT_OK


def gateway_run(options: argparse.Namespace) -> int:
    """Run Envoy with a rendered configuration until interrupted."""
    from garrison.eventlog import EventLog
    from garrison.gateway.rendered import read_rendered
    from garrison.stack.gateway import GatewayPart
    from garrison.stack.part import Lifetime
    from garrison.stack.runner import Runner

    os.umask(0o077)  # sockets are for this user only
    with open_log(options.log) as stream:
        lifetime = Lifetime(EventLog(stream, sys.stderr))
        run_directory = read_rendered(options.file).admin.parent
        runner = Runner([GatewayPart(options.file, lifetime, options.audit)], lifetime, run_directory)
        runner.handle_signals()
        runner.prepare()
        runner.run()
    return EXIT_OK


def _add_render(actions: Any) -> None:
    example = "garrison gateway render --sockets /sockets/torchserve --output envoy.json"
    summary = "Write the Envoy configuration for the models of the store."
    render = add_command(actions, "render", gateway_render, summary, example)
    add_port(render)
    address_help = "where the gateway listens (default: as in gateway.yaml)"
    render.add_argument("--address", type=_address, metavar="IP", help=address_help)
    metrics_help = "tell metrics there, on the port of gateway.yaml or 9464 (default: as in gateway.yaml, else nowhere)"
    render.add_argument("--metrics-address", type=_address, metavar="IP", help=metrics_help)
    sockets_help = "a model server's directory of sockets; once for each of several servers alike (default: --run-dir)"
    render.add_argument("--sockets", type=absolute, action="append", metavar="DIR", help=sockets_help)
    guard_help = "a guard's directory of sockets, for the protocols that it speaks; once for each of several alike"
    render.add_argument("--guard", type=absolute, action="append", default=[], metavar="DIR", help=guard_help)
    run_help = "the gateway's run directory, with its admin socket (default: %(default)s)"
    render.add_argument("--run-dir", type=absolute, default=RUN_DIRECTORY, metavar="DIR", help=run_help)
    output_help = "write it there, all at once (default: standard output)"
    render.add_argument("--output", type=absolute, metavar="FILE", help=output_help)
    add_places(render)


def _add_run(actions: Any) -> None:
    summary = "Run the gateway alone, with a rendered configuration, until interrupted (Ctrl-C)."
    run = add_command(actions, "run", gateway_run, summary, "garrison gateway run envoy.json")
    run.add_argument("file", type=absolute, metavar="FILE", help="what `garrison gateway render --output` wrote")
    audit_help = "append to this chained log which configurations came in force, or were refused (default: none)"
    run.add_argument("--audit", type=absolute, metavar="FILE", help=audit_help)
    add_log(run)


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not an IP address") from error
