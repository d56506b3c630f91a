"""Fuzz every check: only a value of the contract or a refusal may come out, and no execution may cost much.

Half of a check's executions are guided by coverage where atheris is installed (`pip install atheris`), the rest are
mutations of real inputs. Each check runs in a process of its own; one that dies or hangs is a finding like any other.
Findings are kept below `--findings`; each becomes a named test in `tests/unit/checks`.
"""

import argparse
import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.machine import find_commit
from campaigns.fuzzing import read_last
from campaigns.result import REPOSITORY, RESULTS, Campaign, make_parser, start
from campaigns.targets import TARGETS

EXECUTIONS = 1_000_000
WAYS = ("guided", "mutated")
MOST_CPU_MS = 1_000
MOST_GROWTH_MB = 128
GRACE_S = 150  # imports, and what a stuck execution may take before the process gives itself up


def main(arguments: Sequence[str] | None = None) -> int:
    """Run every check, and write what came out."""
    options = parse_arguments(arguments)
    campaign = start("fuzz", options)
    ways = WAYS if importlib.util.find_spec("atheris") else WAYS[1:]
    checks = options.check or list(TARGETS)
    figures: dict[str, Any] = {"ways": list(ways), "checks": read_others(options)}
    misses: list[str] = []
    left = len(checks) * len(ways)
    for check in checks:
        parts: dict[str, dict[str, Any]] = {}
        began = campaign.seconds
        for way in ways:
            parts[way] = run_part(campaign, check, way, options, max(1.0, (options.seconds - campaign.seconds) / left))
            left -= 1
        run = {"commit": find_commit(REPOSITORY), "seed": options.seed, "duration_s": round(campaign.seconds - began)}
        figures["checks"][check] = summarise(parts) | run
        misses += judge(check, figures["checks"][check])
        if figures["checks"][check]["executions"] < options.executions:
            campaign.tell(f"{check}: the time was over before there were as many executions as asked for")
    figures["executions"] = sum(one["executions"] for one in figures["checks"].values())
    return campaign.finish(figures, misses)


def read_others(options: argparse.Namespace) -> dict[str, Any]:
    """Return what an earlier run found of the checks that are not run now; each says of which commit it is."""
    if not options.check or not options.output.exists():
        return {}
    earlier: dict[str, Any] = json.loads(options.output.read_text())
    others = {name: one for name, one in earlier["figures"]["checks"].items() if name not in options.check}
    return {name: {"commit": earlier["commit"], **one} for name, one in others.items() if name in TARGETS}


def run_part(campaign: Campaign, check: str, way: str, options: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """Run one check one way in a process of its own, and return its figures."""
    ways = len(WAYS) if importlib.util.find_spec("atheris") else 1
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        directory = Path(name)
        command = [
            *(sys.executable, "-m", "campaigns.fuzzing", "--check", check, "--way", way, "--directory", name),
            *("--seed", str(options.seed), "--executions", str(-(-options.executions // ways))),
            *("--seconds", str(seconds)),
        ]
        try:
            ended = subprocess.run(  # noqa: S603 - our own command
                command,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=seconds + GRACE_S,
                check=False,
                cwd=REPOSITORY,
            )
            status, said = ended.returncode, ended.stderr[-2000:]
        except subprocess.TimeoutExpired:
            status, said = -1, "it did not end in time"
        figures = read_figures(directory)
        if status != 0:
            note_death(directory, figures, status, said)
        keep_findings(directory, options.findings / f"{check}-{way}", figures)
    findings = sum(figures["findings"].values())
    campaign.tell(f"{check:9} {way:8} {figures['executions']:8} executions, {findings} findings")
    return figures


def read_figures(directory: Path) -> dict[str, Any]:
    """Return what the process wrote last, or zeros if it came to nothing."""
    path = directory / "figures.json"
    if not path.exists():
        return {"executions": 0, "accepted": 0, "refused": 0, "findings": {}}
    figures: dict[str, Any] = json.loads(path.read_text())
    return figures


def note_death(directory: Path, figures: dict[str, Any], status: int, said: str) -> None:
    """Keep the input that ended the process."""
    data = read_last(directory) if (directory / "last").exists() else b""
    name = hashlib.sha256(data).hexdigest()[:12]
    (directory / f"finding-{name}").write_bytes(data)
    (directory / f"finding-{name}.txt").write_text(said)
    lines = said.strip().splitlines() or [""]
    figures["findings"][f"the process ended with {status}: {lines[-1][:120]}"] = 1


def keep_findings(directory: Path, place: Path, figures: dict[str, Any]) -> None:
    """Copy the inputs of the findings to where they outlive the run."""
    if figures["findings"]:
        place.mkdir(parents=True, exist_ok=True)
        for path in directory.glob("finding-*"):
            shutil.copyfile(path, place / path.name)


def summarise(parts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Add up what the two ways found."""
    total: dict[str, Any] = {
        key: sum(part[key] for part in parts.values()) for key in ("executions", "accepted", "refused")
    }
    for key in ("slowest_cpu_ms", "slowest_wall_ms", "largest_growth_of_one_mb", "growth_of_peak_mb"):
        total[key] = max(part.get(key, 0.0) for part in parts.values())
    findings = {what: count for part in parts.values() for what, count in part["findings"].items()}
    return {**total, "findings": findings, "by_way": {way: part["executions"] for way, part in parts.items()}}


def judge(check: str, figures: dict[str, Any]) -> list[str]:
    """Return what should not have been."""
    misses = [f"{check}: {what} ({count} times)" for what, count in figures["findings"].items()]
    if figures["slowest_cpu_ms"] > MOST_CPU_MS:
        misses.append(f"{check}: one execution took {figures['slowest_cpu_ms']} ms of processor time")
    if figures["largest_growth_of_one_mb"] > MOST_GROWTH_MB:
        misses.append(f"{check}: one execution took {figures['largest_growth_of_one_mb']} MB")
    return misses


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser("fuzz", __doc__)
    parser.add_argument("--executions", type=int, default=EXECUTIONS, help="of each check")
    parser.add_argument("--seconds", type=float, default=4 * 3600, help="for all checks together")
    parser.add_argument("--check", action="append", choices=list(TARGETS), help="only this one; the others stay")
    parser.add_argument("--findings", type=Path, default=RESULTS.parent / "findings")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
