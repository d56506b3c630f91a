"""`garrison serve` and `keys`: run the stack, or the model server of it alone; make what lets clients in."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from garrison.cli.options import (
    absolute,
    add_command,
    add_config,
    add_json,
    add_log,
    add_places,
    add_port,
    add_state,
    find_config,
    find_store,
    find_trust,
    open_log,
)
from garrison.errors import EXIT_OK, ConfigError

if TYPE_CHECKING:
    from garrison.stack.part import Lifetime, Part
    from garrison.stack.server import ServerPart


def add_commands(commands: Any) -> None:
    """Add the commands of this part."""
    _add_serve(commands)
    _add_keys(commands)


def serve(options: argparse.Namespace) -> int:
    """Admit what is to be served, and run TorchServe and the gateway until interrupted; or TorchServe alone."""
    from garrison.eventlog import EventLog
    from garrison.stack.admitted import ServerSettings
    from garrison.stack.part import Lifetime
    from garrison.stack.runner import Runner
    from garrison.stack.server import ServerPart

    if options.sockets is not None and not options.server_only:
        raise ConfigError("--sockets: the gateway beside a server looks in --run-dir; write --server-only, too")
    os.umask(0o077)  # sockets and rendered files are for this user only
    with open_log(options.log) as stream:
        places = (options.models, find_store(options), find_trust(options), find_config(options), options.sockets)
        lifetime = Lifetime(EventLog(stream, sys.stderr))
        server = ServerPart(ServerSettings(*places), (options.state,), lifetime)
        parts = [server] if options.server_only else [server, _make_gateway(options, server, lifetime)]
        runner = Runner(parts, lifetime, options.run_dir)
        runner.handle_signals()
        runner.prepare()
        runner.run()
    return EXIT_OK


def _make_gateway(options: argparse.Namespace, server: "ServerPart", lifetime: "Lifetime") -> "Part":
    from garrison.stack.local import GatewayPlaces, LocalGatewayPart

    if options.unsafe_development:
        _ensure_client_keys(options.state / "keys")
    return LocalGatewayPart(GatewayPlaces(find_config(options), options.state, options.port), server, lifetime)


def _ensure_client_keys(directory: Path) -> None:
    """Make the pair that signs clients' keys, if there is none; in production its private half lies elsewhere."""
    from garrison.gateway.keys import PUBLIC_FILE, init_keys

    if not (directory / PUBLIC_FILE).exists():
        init_keys(directory)
        advice = "let a client in with: garrison keys issue demo --models NAME --expires 1d"
        print(f"garrison: made {directory}, which signs clients' keys; {advice}", file=sys.stderr)


def keys_init(options: argparse.Namespace) -> int:
    """Make the key pair that signs client keys."""
    from garrison.gateway.keys import init_keys

    directory = options.state / "keys"
    key_id = init_keys(directory)
    print(
        json.dumps({"directory": str(directory), "key_id": key_id}) if options.json else f"made {directory} ({key_id})"
    )
    return EXIT_OK


def keys_issue(options: argparse.Namespace) -> int:
    """Issue a key for one client."""
    from garrison.gateway.clients import check_issue, make_scopes
    from garrison.gateway.keys import issue_key, parse_duration

    models = tuple(name for name in options.models.split(",") if name)
    scopes = make_scopes(models)
    check_issue(find_config(options) / "clients.yaml", options.client, scopes)
    key = issue_key(options.state / "keys", options.client, scopes, parse_duration(options.expires))
    until = key.record.expires_at
    if options.json:
        print(
            json.dumps(
                {
                    "key": key.token,
                    "client": key.record.client,
                    "scopes": key.record.scopes,
                    "expires_at": until.isoformat(),
                }
            )
        )
        return EXIT_OK
    print(key.token)
    print(f"key for {options.client}: models {', '.join(models)}, until {until:%Y-%m-%d %H:%M} UTC", file=sys.stderr)
    return EXIT_OK


def _add_serve(commands: Any) -> None:
    example = "garrison serve --models build/models --port 8443"
    parser = add_command(commands, "serve", serve, "Serve admitted models until interrupted (Ctrl-C).", example)
    models_help = "packed and signed models: admit these first, and serve them only (default: serve all of the store)"
    parser.add_argument("--models", type=Path, metavar="DIR", help=models_help)
    add_port(parser)
    only_help = "no gateway: it runs elsewhere, see `garrison gateway run`, and reaches the server by --sockets"
    parser.add_argument("--server-only", action="store_true", help=only_help)
    sockets_help = (
        "with --server-only: directory where the sockets for a gateway of another user are made, open to the "
        "directory's group (default: --run-dir, for this user alone)"
    )
    parser.add_argument("--sockets", type=absolute, metavar="DIR", help=sockets_help)
    add_places(parser)
    run_help = (
        "empty directory for sockets and scratch files, removed at the end (default: a new one in $TMPDIR); "
        "give one where `garrison posture --run-dir` or the metrics are wanted"
    )
    parser.add_argument("--run-dir", type=Path, metavar="DIR", help=run_help)
    add_log(parser)


def _add_keys(commands: Any) -> None:
    summary = "Make and issue client keys."
    keys = commands.add_parser("keys", help=summary, description=summary)
    actions = keys.add_subparsers(title="commands", metavar="COMMAND", required=True)
    init = add_command(actions, "init", keys_init, "Make the key pair that signs client keys.", "garrison keys init")
    example = "garrison keys issue demo --models digits --expires 90d"
    issue = add_command(actions, "issue", keys_issue, "Issue a key: for one client, some models, some time.", example)
    issue.add_argument("client", help="a client that config/clients.yaml lists")
    issue.add_argument("--models", required=True, metavar="NAME,NAME", help="the models that the key opens")
    issue.add_argument("--expires", required=True, metavar="TIME", help="how long it is valid: 30m, 12h, 90d")
    add_config(issue)
    for parser in (init, issue):
        add_state(parser)
        add_json(parser)
