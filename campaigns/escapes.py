"""Try every escape in stock TorchServe, where each has to have its effect: what CI samples, whole.

A failure in a cell proves something only for an escape that works where there is no cell. `make test` tries both for
all of them; CI tries the cells for all (in the container), and stock for a third, drawn by the commit.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from campaigns.result import REPOSITORY, make_parser, start

TESTS = REPOSITORY / "tests" / "attacks" / "escape" / "test_escapes.py"
IN_STOCK = "test_in_stock_torchserve_it_works"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tests, and write what came out."""
    options = parse_arguments(arguments)
    campaign = start("escapes", options)
    with tempfile.TemporaryDirectory(prefix="garrison-") as name:
        results = Path(name) / "results.xml"
        command = [sys.executable, "-m", "pytest", "-q", str(TESTS), "-k", IN_STOCK, f"--junit-xml={results}"]
        subprocess.run(command, cwd=REPOSITORY, check=False, stdout=sys.stderr)  # noqa: S603 - the command is ours
        figures = summarise(results)
    return campaign.finish(figures, [f"no effect: {escape}" for escape in figures["without_effect"]])


def summarise(results: Path) -> dict[str, Any]:
    """Count the escapes that had their effect, from pytest's results."""
    outcomes: dict[str, str] = {}
    for case in ElementTree.parse(results).getroot().iter("testcase"):  # noqa: S314 - written by our own pytest
        name = str(case.get("name"))
        if name.startswith(f"{IN_STOCK}["):
            kinds = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
            outcomes[name.removeprefix(f"{IN_STOCK}[").removesuffix("]")] = kinds[0] if kinds else "works"
    works = sorted(escape for escape, outcome in outcomes.items() if outcome == "works")
    return {"tried": len(outcomes), "works": works, "without_effect": sorted(set(outcomes) - set(works))}


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    return make_parser("escapes", __doc__).parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
