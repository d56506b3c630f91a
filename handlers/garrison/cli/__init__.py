"""The command line: `garrison <command>`. Arguments enter, an exit status leaves.

Exit 0: clean. 1: something was refused. 2: could not decide, or wrong use. 78: the configuration has to change.
Results go to standard output (with `--json`, one JSON object a line), everything said to a person to standard error.
"""

import argparse
import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from garrison import __version__
from garrison.cli import (
    admission,
    audit,
    gateway,
    guard,
    keys,
    models,
    posture,
    profile,
    report,
    serving,
    status,
    tfserving,
    top,
)
from garrison.cli.options import escape
from garrison.errors import EXIT_UNDECIDED, ConfigError, GarrisonError, Refused, Undecided, list_problems

EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    _prepare_streams()
    options = build_parser().parse_args(arguments)
    try:
        code: int = options.run(options)
        sys.stdout.flush()
        return code
    except GarrisonError as error:
        return report_error(error, as_json=getattr(options, "json", False))
    except ModuleNotFoundError as error:  # an image holds what its own commands need
        return report_error(ConfigError(_not_installed(error)), as_json=getattr(options, "json", False))
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # `garrison ... | head`: nobody read the end, so nobody may take it for a yes
        _discard_output()
        return EXIT_UNDECIDED
    except OSError as error:  # a full disk, a directory that may not be written
        _discard_output()
        return report_error(Undecided(str(error)), as_json=False)


def _prepare_streams() -> None:
    """Give print something to print to, whatever the shell closed and whichever characters the terminal knows."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - open until the process ends
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _not_installed(error: ModuleNotFoundError) -> str:
    return f"{error.name} is not installed here, and this command needs it; run it from the tools' image or a checkout"


def report_error(error: GarrisonError, *, as_json: bool) -> int:
    """Tell the person what has to change, and return the exit status for it."""
    if isinstance(error, ConfigError):
        problems = error.problems
    else:
        problems = (f"{error.reason}: {error.detail}" if isinstance(error, Refused) else str(error),)
    if as_json:
        print(json.dumps({"problems": problems, "exit": error.exit_code}))
    heading = "refused:" if isinstance(error, Refused) else "cannot go on:"
    print(escape(list_problems(f"garrison: {heading}", problems)), file=sys.stderr)
    return error.exit_code


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line; each command's `run` is the function that does it."""
    parser = argparse.ArgumentParser(
        prog="garrison",
        description="Serve models behind four gates: admission, gateway, contract, cell.",
        epilog="Exit status: 0 clean, 1 refused, 2 could not decide or wrong use, 78 bad configuration.",
    )
    parser.add_argument("--version", action="version", version=f"garrison {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    every = (models, profile, admission, audit, serving, keys, gateway, guard, tfserving, status, posture, top, report)
    for part in every:
        part.add_commands(commands)
    return parser


def _discard_output() -> None:
    """Point standard output at nothing, so that the interpreter does not fail on it once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
