"""`garrison posture`: what the cell holds on this machine, or in the workers of a running server."""

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from garrison.cli.options import absolute, add_command, add_config, add_json, escape, find_config
from garrison.errors import EXIT_OK, ConfigError, Undecided

if TYPE_CHECKING:
    from garrison.cell.posture import Posture
    from garrison.cell.settings import CellSettings
    from garrison.cell.status import Status

_MOST_SHOWN = 3  # --json has all


def add_commands(commands: Any) -> None:
    """Add the command."""
    example = "garrison posture\n  garrison posture --run-dir /run/garrison --json"
    summary = (
        "Try what a model's code could do in its cell: on this machine, or as found in a running server's workers."
    )
    parser = add_command(commands, "posture", posture, summary, example)
    add_config(parser)
    run_help = "what `serve --run-dir` was given: show the workers of that server, and what they tried since"
    parser.add_argument("--run-dir", type=absolute, metavar="DIR", help=run_help)
    add_json(parser)


def posture(options: argparse.Namespace) -> int:
    """Show a posture for each cell; fail if something that the settings require does not hold."""
    rows = _try_here(options) if options.run_dir is None else _read_workers(options.run_dir)
    if options.json:
        for row in rows:
            print(json.dumps(row))
    else:
        print(escape("\n\n".join("\n".join(_write_block(row)) for row in rows)))
    problems = [f"{row['model']}: {one}" if row["model"] else one for row in rows for one in row["problems"]]
    if problems:
        raise ConfigError(*dict.fromkeys(problems))
    return EXIT_OK


def _try_here(options: argparse.Namespace) -> list[dict[str, Any]]:
    from garrison.cell.probe import probe_posture
    from garrison.cell.settings import FILE, load_cell

    settings = load_cell(find_config(options) / FILE)
    return [_describe("", 0, "probe", probe_posture(settings), settings, {})]


def _read_workers(run_directory: Path) -> list[dict[str, Any]]:
    from garrison.cell.settings import RENDERED_FILE, read_rendered
    from garrison.cell.status import CLOSING, ENDED, read_statuses

    cells = run_directory / "cells"
    if not (cells / RENDERED_FILE).is_file():
        raise Undecided(f"{run_directory}: no server runs there; give the --run-dir of `garrison serve`")
    settings = read_rendered(cells / RENDERED_FILE)
    statuses = [status for status in read_statuses(cells) if status.stage not in (CLOSING, ENDED)]
    if not statuses:
        raise Undecided(f"{run_directory}: no worker is closed in there yet; ask again")
    return [_describe_status(status, settings) for status in statuses]


def _describe_status(status: "Status", settings: "CellSettings") -> dict[str, Any]:
    if status.posture is None:
        raise Undecided(f"a worker of {status.model}: what its supervisor says of it cannot be read")
    return _describe(status.model, status.pid, status.stage, status.posture, settings, dict(status.violations))


def _describe(
    model: str, pid: int, stage: str, found: "Posture", settings: "CellSettings", violations: dict[str, int]
) -> dict[str, Any]:
    from garrison.cell.landlock import list_gaps
    from garrison.cell.posture import find_faults, find_problems, render_posture

    return {
        "model": model,
        "pid": pid,
        "stage": stage,
        "kernel": os.uname().release,
        "held": found.held,
        "faults": find_faults(found, settings),
        "problems": find_problems(found, settings),
        "unsafe_without": settings.unsafe_without,
        "landlock_gaps": list_gaps(found.landlock_abi),
        "violations": violations,
        "posture": render_posture(found),
    }


def _write_block(row: dict[str, Any]) -> Iterator[str]:
    """Go through the lines about one cell: where it is, each part of it, and what is missing."""
    found = row["posture"]
    yield f"{_name(row)}: Linux {row['kernel']}, Landlock ABI {found['landlock_abi']}, user {found['uid']}"
    yield f"  {'part':10}{'held':6}{'tried':>5}  what does not hold"
    for part, held in row["held"].items():
        tried = sum(trial["part"] == part for trial in found["trials"])
        faults = row["faults"].get(part, ())
        shown = "; ".join(faults[:_MOST_SHOWN]) + f"; and {len(faults) - _MOST_SHOWN} more" * (
            len(faults) > _MOST_SHOWN
        )
        yield f"  {part:10}{'yes' if held and not faults else 'NO':6}{tried:5}  {shown}".rstrip()
    if row["unsafe_without"]:
        yield f"  unsafe_without: {', '.join(row['unsafe_without'])}: not required"
    for gap in row["landlock_gaps"] if found["landlock_abi"] else ():
        yield f"  Landlock of this kernel does not see {gap}"
    if row["violations"]:
        yield "  forbidden calls: " + ", ".join(f"{name} {count}" for name, count in sorted(row["violations"].items()))


def _name(row: dict[str, Any]) -> str:
    return f"{row['model']} (process {row['pid']}, {row['stage']})" if row["model"] else "a cell on this machine"
