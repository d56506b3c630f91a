"""`garrison serve`, `keys` and `gateway`: run the stack, and what its gateway needs."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from garrison.cli.options import (
    add_command,
    add_config,
    add_json,
    add_places,
    add_state,
    find_config,
    find_store,
    find_trust,
)
from garrison.errors import EXIT_OK, ConfigError


def add_commands(commands: Any) -> None:
    """Add the commands of this part."""
    _add_serve(commands)
    _add_keys(commands)
    _add_gateway(commands)


def serve(options: argparse.Namespace) -> int:
    """Admit what is to be served, and run TorchServe and the gateway until interrupted."""
    from garrison.eventlog import EventLog
    from garrison.stack import Stack, StackSettings, handle_signals

    os.umask(0o077)  # sockets and rendered files are for this user only
    with open_log(options.log) as stream:
        places = (options.models, find_store(options), find_trust(options), find_config(options), options.state)
        settings = StackSettings(*places, options.port, options.run_dir)
        if options.unsafe_development:
            _ensure_client_keys(options.state / "keys")
        stack = Stack(settings, EventLog(stream, sys.stderr))
        handle_signals(stack)
        stack.prepare()
        stack.run()
    return EXIT_OK


def _ensure_client_keys(directory: Path) -> None:
    """Make the pair that signs clients' keys, if there is none; in production its private half lies elsewhere."""
    from garrison.gateway.keys import PUBLIC_FILE, init_keys

    if not (directory / PUBLIC_FILE).exists():
        init_keys(directory)
        advice = "let a client in with: garrison keys issue demo --models NAME --expires 1d"
        print(f"garrison: made {directory}, which signs clients' keys; {advice}", file=sys.stderr)


def open_log(path: Path | None) -> Any:
    """Open the file that takes the log lines, or standard output.

    Raises:
        ConfigError: the file cannot be written.
    """
    try:
        return os.fdopen(os.dup(sys.stdout.fileno()), "wb") if path is None else path.open("ab")
    except OSError as error:
        name = path or "standard output"
        raise ConfigError(f"{name}: cannot be written ({error.strerror}); give another --log") from error


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
    from garrison.gateway.keys import issue_key, parse_duration
    from garrison.gateway.settings import check_issue

    models = tuple(name for name in options.models.split(",") if name)
    check_issue(find_config(options) / "clients.yaml", options.client, models)
    key = issue_key(options.state / "keys", options.client, models, parse_duration(options.expires))
    if options.json:
        expires_at = key.expires_at.isoformat()
        print(json.dumps({"key": key.token, "client": key.client, "models": key.models, "expires_at": expires_at}))
        return EXIT_OK
    print(key.token)
    print(
        f"key for {key.client}: models {', '.join(key.models)}, until {key.expires_at:%Y-%m-%d %H:%M} UTC",
        file=sys.stderr,
    )
    return EXIT_OK


def gateway_render(options: argparse.Namespace) -> int:
    """Print the Envoy configuration that `serve` would use."""
    from garrison.admission.serving import open_store
    from garrison.admission.sign.trust import load_trust
    from garrison.admission.store import Store
    from garrison.gateway.certificates import ensure_certificate
    from garrison.stack import StackSettings, gateway_sockets, render_gateway

    store, trust = find_store(options), find_trust(options)
    settings = StackSettings(None, store, trust, find_config(options), options.state, options.port)
    models = tuple(model.packed for model in open_store(Store(store), load_trust(trust)))
    certificate = ensure_certificate(options.state / "certificates")
    print(json.dumps(render_gateway(settings, models, certificate, gateway_sockets(options.run_dir)), indent=2))
    return EXIT_OK


def _add_serve(commands: Any) -> None:
    example = "garrison serve --models build/models --port 8443"
    parser = add_command(commands, "serve", serve, "Serve admitted models until interrupted (Ctrl-C).", example)
    models_help = "packed and signed models: admit these first, and serve them only (default: serve all of the store)"
    parser.add_argument("--models", type=Path, metavar="DIR", help=models_help)
    parser.add_argument("--port", type=_port, default=8443, help="the gateway's TCP port (default: %(default)s)")
    add_places(parser)
    run_help = (
        "empty directory for sockets and scratch files, removed at the end (default: a new one in $TMPDIR); "
        "give one where `garrison posture --run-dir` or the metrics are wanted"
    )
    parser.add_argument("--run-dir", type=Path, metavar="DIR", help=run_help)
    parser.add_argument("--log", type=Path, metavar="FILE", help="append the JSON log there (default: standard output)")


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


def _add_gateway(commands: Any) -> None:
    summary = "Work with the gateway's configuration."
    gateway = commands.add_parser("gateway", help=summary, description=summary)
    actions = gateway.add_subparsers(title="commands", metavar="COMMAND", required=True)
    example = "garrison gateway render > envoy.json"
    render = add_command(
        actions, "render", gateway_render, "Print the Envoy configuration that serve would use.", example
    )
    render.add_argument("--port", type=_port, default=8443, help="the gateway's TCP port (default: %(default)s)")
    run_help = "directory of the sockets (default: %(default)s)"
    render.add_argument("--run-dir", type=Path, default=Path("/run/garrison"), metavar="DIR", help=run_help)
    add_places(render)


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 1 to 65535")
    return int(text)
