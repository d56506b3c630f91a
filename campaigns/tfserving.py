"""Compare gateway and guard with TensorFlow Serving's own answers, asked by a TensorFlow client.

All benign SavedModels and the sample are packed, admitted and served by `garrison serve`, with the tests' stand-in,
which executes them with TensorFlow, in the place of upstream's binary. A client with TensorFlow sends random valid
requests through the gateway, over gRPC and REST, and the same to the stand-in's socket. Every answer has to be the
same, but for the decimals that a contract keeps back. What it says holds for the stand-in, not for upstream's binary.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from campaigns.result import make_parser, start
from stack.saved_models import SAMPLE, TensorFlowStack, source_of
from standins.saved_models.built import PYTHON
from standins.saved_models.catalogue import SAMPLES

SECONDS = 60.0
START_S = 60
UNBATCHED = "whole"  # with it, nothing would be put together in batches
NAMES = (SAMPLE, *(sample.name for sample in SAMPLES if sample.name != UNBATCHED))
CLIENT = Path(__file__).resolve().parent / "tensorflow_client.py"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaign, and write what came out."""
    options = parse_arguments(arguments)
    campaign = start("tfserving", options)
    campaign.tell(f"packing {len(NAMES)} models")
    with TensorFlowStack(NAMES) as stack:
        campaign.tell("serving")
        figures = compare(stack, options.seconds, options.seed)
    figures["requests_per_second"] = round(figures["requests"] / options.seconds, 1)
    return campaign.finish(figures, find_misses(figures, NAMES))


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser("tfserving", __doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long the client asks")
    return parser.parse_args(arguments)


def compare(stack: TensorFlowStack, seconds: float, seed: int) -> dict[str, Any]:
    """Let a TensorFlow client ask for so long, and return what it counted."""
    order = {
        "address": f"localhost:{stack.target.port}",
        "certificate": stack.server_certificate.read_text(),
        "authority": str(stack.target.authority),
        "key": stack.target.keys["demo"],
        "direct": f"unix:{stack.direct}",
        "contracts": [yaml.safe_load((source_of(name) / "contract.yaml").read_text()) for name in stack.names],
        "seconds": seconds,
        "seed": seed,
    }
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    ended = subprocess.run(  # noqa: S603 - our own client
        [str(PYTHON), "-I", str(CLIENT)],
        input=json.dumps(order),
        capture_output=True,
        text=True,
        timeout=seconds + START_S,
        check=False,
        env=environment,
    )
    if ended.returncode:
        raise RuntimeError(f"the client ended with {ended.returncode}: {ended.stderr[-2000:]}")
    figures: dict[str, Any] = json.loads(ended.stdout)
    return figures


def find_misses(figures: dict[str, Any], names: Sequence[str]) -> list[str]:
    """Return what was missed: an answer that is different, a model that was not asked."""
    misses = [f"{figures['different']} of {figures['requests']} answers differ"] if figures["different"] else []
    asked = {way.split()[0] for way in figures["by_way"]}
    return misses + [f"{name} was never asked" for name in names if name not in asked]


if __name__ == "__main__":
    sys.exit(main())
