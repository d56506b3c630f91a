"""Write down what a campaign found: figures enter, one JSON file leaves."""

import argparse
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.machine import describe_machine, find_commit

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).resolve().parent / "results"


@dataclass
class Campaign:
    """One run of a campaign: its options, when it began, and how it tells of its progress."""

    name: str
    options: dict[str, Any]
    output: Path
    commit: str = field(default_factory=lambda: find_commit(REPOSITORY))
    machine: dict[str, Any] = field(default_factory=describe_machine)
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """How long it has been running."""
        return time.monotonic() - self.began

    def tell(self, line: str) -> None:
        """Say on standard error how far it is."""
        sys.stderr.write(f"{self.name} {self.seconds:6.0f} s  {line}\n")
        sys.stderr.flush()

    def finish(self, figures: dict[str, Any], misses: list[str]) -> int:
        """Write the result file; return the exit status: 1 if an aim was missed."""
        self.write(figures, misses)
        for miss in misses:
            self.tell(f"MISSED: {miss}")
        self.tell(f"written to {self.output}")
        return 1 if misses else 0

    def write(self, figures: dict[str, Any], misses: list[str]) -> None:
        """Write the result file, with what is known so far."""
        result = {
            "campaign": self.name,
            "commit": self.commit,
            "options": self.options,
            "duration_s": round(self.seconds, 1),
            "machine": self.machine,
            "misses": misses,
            "figures": figures,
        }
        self.output.parent.mkdir(parents=True, exist_ok=True)
        self.output.write_text(json.dumps(result, indent=2) + "\n")


def make_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that every campaign has."""
    parser = argparse.ArgumentParser(prog=f"campaigns.{name}", description=(description or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS / f"{name}.json")
    return parser


def start(name: str, arguments: argparse.Namespace) -> Campaign:
    """Begin a campaign with the options that were given."""
    options = {key: value for key, value in vars(arguments).items() if not isinstance(value, Path)}
    return Campaign(name, options, arguments.output)
