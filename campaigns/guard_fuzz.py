"""Fuzz the guard: messages, bodies, paths, and what comes back from the servers behind it.

Only answers of the catalogue may come out, only what the contract allows may reach the model, and no execution may
cost much. It is `campaigns.fuzz` with the checks of `campaigns.guard_targets`; see there for the ways and findings.
"""

import sys
from collections.abc import Sequence

from campaigns import fuzz

EXECUTIONS = 250_000
MODULE = "campaigns.guard_targets"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run every check, and write what came out."""
    return fuzz.main(arguments, "guard_fuzz", MODULE, EXECUTIONS)


if __name__ == "__main__":
    sys.exit(main())
