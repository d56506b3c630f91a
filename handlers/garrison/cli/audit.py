"""`garrison audit`: check the chained logs of admission, of clients' keys, and of the gateway's configuration."""

import argparse
import json
from pathlib import Path
from typing import Any

from garrison.cli.options import absolute, add_command, add_json, add_state, add_store, find_store
from garrison.errors import EXIT_OK


def add_commands(commands: Any) -> None:
    """Add the commands of this part."""
    summary = "Work with the audit logs: of the store, of clients' keys, of the gateway."
    audit = commands.add_parser("audit", help=summary, description=summary)
    actions = audit.add_subparsers(title="commands", metavar="COMMAND", required=True)
    about = "Check that no line of the logs was changed, taken out or put in."
    parser = add_command(actions, "verify", audit_verify, about, "garrison audit verify --store /srv/garrison/store")
    head_help = "the digest of a last line, kept elsewhere: tells whether the end was cut off; once for each log"
    parser.add_argument("--head", action="append", default=[], metavar="DIGEST", help=head_help)
    file_help = "this log alone, such as that of `gateway run --audit`, instead of those in --store and --state"
    parser.add_argument("--file", type=absolute, metavar="FILE", help=file_help)
    add_state(parser)
    add_store(parser)
    add_json(parser)


def audit_verify(options: argparse.Namespace) -> int:
    """Check that no line of an audit log was changed, taken out or put in."""
    from garrison.audit import verify_logs

    for path, summary in verify_logs(_find_logs(options), options.head).items():
        row = {"log": str(path), "entries": summary.entries, "half_written": summary.torn, "head": summary.head}
        torn = f"{summary.torn} lines half-written, as by a power cut, " if summary.torn else ""
        entries = "1 entry" if summary.entries == 1 else f"{summary.entries} entries"
        print(json.dumps(row) if options.json else f"{path}: whole: {entries}, {torn}head {summary.head}")
    return EXIT_OK


def _find_logs(options: argparse.Namespace) -> list[Path]:
    """Return the logs that are there; the store's, if none is: whoever reads it says so."""
    from garrison.audit import LOG_FILE

    if options.file is not None:
        return [options.file]
    places = [find_store(options), options.state / "keys", options.state]
    return [place / LOG_FILE for place in places if (place / LOG_FILE).exists()] or [places[0] / LOG_FILE]
