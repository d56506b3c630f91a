"""Fuzz every check: only a value of the contract or a refusal may come out, and no execution may cost much.

Half of a check's executions are guided by coverage where atheris is installed (`pip install atheris`), the rest are
mutations of real inputs. Each check runs in a process of its own; one that dies or hangs is a finding like any other.
Findings are kept below `--findings`; each becomes a named test in `tests/unit/checks`. The result file is renewed
after every check, so a campaign may be cut short: each check says of which commit its figures are.
"""

import argparse
import hashlib
import importlib
import importlib.util
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from campaigns.fuzzing import read_last
from campaigns.result import REPOSITORY, RESULTS, Campaign, make_parser, start

EXECUTIONS = 1_000_000
MODULE = "campaigns.targets"
WAYS = ("guided", "mutated")
MOST_CPU_MS = 1_000
MOST_GROWTH_MB = 128
STUCK_S = 300  # without a sign of life; imports take seconds and executions milliseconds, but the machine may be busy


def main(
    arguments: Sequence[str] | None = None, name: str = "fuzz", module: str = MODULE, executions: int = EXECUTIONS
) -> int:
    """Run every check of a module, and write what came out."""
    targets = list(importlib.import_module(module).TARGETS)
    options = parse_arguments(arguments, name, targets, executions)
    options.targets = module
    campaign = start(name, options)
    ways = WAYS if importlib.util.find_spec("atheris") else WAYS[1:]
    checks = options.check or targets
    figures: dict[str, Any] = {"ways": list(ways), "checks": read_earlier(options.output, targets)}
    left = len(checks) * len(ways)
    for check in checks:
        parts: dict[str, dict[str, Any]] = {}
        began = campaign.seconds
        for way in ways:
            parts[way] = run_part(campaign, check, way, options, max(1.0, (options.seconds - campaign.seconds) / left))
            left -= 1
        run = {"commit": campaign.commit, "seed": options.seed, "duration_s": round(campaign.seconds - began)}
        figures["checks"][check] = summarise(parts) | run
        figures["executions"] = sum(one["executions"] for one in figures["checks"].values())
        campaign.write(figures, judge_all(figures, options.executions))
    return campaign.finish(figures, judge_all(figures, options.executions))


def read_earlier(output: Path, targets: Sequence[str]) -> dict[str, Any]:
    """Return what earlier runs found, until this one has run the check as well."""
    if not output.exists():
        return {}
    checks: dict[str, Any] = json.loads(output.read_text())["figures"]["checks"]
    return {name: one for name, one in checks.items() if name in targets}


def run_part(campaign: Campaign, check: str, way: str, options: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """Run one check one way in a process of its own, and return its figures."""
    ways = len(WAYS) if importlib.util.find_spec("atheris") else 1
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        directory = Path(name)
        command = [
            *(
                sys.executable,
                "-m",
                "campaigns.fuzzing",
                "--targets",
                options.targets,
                "--check",
                check,
                "--way",
                way,
                "--directory",
                name,
            ),
            *("--seed", str(options.seed), "--executions", str(-(-options.executions // ways))),
            *("--seconds", str(seconds)),
        ]
        options_of_output: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, cwd=REPOSITORY, errors="replace", **options_of_output) as process:  # noqa: S603 - our own
            said = watch(process, directory / "figures.json")
        figures = read_figures(directory)
        if process.returncode != 0:
            note_death(directory, figures, process.returncode, said[-2000:])
        keep_findings(directory, options.findings / f"{check}-{way}", figures)
    findings = sum(figures["findings"].values())
    campaign.tell(f"{check:9} {way:8} {figures['executions']:8} executions, {findings} findings")
    return figures


def watch(process: subprocess.Popen[str], figures: Path) -> str:
    """Return what a process said; end it once it has not written its figures for `STUCK_S`.

    The seconds are counted here, not read off a clock: a campaign that is stopped and continued has found nothing.
    """
    written, idle = 0.0, 0
    while True:
        try:
            return process.communicate(timeout=1)[1]
        except subprocess.TimeoutExpired:
            now = figures.stat().st_mtime if figures.exists() else 0.0
            written, idle = now, (idle + 1 if now == written else 0)
            if idle >= STUCK_S:  # the first signal makes it say where it is
                process.send_signal(signal.SIGPROF if idle == STUCK_S else signal.SIGKILL)


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


def judge_all(figures: dict[str, Any], wanted: int) -> list[str]:
    """Return what should not have been of every check in the file, whichever run it is from."""
    return [miss for check, one in figures["checks"].items() for miss in judge(check, one, wanted)]


def judge(check: str, figures: dict[str, Any], wanted: int) -> list[str]:
    """Return what should not have been of one check."""
    misses = [f"{check}: {what} ({count} times)" for what, count in figures["findings"].items()]
    if figures["executions"] < wanted:
        misses.append(f"{check}: {figures['executions']} executions instead of {wanted}")
    if figures["slowest_cpu_ms"] > MOST_CPU_MS:
        misses.append(f"{check}: one execution took {figures['slowest_cpu_ms']} ms of processor time")
    if figures["largest_growth_of_one_mb"] > MOST_GROWTH_MB:
        misses.append(f"{check}: one execution took {figures['largest_growth_of_one_mb']} MB")
    return misses


def parse_arguments(
    arguments: Sequence[str] | None, name: str, targets: Sequence[str], executions: int
) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(name, __doc__)
    parser.add_argument("--executions", type=int, default=executions, help="of each check")
    parser.add_argument("--seconds", type=float, default=4 * 3600, help="for all checks together")
    parser.add_argument("--check", action="append", choices=targets, help="only this one, or these in this order")
    parser.add_argument("--findings", type=Path, default=RESULTS.parent / "findings")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
