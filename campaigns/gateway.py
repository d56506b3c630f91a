"""Measure what the gateway costs: the same server asked through it, and directly on its unix socket.

One stack serves the bench's light network. h2load asks it with the bench's photo of 197 kB on connections that stay
open, by turns through the gateway (TLS, key, limits, the body held until it is whole) and on TorchServe's own socket,
the order changing from round to round. Client, gateway and server share the machine: what the client spends on TLS
counts against the gateway, too.

The aims are issue F's: at most 15 % less throughput, at most 2 ms more at the median.
"""

import argparse
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.garrison_system import Garrison
from bench.load import write_bodies
from bench.usage import processor_seconds
from bench.workloads import WORKLOADS, prepare
from campaigns.paired import in_turn, mean_difference, mean_ratio
from campaigns.result import Campaign, make_parser, start
from garrison.errors import ConfigError
from garrison.sockets import INFERENCE

WORKLOAD = next(workload for workload in WORKLOADS if workload.name == "light-640")
WORKERS, BATCH, DELAY_MS = 2, 8, 1
CONNECTIONS = 8
WARM_UP_S = 5
MOST_LOST, MOST_SLOWER_MS = 0.15, 2.0
GRACE_S = 60
# h2load 1.52 counts no status where a server sends no reason phrase, as TorchServe does: what is left is that no other
# status came and that no answer is missing.
NONE_REFUSED = r"^requests: .* 0 errored, 0 timeout$.*^status codes: [0-9]+ 2xx, 0 3xx, 0 4xx, 0 5xx$"


@dataclass(frozen=True)
class Measured:
    """What one load showed: answers a second, the median in ms, and processor time in ms that an answer took here."""

    rate: float
    p50_ms: float
    cpu_ms: dict[str, float]


@dataclass(frozen=True)
class Way:
    """One way to the server: `base` is what h2load connects to, if not what the URL says."""

    name: str
    url: str
    base: str
    key: str
    server_pid: int

    def measure(self, body: Path, seconds: float) -> Measured:
        """Ask for some seconds.

        Raises:
            RuntimeError: an answer was not a prediction, or h2load failed.
        """
        before = processor_seconds(self.server_pid)
        with tempfile.NamedTemporaryFile(prefix="h2load-") as log:
            command = [find_h2load(), "--h1", f"-c{CONNECTIONS}", "-t1", f"-D{seconds:g}", f"--log-file={log.name}"]
            command += ["-d", str(body), "-H", f"content-type: {WORKLOAD.content_type}", "-H", f"x-api-key: {self.key}"]
            command += [f"--base-uri={self.base}"] if self.base else []
            result = subprocess.run(  # noqa: S603 - our own command
                [*command, self.url], capture_output=True, text=True, timeout=seconds + GRACE_S, check=True
            )
            answers = [line.split("\t") for line in Path(log.name).read_text().splitlines()]
        used = processor_seconds(self.server_pid) - before
        rate = re.search(r"^finished in .*?, ([0-9.]+) req/s", result.stdout, re.MULTILINE)
        if rate is None or not answers or not re.search(NONE_REFUSED, result.stdout, re.MULTILINE | re.DOTALL):
            raise RuntimeError(f"{self.name}: {result.stdout[-800:]}{result.stderr[-500:]}")
        return Measured(
            float(rate[1]),
            statistics.median(int(micros) for _, _, micros in answers) / 1000,
            {role: 1000 * spent / len(answers) for role, spent in used.items()},
        )


def find_h2load() -> str:
    """Return the load generator.

    Raises:
        ConfigError: it is not installed.
    """
    path = shutil.which("h2load")
    if path is None:
        raise ConfigError("h2load is not installed; on Debian and Ubuntu: apt install nghttp2-client")
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write what came out."""
    parser = make_parser("gateway", __doc__)
    parser.add_argument("--rounds", type=int, default=30, help="pairs of loads (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=5, help="of each load (default: %(default)s)")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # the server is stopped on the way out
    campaign = start("gateway", options)
    with tempfile.TemporaryDirectory(prefix="gateway-") as name:
        directory = Path(name)
        prepared = prepare(WORKLOAD, directory / "model", WORKERS, BATCH, DELAY_MS)
        body = write_bodies(prepared.bodies, directory / "bodies")[0]
        (directory / "garrison").mkdir()
        with Garrison().run(prepared, directory / "garrison") as running:
            socket = directory / "garrison" / "run" / INFERENCE
            path = f"/predictions/{WORKLOAD.model}"
            ways = (
                Way("direct", f"http://localhost{path}", f"unix:{socket}", "none", running.pid),
                Way("gateway", running.target.url, "", running.target.key, running.pid),
            )
            for way in ways:
                way.measure(body, WARM_UP_S)
            figures = compare(campaign, ways, body, options)
    figures["body_bytes"] = len(prepared.bodies[0])
    return campaign.finish(figures, list_misses(figures))


def compare(campaign: Campaign, ways: tuple[Way, Way], body: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Measure both ways in pairs."""
    pairs: list[tuple[Measured, Measured]] = []
    for number in range(options.rounds):
        measured = {way.name: way.measure(body, options.seconds) for way in in_turn(ways, number)}
        direct, gateway = measured["direct"], measured["gateway"]
        pairs.append((direct, gateway))
        told = f"{direct.rate:.0f}/s, p50 {direct.p50_ms:.1f} ms direct; {gateway.rate:.0f}/s, {gateway.p50_ms:.1f} ms"
        campaign.tell(f"{number + 1}: {told} by the gateway")
    roles = sorted({role for _, gateway in pairs for role in gateway.cpu_ms})
    return {
        "throughput": mean_ratio([(direct.rate, gateway.rate) for direct, gateway in pairs], options.seed).rounded(4),
        "p50_more_ms": mean_difference(
            [(direct.p50_ms, gateway.p50_ms) for direct, gateway in pairs], options.seed
        ).rounded(3),
        "cpu_ms": {
            role: {
                name: round(statistics.fmean(one.cpu_ms.get(role, 0) for one in side), 3)
                for name, side in zip(("direct", "gateway"), zip(*pairs, strict=True), strict=True)
            }
            for role in roles
        },
        "pairs_per_second": [[direct.rate, gateway.rate] for direct, gateway in pairs],
        "pairs_p50_ms": [[round(one.p50_ms, 2) for one in pair] for pair in pairs],
    }


def list_misses(figures: dict[str, Any]) -> list[str]:
    """Compare with what was aimed at."""
    misses = []
    if (mean := figures["throughput"]["mean"]) < 1 - MOST_LOST:
        misses.append(f"throughput by the gateway is {mean} of that without it; {1 - MOST_LOST} was aimed at")
    if (more := figures["p50_more_ms"]["mean"]) > MOST_SLOWER_MS:
        misses.append(f"the median answer takes {more} ms more; {MOST_SLOWER_MS} ms at most were aimed at")
    return misses


if __name__ == "__main__":
    sys.exit(main())
