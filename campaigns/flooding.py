"""Let one model print as fast as it can, and see what that leaves of another model's throughput and of the JVM."""

import argparse
import contextlib
import statistics
import threading
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil

from bench.load import Target, run_load
from bench.workloads import Prepared
from campaigns.paired import mean_ratio
from campaigns.result import Campaign
from campaigns.serving import CLIENT, CLIENTS
from garrison.gateway.clients import make_scopes
from garrison.gateway.keys import issue_key
from stack.running import RunningStack, pack_contract

KINDS = {"an endless line": "x", "short lines": "x\n"}
CONNECTIONS = 8
LEAST_SHARE = 0.9  # of the other model's throughput; printing itself takes some of the processor
MOST_GROWTH_MB = 64
LONGER_S = 3  # than the load, so that it is flooded from the beginning to the end
CONTRACT = """\
garrison: 1
model: chatty
version: "1"
task: custom
inputs:
  wish: {kind: text, max_bytes: 1KiB, max_characters: 100, max_tokens: 8}
batch: {max_items: 1, max_delay_ms: 1, max_bytes: 1MiB}
workers: {count: 1, queue: 8, timeout_s: 120}
outputs: {decimals: 2}
"""
HANDLER = """\
import time

import numpy as np

from garrison.torchserve.base import SafeHandler

KINDS = %r


class Chatty(SafeHandler):
    def load(self, model):
        pass

    def prepare(self, item):
        seconds, _, kind = item.value.partition(" ")
        wanted = list(KINDS).index(kind) if kind in KINDS else -1
        return np.array([wanted, float(seconds) if wanted >= 0 else 0], np.float32)

    def infer(self, batch):
        kind, seconds = int(batch[0, 0]), float(batch[0, 1])
        piece = list(KINDS.values())[kind] * 2**16
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            print(piece, end="", flush=True)
        return batch

    def present(self, output, item):
        return {"said": item.value}
"""


def measure_flood(
    campaign: Campaign, prepared: Prepared, bodies: Sequence[Path], directory: Path, options: argparse.Namespace
) -> dict[str, Any]:
    """Measure the light network's throughput in pairs, without and with a flood beside it."""
    figures: dict[str, Any] = {"misses": []}
    with serve(prepared, directory) as stack:
        target = Target(f"https://127.0.0.1:{stack.target.port}/predictions/light", stack.target.keys[CLIENT])
        java = next(one for one in psutil.Process(stack.pid).children(recursive=True) if one.name() == "java")

        def measure_rate() -> float:
            load = run_load(target, prepared.workload.content_type, bodies, CONNECTIONS, options.seconds)
            return load.good / load.seconds

        measure_rate()
        for kind in KINDS:
            pairs, growth_mb = [], []
            for number in range(options.floods):
                calm, before = measure_rate(), java.memory_info().rss
                with flood(stack, kind, options.seconds + LONGER_S):
                    pairs.append((calm, measure_rate()))
                    growth_mb.append((java.memory_info().rss - before) / 1e6)
                campaign.tell(f"{kind} {number + 1}: {calm:.1f}/s before, {pairs[-1][1]:.1f}/s meanwhile")
            share = mean_ratio(pairs, options.seed)
            figures[kind] = {
                "share": share.rounded(4),
                "jvm_growth_mb": round(statistics.median(growth_mb), 1),
                "jvm_growth_most_mb": round(max(growth_mb), 1),
                "pairs_per_second": [[round(rate, 2) for rate in pair] for pair in pairs],
            }
            if share.mean < LEAST_SHARE:
                figures["misses"].append(f"{kind}: {share.mean:.3f} of the throughput is left; aim: {LEAST_SHARE}")
            if statistics.median(growth_mb) > MOST_GROWTH_MB:
                figures["misses"].append(f"{kind}: the JVM grew by {statistics.median(growth_mb):.0f} MB")
    return figures


@contextlib.contextmanager
def serve(prepared: Prepared, directory: Path) -> Iterator[RunningStack]:
    """Serve the light network and the chatty model."""
    directory.mkdir()
    handler = directory / "handler.py"
    handler.write_text(HANDLER % KINDS)
    models = directory / "models"
    pack_contract(CONTRACT, prepared.weights, models, "--handler", handler)
    pack_contract(prepared.contract.read_text(), prepared.weights, models, "--extra-files", prepared.labels)
    stack = RunningStack(models)
    (stack.config / "clients.yaml").write_text(CLIENTS.format(CLIENT, "light, chatty"))
    token = issue_key(stack.state / "keys", CLIENT, make_scopes(["light", "chatty"]), timedelta(days=1)).token
    stack.target.keys[CLIENT] = token
    with stack:
        yield stack


@contextlib.contextmanager
def flood(stack: RunningStack, kind: str, seconds: float) -> Iterator[None]:
    """Let the chatty model print for some seconds, and wait for the end of it.

    Raises:
        RuntimeError: it did not answer as it should.
    """
    statuses: list[int] = []

    def ask() -> None:
        with contextlib.closing(stack.target.connect(timeout_s=seconds + 60)) as connection:
            body = f"{seconds} {kind}".encode()
            answer = stack.target.send(path="/predictions/chatty", body=body, key=CLIENT, connection=connection)
            statuses.append(answer.status)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    if statuses != [200]:
        raise RuntimeError(f"the chatty model answered {statuses}")
