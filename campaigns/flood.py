"""Flood the digits model with decompression bombs under a good key, while others ask for predictions.

Sixteen connections send a real PNG of 80 megapixels as fast as it is refused, four send good requests. The good ones
must keep half of the throughput that they have alone, memory may grow by 50 MB, no worker may die. The same goes for
TorchServe without Garrison (`tests/attacks/stock`), side by side.

Two floods against Garrison: `limited`, where the attacker is a client with the rate of `config/clients.yaml`, as it
is delivered, and `unlimited`, where it may ask as fast as it can and only the contract stands in its way. Clients and
server share the machine: what the attacker spends on sending is missing too, and is written down (`client_cpu_s`).
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil

from attacks.catalogue import png_bomb, sample_digit
from attacks.stock import run_stock
from campaigns.memory import MemoryWatch, list_family, name_role
from campaigns.result import REPOSITORY, Campaign, make_parser, start
from garrison.gateway.clients import make_scopes
from garrison.gateway.keys import issue_key
from stack.running import RunningStack, pack_digits

ATTACKERS, GOOD = 16, 4
MOST_GROWTH_MB = 50
LEAST_SHARE = 0.5
CALM_SHARE = 1 / 3  # of the flood's seconds: how long throughput without an attack is measured, before and after
SETTLE_S = 3
CLIENTS = """\
clients:
  good: {models: [digits], requests_per_second: 100000, burst: 1000000}
  limited: {models: [digits], requests_per_second: 50, burst: 100}
  unlimited: {models: [digits], requests_per_second: 100000, burst: 1000000}
"""


@dataclass(frozen=True)
class Server:
    """A server under attack: its process, and how `campaigns.load` reaches it, as which client."""

    root: int
    arguments: Callable[[str], list[str]]
    key: Callable[[str], str]


@contextlib.contextmanager
def run_garrison(directory: Path) -> Iterator[Server]:
    """Serve the digits with every gate."""
    stack = RunningStack(pack_digits(directory / "models"))
    (stack.config / "clients.yaml").write_text(CLIENTS)
    day = timedelta(days=1)
    keys = {
        name: issue_key(stack.state / "keys", name, make_scopes(["digits"]), day).token
        for name in ("good", "limited", "unlimited")
    }
    with stack:
        place = ["--port", str(stack.target.port), "--authority", str(stack.target.authority)]
        yield Server(stack.pid, lambda _: place, keys.__getitem__)


@contextlib.contextmanager
def run_unprotected(directory: Path) -> Iterator[Server]:
    """Serve the digits with TorchServe as it comes."""
    before = {process.pid for process in psutil.Process().children()}
    with run_stock(directory) as server:
        (root,) = {process.pid for process in psutil.Process().children()} - before
        yield Server(root, lambda _: ["--unix", str(server.directory / "inference.sock")], lambda _: "")


def start_load(server: Server, client: str, body: Path, connections: int, seconds: float) -> "subprocess.Popen[str]":
    """Start to send one body over some connections."""
    command = [
        *(sys.executable, "-m", "campaigns.load", "--body", str(body), "--connections", str(connections)),
        *("--seconds", str(seconds), *server.arguments(client)),
    ]
    return subprocess.Popen(  # noqa: S603 - our own command
        command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY, env={"LOAD_KEY": server.key(client)}
    )


def finish_load(load: "subprocess.Popen[str]", seconds: float) -> dict[str, Any]:
    """Wait for a load, and return what came back, with the good answers per second."""
    said, _ = load.communicate()
    figures: dict[str, Any] = json.loads(said)
    figures["answered_per_second"] = round(figures["statuses"].get("200", 0) / seconds, 1)
    return figures


def flood(
    campaign: Campaign, name: str, server: Server, attacker: str, bodies: tuple[Path, Path], seconds: float
) -> Any:
    """Measure good requests alone, under attack, and alone again."""
    good, bomb = bodies
    calm_s = max(2.0, seconds * CALM_SHARE)
    finish_load(start_load(server, "good", good, GOOD, SETTLE_S), SETTLE_S)  # warm
    before = finish_load(start_load(server, "good", good, GOOD, calm_s), calm_s)
    pids = find_workers(server.root)
    with MemoryWatch(server.root, lambda: 0.0) as watch:
        time.sleep(SETTLE_S)
        calm_mb = [sum(sample.resident_mb.values()) for sample in watch.samples]
        busy_before = use_processor(server.root)
        attack = start_load(server, attacker, bomb, ATTACKERS, seconds)
        during = finish_load(start_load(server, "good", good, GOOD, seconds), seconds)
        attacked = finish_load(attack, seconds)
        busy_after = use_processor(server.root)
    after = finish_load(start_load(server, "good", good, GOOD, calm_s), calm_s)
    rows = [sample.resident_mb for sample in watch.samples]
    highest = max(sum(sample.resident_mb.values()) for sample in watch.samples)
    calm = min(before["answered_per_second"], after["answered_per_second"])
    figures = {
        "good_before": before,
        "good_during": during,
        "good_after": after,
        "attack": attacked,
        "share_kept": round(during["answered_per_second"] / max(before["answered_per_second"], 0.1), 3),
        "share_kept_of_the_lower": round(during["answered_per_second"] / max(calm, 0.1), 3),
        "memory_calm_mb": round(max(calm_mb, default=0.0), 1),
        "memory_highest_mb": round(highest, 1),
        "memory_growth_mb": round(highest - max(calm_mb, default=0.0), 1),
        "memory_first_and_highest_mb": {
            who: [rows[0].get(who), max(row.get(who, 0.0) for row in rows)]
            for who in sorted({who for row in rows for who in row})
        },
        "server_cpu_s": {role: round(busy_after[role] - busy_before.get(role, 0.0), 1) for role in sorted(busy_after)},
        "workers_died": len(pids - find_workers(server.root)),
    }
    rates = f"{before['answered_per_second']} -> {during['answered_per_second']} -> {after['answered_per_second']}"
    campaign.tell(
        f"{name}: {rates} good answers/s, memory +{figures['memory_growth_mb']} MB, attack {attacked['statuses']}"
    )
    return figures


def find_workers(root: int) -> set[int]:
    """Return the process ids of the model's workers."""
    return {process.pid for process in list_family(root) if name_role(process) == "worker"}


def use_processor(root: int) -> dict[str, float]:
    """Return the processor seconds that each role has used."""
    used: dict[str, float] = {}
    for process in list_family(root):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            used[name_role(process)] = used.get(name_role(process), 0.0) + times.user + times.system
    return used


def main(arguments: Sequence[str] | None = None) -> int:
    """Flood ours, flood theirs, write."""
    options = parse_arguments(arguments)
    campaign = start("flood", options)
    figures: dict[str, Any] = {"attacking_connections": ATTACKERS, "good_connections": GOOD}
    with tempfile.TemporaryDirectory(prefix="flood-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        bodies = (directory / "good", directory / "bomb")
        bodies[0].write_bytes(sample_digit())
        bodies[1].write_bytes(png_bomb())
        figures["bomb_bytes"], figures["good_bytes"] = (body.stat().st_size for body in reversed(bodies))
        with run_garrison(directory) as server:
            for attacker in ("limited", "unlimited"):
                figures[f"garrison_{attacker}"] = flood(campaign, attacker, server, attacker, bodies, options.seconds)
        if not options.without_stock:
            (directory / "stock").mkdir()
            with run_unprotected(directory / "stock") as server:
                figures["stock"] = flood(campaign, "stock", server, "", bodies, options.seconds)
    return campaign.finish(figures, judge(figures))


def judge(figures: dict[str, Any]) -> list[str]:
    """Return what should not have been; of stock nothing is asked."""
    misses = []
    for name in ("garrison_limited", "garrison_unlimited"):
        row = figures[name]
        if row["share_kept"] < LEAST_SHARE:
            misses.append(f"{name}: good requests kept {row['share_kept']:.0%} of their throughput")
        if row["memory_growth_mb"] > MOST_GROWTH_MB:
            misses.append(f"{name}: memory grew by {row['memory_growth_mb']} MB")
        if row["workers_died"]:
            misses.append(f"{name}: {row['workers_died']} workers died")
        if row["attack"]["statuses"].get("200"):
            misses.append(f"{name}: bombs were answered")
    return misses


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser("flood", __doc__)
    parser.add_argument("--seconds", type=float, default=60, help="of each attack")
    parser.add_argument("--without-stock", action="store_true", help="only Garrison")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
