"""Run a command as on a kernel that lacks some system calls: `[*lack(LANDLOCK), "command", ...]`.

A filter around the command answers as such a kernel, or a container's seccomp profile, does: Landlock's calls do not
exist, all others are not permitted.
"""

import errno
import os
import sys
from pathlib import Path

from garrison.cell.limits import set_no_new_privs
from garrison.cell.seccomp import ALLOW, Rule, assemble, fail_with, install

LANDLOCK, SECCOMP = "landlock_create_ruleset", "seccomp"
_ANSWERS = {LANDLOCK: errno.ENOSYS}


def lack(*calls: str) -> list[str]:
    """Return the beginning of a command line that takes these system calls away from the rest of it."""
    return [sys.executable, "-I", str(Path(__file__).resolve()), *calls, "--"]


def main() -> None:
    """Apply the filter and become the command."""
    arguments = sys.argv[1:]
    end = arguments.index("--")
    set_no_new_privs()
    rules = [Rule(call, fail_with(_ANSWERS.get(call, errno.EPERM))) for call in arguments[:end]]
    install(assemble(rules, ALLOW))
    os.execv(arguments[end + 1], arguments[end + 1 :])


if __name__ == "__main__":
    main()
