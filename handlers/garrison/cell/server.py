"""Start the server in its own cell: a list of places and a command enter, the confined command goes on.

`python -I -m garrison.cell.server PLACES -- java ...` gives up what the server does not need and then becomes `java`;
no second process stays. A cell is never wider than the one around it, so whatever a worker may reach is in here, too.
Written by the launcher, `PLACES` is a file that the server itself cannot read or write.

What it does not defend against: a server that was taken over still answers requests and starts workers. It can connect
to any unix socket that its user may (before Linux 7.1), listen by TCP, and run what code it likes as itself: being
allowed to execute few files bounds what starts by mistake, not what an intruder computes.
"""

import json
import os
import resource
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from garrison.cell import landlock, limits, seccomp
from garrison.cell.landlock import Rules
from garrison.cell.server_calls import make_server_rules
from garrison.cell.settings import LANDLOCK, SECCOMP
from garrison.errors import ConfigError, GarrisonError
from garrison.files import read_file, write_atomically

_MOST_BYTES = 16 * 2**20


@dataclass(frozen=True)
class ServerCell:
    """What the server may reach, and what the kernel may lack."""

    rules: Rules
    unsafe_without: tuple[str, ...] = ()
    limits: dict[str, int] = field(default_factory=lambda: {"RLIMIT_CORE": 0})


def check_kernel(unsafe_without: Sequence[str] = ()) -> None:
    """Check that the kernel has what a cell is made of.

    Raises:
        ConfigError: it lacks something that `unsafe_without` does not name.
    """
    advice = "or write `unsafe_without: [{}]` into cell.yaml and run without that protection"
    problems = []
    if LANDLOCK not in unsafe_without and landlock.probe_abi() < 1:
        problems.append(
            "the kernel has no Landlock, which keeps models from other files; use Linux 5.13 or newer with `landlock` "
            f"in its boot parameter lsm=, {advice.format(LANDLOCK)}"
        )
    if SECCOMP not in unsafe_without and not seccomp.is_available():
        problems.append(
            "the kernel filters no system calls, or cannot notify anybody of one (seccomp); use Linux 5.9 or newer "
            f"and allow `seccomp` in the container's profile, {advice.format(SECCOMP)}"
        )
    if problems:
        raise ConfigError(*problems)


def enclose(command: Sequence[str], places: Path) -> list[str]:
    """Return the command line that starts a command in the cell whose places were written to a file."""
    return [sys.executable, "-I", "-m", "garrison.cell.server", str(places), "--", *command]


def write_places(cell: ServerCell, path: Path) -> None:
    """Write a cell where `main` reads it.

    Raises:
        ConfigError: the file cannot be written.
    """
    write_atomically(path, json.dumps(asdict(cell), default=str, indent=1).encode(), 0o600)


def read_places(path: Path) -> ServerCell:
    """Read what `write_places` wrote.

    Raises:
        ConfigError: it is missing or is something else.
    """
    try:
        values = json.loads(read_file(path, _MOST_BYTES))
        given = values["rules"]
        given.update({name: tuple(map(Path, paths)) for name, paths in given.items() if isinstance(paths, list)})
        return ServerCell(Rules(**given), tuple(values["unsafe_without"]), values["limits"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); `garrison serve` writes it") from error


def close_cell(cell: ServerCell) -> None:
    """Confine this process, for good.

    Raises:
        ConfigError: a place is missing, or the kernel does not give what it takes.
        Undecided: whether it is confined cannot be told.
    """
    for name, bound in cell.limits.items():
        resource.setrlimit(getattr(resource, name), (bound, bound))
    limits.close_descriptors({0, 1, 2})
    limits.drop_capabilities()
    limits.set_no_new_privs()
    if landlock.probe_abi() or LANDLOCK not in cell.unsafe_without:  # what there is, is used
        landlock.restrict(cell.rules)
    if seccomp.is_available() or SECCOMP not in cell.unsafe_without:
        seccomp.install(seccomp.assemble(make_server_rules(), seccomp.ALLOW))


def main(arguments: Sequence[str] | None = None) -> None:
    """Confine this process and become the command."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if len(arguments) <= 2 or arguments[1] != "--":
            raise ConfigError("usage: python -I -m garrison.cell.server PLACES -- COMMAND ...")
        close_cell(read_places(Path(arguments[0])))
        _become(arguments[2:])
    except GarrisonError as error:
        sys.stderr.write(f"the server's cell: {error}\n")
        sys.exit(error.exit_code)


def _become(command: Sequence[str]) -> None:
    try:
        os.execv(command[0], list(command))  # noqa: S606 - the launcher's
    except OSError as error:
        raise ConfigError(f"{command[0]} cannot be executed ({error.strerror})") from error


if __name__ == "__main__":
    main()
