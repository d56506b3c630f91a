"""Run a module as on a kernel with an older Landlock: `[*older(3), "garrison.cell.server", ...]`.

The module asks the running kernel for no more than that version knows. What the kernel does with it is real: it lets
pass what nobody asked it to deny, as the older one would.
"""

import runpy
import sys
from pathlib import Path

from garrison.cell import landlock


def older(abi: int) -> list[str]:
    """Return the beginning of a command line that runs a module under this version of Landlock."""
    return [sys.executable, "-I", str(Path(__file__).resolve()), str(abi)]


def main() -> None:
    """Take the version for the kernel's, and become the module."""
    abi = int(sys.argv.pop(1))
    landlock.probe_abi = lambda: abi
    module = sys.argv.pop(1)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
