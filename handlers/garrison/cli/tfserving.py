"""`garrison tfserving run`: TensorFlow Serving with the store's SavedModels, for a guard elsewhere."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from garrison.cli.options import (
    absolute,
    add_command,
    add_log,
    add_places,
    find_config,
    find_store,
    find_trust,
    open_log,
)
from garrison.errors import EXIT_OK

BINARY = Path("/usr/bin/tensorflow_model_server")


def add_commands(commands: Any) -> None:
    """Add the commands of this part."""
    summary = "Run TensorFlow Serving with what was admitted, on a unix socket alone."
    server = commands.add_parser("tfserving", help=summary, description=summary)
    actions = server.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_run(actions)


def tfserving_run(options: argparse.Namespace) -> int:
    """Run TensorFlow Serving until interrupted."""
    from garrison.admission.serving import open_store
    from garrison.admission.sign.trust import load_trust
    from garrison.admission.store import Store
    from garrison.contract import TFSERVING
    from garrison.eventlog import EventLog
    from garrison.stack.part import Lifetime
    from garrison.stack.runner import Runner
    from garrison.stack.tfserving import TensorFlowPart

    os.umask(0o077)  # sockets and copies are for this user only
    store, trust = find_store(options), find_trust(options)
    with open_log(options.log) as stream:
        lifetime = Lifetime(EventLog(stream, sys.stderr))
        part = TensorFlowPart(
            lambda: open_store(Store(store), load_trust(trust), server=TFSERVING),
            options.binary,
            find_config(options),
            options.sockets,
            lifetime,
        )
        runner = Runner([part], lifetime, options.run_dir)
        runner.handle_signals()
        runner.prepare()
        runner.run()
    return EXIT_OK


def _add_run(actions: Any) -> None:
    example = "garrison tfserving run --sockets /sockets/tfserving --run-dir /run/garrison"
    summary = "Run TensorFlow Serving until interrupted (Ctrl-C)."
    run = add_command(actions, "run", tfserving_run, summary, example)
    sockets_help = "directory where its socket for the guard is made, open to the directory's group"
    run.add_argument("--sockets", type=absolute, required=True, metavar="DIR", help=sockets_help)
    binary_help = "tensorflow_model_server, as the image tensorflow/serving holds it (default: %(default)s)"
    run.add_argument("--binary", type=absolute, default=BINARY, metavar="FILE", help=binary_help)
    run_help = "empty directory for the copies of the models, removed at the end (default: a new one in $TMPDIR)"
    run.add_argument("--run-dir", type=Path, metavar="DIR", help=run_help)
    add_places(run)
    add_log(run)
