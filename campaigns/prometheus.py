"""Ask a running Prometheus what it has scraped and which alerts fire; write it down, and replay it through promtool."""

import gzip
import itertools
import json
import re
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from campaigns.result import REPOSITORY
from garrison.stack.monitoring import SCRAPE_S

RULES = REPOSITORY / "config" / "prometheus" / "rules.yml"
TIMEOUT_S = 60
FIRED = 'ALERTS{alertstate="firing"}'

Recorded = dict[str, str]
"""Series by name and labels, in promtool's notation, every SCRAPE_S seconds."""


@dataclass(frozen=True)
class Prometheus:
    """One on this machine, by its port."""

    port: int

    def query(self, expression: str, at: float | None = None) -> list[dict[str, Any]]:
        """Evaluate an expression, now unless it says when."""
        asked = {"query": expression, "time": time.time() if at is None else at}
        address = f"http://127.0.0.1:{self.port}/api/v1/query?{urllib.parse.urlencode(asked)}"
        with urllib.request.urlopen(address, timeout=TIMEOUT_S) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return found

    def firing(self) -> set[str]:
        """Return the alerts that fire now."""
        return {row["metric"]["alertname"] for row in self.query(FIRED)}

    def is_firing(self, alert: str, where: str = "") -> bool:
        """Say whether an alert fires now, of the series with some labels."""
        return bool(self.query(f'ALERTS{{alertstate="firing", alertname="{alert}", {where}}}'))

    def fired_within(self, seconds: float) -> list[str]:
        """Return the alerts that fired at any time, sorted."""
        return sorted({row["metric"]["alertname"] for row in self.query(f"count_over_time({FIRED}[{seconds:.0f}s])")})

    def record(self, began: float, ended: float) -> Recorded:
        """Return every series that a rule reads, as it was scraped between two moments in Unix time."""
        names = "|".join(sorted(read_names()))
        found = self.query(f'{{__name__=~"{names}"}}[{ended - began:.0f}s]', ended)
        return {write_name(row["metric"]): write_values(align(row["values"], began, ended)) for row in found}


def read_names() -> set[str]:
    """Return the names of metrics that the rules read, those behind a pattern included."""
    text = RULES.read_text()
    names = set(re.findall(r"\bgarrison_(?!\()\w+", text)) | {"up"}
    for prefixes, rest in re.findall(r"garrison_\(([a-z|]+)\)(\w+)", text):
        names |= {f"garrison_{prefix}{rest}" for prefix in prefixes.split("|")}
    return names


def write_name(metric: dict[str, str]) -> str:
    """Write a series' name and labels."""
    labels = ", ".join(f"{name}={json.dumps(value)}" for name, value in sorted(metric.items()) if name != "__name__")
    return f"{metric['__name__']}{{{labels}}}"


def align(samples: Sequence[tuple[float, str]], began: float, ended: float) -> list[float | None]:
    """Put each sample into its step; None where none was scraped."""
    values: list[float | None] = [None] * int((ended - began) // SCRAPE_S + 1)
    for moment, value in samples:
        values[int((moment - began) // SCRAPE_S)] = float(value)
    return values


def write_values(values: Sequence[float | None]) -> str:
    """Write values in promtool's notation: one and how often it comes again, or rises by as much again."""
    written: list[str] = []
    place = 0
    while place < len(values):
        length, rise = _find_run(values, place)
        value = values[place]
        start = "_" if value is None else f"{value:.17g}"
        written.append(f"{start}{f'+{rise:.17g}' if rise else ''}{f'x{length}' if length else ''}")
        place += length + 1
    return " ".join(written)


def _find_run(values: Sequence[float | None], place: int) -> tuple[int, float]:
    """Return how many values follow that are the same, or rise as the next one does, and by how much."""
    first = values[place]
    second = values[place + 1] if place + 1 < len(values) else None
    rise = 0.0
    if first is not None and second is not None and first.is_integer() and second.is_integer():
        rise = max(second - first, 0.0)
    length = 0
    for before, after in itertools.pairwise(values[place:]):
        if not (after is before is first if after is None or before is None else after - before == rise):
            break
        length += 1
    return length, rise if length else 0.0


def save(recorded: Recorded, path: Path) -> None:
    """Write a recording, compressed; the same one gives the same file."""
    path.write_bytes(gzip.compress(json.dumps(recorded, indent=0, sort_keys=True).encode(), mtime=0))


def load(path: Path) -> Recorded:
    """Read a recording."""
    found: Recorded = json.loads(gzip.decompress(path.read_bytes()))
    return found


def measure_seconds(recorded: Recorded) -> int:
    """Return how long a recording is."""
    lengths = [
        sum(int(one.rpartition("x")[2]) + 1 if "x" in one else 1 for one in v.split()) for v in recorded.values()
    ]
    return (max(lengths) - 1) * SCRAPE_S


def replay(recorded: Recorded) -> list[str]:
    """Run a recording through the rules by promtool, and return the alerts that fired."""
    seconds = measure_seconds(recorded)
    asked = f"count by (alertname) (count_over_time({FIRED}[{seconds}s]))"
    test = {
        "interval": f"{SCRAPE_S}s",
        "input_series": [{"series": name, "values": values} for name, values in recorded.items()],
        "promql_expr_test": [{"expr": asked, "eval_time": f"{seconds}s", "exp_samples": []}],
    }
    content = {"rule_files": [str(RULES)], "evaluation_interval": f"{SCRAPE_S}s", "tests": [test]}
    with tempfile.TemporaryDirectory(prefix="replay-") as name:
        file = Path(name) / "test.yml"
        file.write_text(json.dumps(content))
        command = ["promtool", "test", "rules", str(file)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - the command is ours
    said = run.stdout + run.stderr
    if run.returncode and "expr:" not in said:
        raise RuntimeError(said)
    return sorted(set(re.findall(r'alertname="(\w+)"', "".join(_got(said)))))


def _got(said: str) -> Iterator[str]:
    return (line for line in said.splitlines() if line.strip().startswith(("got:", "{alertname")))
