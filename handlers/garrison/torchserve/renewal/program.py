"""The workers' interpreter: an installation's Python enters, a program of a few lines leaves.

TorchServe starts its workers by it. The kernel itself runs it (no shell is needed, and images have none), isolated from
its first instruction on: TorchServe puts the model's directory on PYTHONPATH, and `-I` stands in the first line.
"""

import os
from pathlib import Path

from garrison.errors import ConfigError

PROGRAM = "worker-python"
_MOST_BYTES = 255  # of a first line that Linux reads (BINPRM_BUF_SIZE), with `#!`; since 5.1, before it was 127
_BODY = """\
# TorchServe starts its workers with this; `garrison.torchserve.renewal` wrote it. It runs nothing else.
from garrison.torchserve.worker import main

main()
"""


def write_program(python: str) -> bytes:
    """Return the program for an installation's interpreter.

    Raises:
        ConfigError: the kernel would not find the interpreter by this path.
    """
    first = f"#!{python} -I\n"
    if len(os.fsencode(first)) > _MOST_BYTES:
        raise ConfigError(
            f"{python}: too long for the first line of a program ({len(os.fsencode(first))} bytes, Linux reads "
            f"{_MOST_BYTES}), and workers are started by one; install under a shorter path"
        )
    if any(character.isspace() for character in python):
        raise ConfigError(
            f"{python}: a path with white space cannot stand in the first line of a program, and workers are started "
            "by one; install under another path"
        )
    return (first + _BODY).encode("utf-8", "surrogateescape")


def is_program_of(data: bytes, python: str) -> bool:
    """Say whether a file is the program of this interpreter, by whatever links its directory is named."""
    first, _, body = data.partition(b"\n")
    if body != _BODY.encode() or not (first.startswith(b"#!") and first.endswith(b" -I")):
        return False
    named = Path(os.fsdecode(first[2:-3]))
    return named.name == Path(python).name and named.parent.resolve() == Path(python).parent.resolve()
