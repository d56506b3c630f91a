"""`garrison guard run`: the guard in front of TensorFlow Serving, and of TorchServe's gRPC."""

import argparse
import functools
import os
import sys
from pathlib import Path
from typing import Any

from garrison.cli.options import absolute, add_command, add_log, add_places, find_store, find_trust, open_log
from garrison.errors import EXIT_OK, ConfigError

MAX_PROCESSES = 64


def add_commands(commands: Any) -> None:
    """Add the commands of this part."""
    summary = "Run the guard: TensorFlow Serving's REST and gRPC, and TorchServe's gRPC, behind the contracts."
    guard = commands.add_parser("guard", help=summary, description=summary)
    actions = guard.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_run(actions)


def guard_run(options: argparse.Namespace) -> int:
    """Run the guard's processes until interrupted."""
    from garrison.admission.serving import open_store
    from garrison.admission.sign.trust import load_trust
    from garrison.admission.store import Store
    from garrison.eventlog import EventLog
    from garrison.stack.guard import GuardPart, GuardPlaces, check_sockets
    from garrison.stack.part import Lifetime
    from garrison.stack.runner import Runner

    if options.backend is None and options.torchserve is None:
        raise ConfigError("the guard has nobody to ask; give --backend, --torchserve, or both")
    os.umask(0o077)  # sockets and contracts are for this user only
    store, trust = find_store(options), find_trust(options)
    find_models = functools.cache(lambda: open_store(Store(store), load_trust(trust)))
    check_sockets(options.sockets)
    with open_log(options.log) as stream:
        lifetime = Lifetime(EventLog(stream, sys.stderr))
        places = GuardPlaces(options.sockets, options.backend, options.torchserve)
        parts = [GuardPart(places, index, find_models, lifetime) for index in range(options.processes)]
        runner = Runner(parts, lifetime, options.run_dir)
        runner.handle_signals()
        runner.prepare()
        runner.run()
    return EXIT_OK


def _add_run(actions: Any) -> None:
    example = "garrison guard run --sockets /sockets/guard --backend /sockets/tfserving --processes 2"
    summary = "Run the guard until interrupted (Ctrl-C)."
    run = add_command(actions, "run", guard_run, summary, example)
    sockets_help = "directory where process i makes its sockets in the directory i, open to the group of both"
    run.add_argument("--sockets", type=absolute, required=True, metavar="DIR", help=sockets_help)
    backend_help = "TensorFlow Serving's directory of sockets, see `garrison tfserving run`"
    run.add_argument("--backend", type=absolute, metavar="DIR", help=backend_help)
    torchserve_help = "TorchServe's directory of sockets, to speak its gRPC"
    run.add_argument("--torchserve", type=absolute, metavar="DIR", help=torchserve_help)
    processes_help = "processes, each with a part of the requests: one for each processor core (default: %(default)s)"
    run.add_argument("--processes", type=_processes, default=1, metavar="N", help=processes_help)
    run_help = "empty directory for the contracts, removed at the end (default: a new one in $TMPDIR)"
    run.add_argument("--run-dir", type=Path, metavar="DIR", help=run_help)
    add_places(run)
    add_log(run)


def _processes(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_PROCESSES:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {MAX_PROCESSES}")
    return int(text)
