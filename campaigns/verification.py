"""Measure how fast a large signed model is verified, and in how much memory.

Each shape of a model is signed once and verified some times, each time in a process of its own, whose highest memory is
read. The files are read from the page cache: what is measured is hashing, not the disk.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from campaigns.result import make_parser, start
from garrison.admission.sign import KeySigner, sign_directory
from stack.running import make_test_key, trust_test_key

BYTES = 2**30
LEAST_GB_S = 0.5
MOST_MEMORY_MB = 200
CHUNK_BYTES = 2**20
SHAPES = {"one file": 1, "four files": 4}  # how many files the model's weights are in
MEASURE = """
import json, sys, time
from datetime import UTC, datetime
from pathlib import Path
from garrison.admission.sign import verify_directory
from garrison.admission.sign.trust import load_trust
directory, trust = map(Path, sys.argv[1:])
told = []
began = time.monotonic()
verify_directory(directory, load_trust(trust), now=datetime.now(UTC), progress=told.append)
seconds = time.monotonic() - began
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
memory_mb = int(peak.split()[1]) / 1024
print(json.dumps({"seconds": seconds, "memory_mb": memory_mb, "progress": len(told)}))
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write what came out."""
    options = parse_arguments(arguments)
    campaign = start("verification", options)
    figures: dict[str, Any] = {}
    misses: list[str] = []
    for shape, files in SHAPES.items():
        figures[shape] = row = measure(options.bytes, files, options.rounds)
        campaign.tell(f"{shape}: {row['gb_s']} GB/s, {row['memory_mb']} MB, {row['progress']} reports of progress")
        if row["gb_s"] < LEAST_GB_S:
            misses.append(f"{shape}: {row['gb_s']} GB/s instead of {LEAST_GB_S}")
        if row["memory_mb"] > MOST_MEMORY_MB:
            misses.append(f"{shape}: {row['memory_mb']} MB instead of {MOST_MEMORY_MB}")
    return campaign.finish(figures, misses)


def measure(size: int, files: int, rounds: int) -> dict[str, Any]:
    """Return the median speed in 10^9 bytes a second, the highest memory in MB, and how often progress was told."""
    with tempfile.TemporaryDirectory(prefix="garrison-") as name:
        model, trust = Path(name) / "model", Path(name) / "trust"
        write_model(model, size, files)
        trust.mkdir()
        trust_test_key(trust)
        began = time.monotonic()
        sign_directory(model, KeySigner(make_test_key()[0]))
        signing_s = time.monotonic() - began
        rows = [run_once(model, trust) for _ in range(rounds)]
    seconds = statistics.median(row["seconds"] for row in rows)
    return {
        "bytes": size,
        "files": files,
        "signing_s": round(signing_s, 2),
        "seconds": round(seconds, 2),
        "gb_s": round(size / seconds / 1e9, 2),
        "memory_mb": round(max(row["memory_mb"] for row in rows)),
        "progress": min(row["progress"] for row in rows),
    }


def write_model(directory: Path, size: int, files: int) -> None:
    """Write files of random bytes, and a contract, which says what the model is called."""
    directory.mkdir()
    (directory / "contract.yaml").write_text('garrison: 1\nmodel: large\nversion: "1"\n')
    for number in range(files):
        with (directory / f"weights-{number}.safetensors").open("wb") as file:
            for _ in range(size // files // CHUNK_BYTES):
                file.write(os.urandom(CHUNK_BYTES))


def run_once(model: Path, trust: Path) -> dict[str, Any]:
    """Verify in a process of its own; return what it measured."""
    command = [sys.executable, "-c", MEASURE, str(model), str(trust)]
    measured: dict[str, Any] = json.loads(subprocess.check_output(command))  # noqa: S603 - our own command
    return measured


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser("verification", __doc__)
    parser.add_argument("--bytes", type=int, default=BYTES)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
