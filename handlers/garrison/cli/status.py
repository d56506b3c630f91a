"""`garrison status`: is a server, the guard, or the gateway ready? The health check of the images."""

import argparse
from pathlib import Path
from typing import Any

from garrison.cli.options import RUN_DIRECTORY, add_command, add_json, escape
from garrison.errors import EXIT_OK, EXIT_REFUSED


def add_commands(commands: Any) -> None:
    """Add the command."""
    example = "garrison status --sockets /sockets/torchserve\n  garrison status --gateway"
    summary = "Say whether a server, a guard or a gateway is ready: exit status 0 if it is, 1 if not."
    parser = add_command(commands, "status", status, summary, example)
    which = parser.add_mutually_exclusive_group()
    sockets_help = "ask the server that was given this directory (default: --run-dir)"
    which.add_argument("--sockets", type=Path, metavar="DIR", help=sockets_help)
    guard_help = "ask each process of the guard that was given this directory"
    which.add_argument("--guard", type=Path, metavar="DIR", help=guard_help)
    which.add_argument("--gateway", action="store_true", help="ask the gateway instead")
    run_help = "the run directory of the server or the gateway (default: %(default)s)"
    parser.add_argument("--run-dir", type=Path, default=RUN_DIRECTORY, metavar="DIR", help=run_help)
    add_json(parser, "print an object")


def status(options: argparse.Namespace) -> int:
    """Ask, and say it in one line; then one for each model, if the server was asked in its run directory."""
    from garrison.stack.status import ask_gateway, ask_guard, ask_server

    if options.gateway:
        found = ask_gateway(options.run_dir)
    elif options.guard:
        found = ask_guard(options.guard)
    else:
        found = ask_server(options.sockets or options.run_dir)
    lines = [found.as_json()] if options.json else [found.message, *(f"  {one.sentence()}" for one in found.models)]
    for line in lines:
        print(escape(line, keep=""))
    return EXIT_OK if found.ready else EXIT_REFUSED
