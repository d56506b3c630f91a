"""`garrison serve`: run the stack, or the model server of it alone."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from garrison.cli.options import (
    absolute,
    add_command,
    add_log,
    add_places,
    add_port,
    find_config,
    find_store,
    find_trust,
    open_log,
    port,
)
from garrison.errors import EXIT_OK, ConfigError

if TYPE_CHECKING:
    from garrison.stack.admitted import ServerSettings
    from garrison.stack.part import Lifetime, Part


def add_commands(commands: Any) -> None:
    """Add the commands of this part."""
    _add_serve(commands)


def serve(options: argparse.Namespace) -> int:
    """Admit what is to be served, and run its servers and the gateway until interrupted; or TorchServe alone."""
    from garrison.eventlog import EventLog
    from garrison.stack.part import Lifetime
    from garrison.stack.runner import Runner

    if options.sockets is not None and not options.server_only:
        raise ConfigError("--sockets: the gateway beside a server looks in --run-dir; write --server-only, too")
    if options.monitoring is not None and options.server_only:
        raise ConfigError("--monitoring: watches what a gateway tells; leave it out, or --server-only")
    os.umask(0o077)  # sockets and rendered files are for this user only
    with open_log(options.log) as stream:
        lifetime = Lifetime(EventLog(stream, sys.stderr))
        parts = _make_server(options, lifetime) if options.server_only else _make_stack(options, lifetime)
        runner = Runner(parts, lifetime, options.run_dir)
        runner.handle_signals()
        runner.prepare()
        runner.run()
    return EXIT_OK


def _find_settings(options: argparse.Namespace) -> "ServerSettings":
    from garrison.stack.admitted import ServerSettings

    places = (options.models, find_store(options), find_trust(options), find_config(options), options.sockets)
    return ServerSettings(*places)


def _make_server(options: argparse.Namespace, lifetime: "Lifetime") -> list["Part"]:
    from garrison.stack.server import ServerPart

    return [ServerPart(_find_settings(options), (options.state,), lifetime)]


def _make_stack(options: argparse.Namespace, lifetime: "Lifetime") -> list["Part"]:
    """Return the parts that the models need, and the gateway in front of them."""
    from garrison.stack.embedded import Embedded, make_parts
    from garrison.stack.local import GatewayPlaces
    from garrison.stack.monitoring import Monitoring

    config, wanted = find_config(options), options.monitoring
    gateway = GatewayPlaces(config, options.state, options.port, watched=wanted is not None)
    monitoring = None if wanted is None else Monitoring(config, options.state, wanted)
    embedded = Embedded(_find_settings(options), gateway, options.tensorflow_model_server, options.state, monitoring)
    if options.unsafe_development:
        _ensure_client_keys(options.state / "keys")
    return make_parts(embedded, lifetime)


def _ensure_client_keys(directory: Path) -> None:
    """Make the pair that signs clients' keys, if there is none; in production its private half lies elsewhere."""
    from garrison.gateway.keys import init_keys
    from garrison.gateway.signing import PUBLIC_FILE

    if not (directory / PUBLIC_FILE).exists():
        init_keys(directory)
        advice = "let a client in with: garrison keys issue demo --models NAME --expires 1d"
        print(f"garrison: made {directory}, which signs clients' keys; {advice}", file=sys.stderr)


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
    binary_help = "TensorFlow Serving's binary, where SavedModels are served; the image tensorflow/serving holds it"
    parser.add_argument("--tensorflow-model-server", type=absolute, metavar="FILE", help=binary_help)
    watch_help = (
        "start Prometheus and Alertmanager, too, where they are installed: on 127.0.0.1, at PORT (default: %(const)s) "
        "and three above it"
    )
    parser.add_argument("--monitoring", nargs="?", type=port, const=9090, metavar="PORT", help=watch_help)
    add_places(parser)
    run_help = (
        "empty directory for sockets and scratch files, removed at the end (default: a new one in $TMPDIR); "
        "give one where `garrison posture --run-dir` or the metrics are wanted"
    )
    parser.add_argument("--run-dir", type=Path, metavar="DIR", help=run_help)
    add_log(parser)
