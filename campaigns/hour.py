"""Record an hour of normal traffic as Prometheus sees it, every 5 s, and replay it through the rules by promtool.

No alert may fire in the replay, nor meanwhile: the rules are those of config/, in force while it is recorded. What
counts as normal is in `visitors`. What was recorded is kept, for the rules that come after.
"""

import argparse
import contextlib
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from campaigns.prometheus import Prometheus, replay, save
from campaigns.result import RESULTS, Campaign, make_parser, start
from campaigns.serving import MODELS, pack_samples
from campaigns.visitors import CLIENTS, Visitor, draw_bodies, receive
from garrison.gateway.clients import make_scopes
from garrison.gateway.keys import issue_key
from stack.running import RunningStack, free_monitoring_port, free_port

SECONDS = 3600
SERIES = RESULTS / "hour.series.json.gz"
SETTLE_S = 15  # until all has been scraped once, and evaluated
TELL_EVERY_S = 120
LONG = timedelta(days=90)
ASKED = {"steady": MODELS, "phone": ("digits", "scenes"), "nightly": ("tumours",), "rare": ("digits",)}
ASKED |= {"clumsy": ("digits", "tumours", "languages"), "late": ("languages",)}


@contextlib.contextmanager
def serve_watched(models: Path) -> Iterator[tuple[RunningStack, Prometheus]]:
    """Run the whole stack with Prometheus and Alertmanager, for the visitors."""
    prometheus = Prometheus(free_monitoring_port())
    stack = RunningStack(models, settings=f"metrics: {{port: {free_port()}}}\n")
    stack.options += ["--monitoring", prometheus.port]
    (stack.config / "clients.yaml").write_text(CLIENTS)
    for client, asked in ASKED.items():
        stack.target.keys[client] = issue_key(stack.state / "keys", client, make_scopes(asked), LONG).token
    long_ago, day = datetime.now(UTC) - timedelta(days=2), timedelta(days=1)
    expired = issue_key(stack.state / "keys", "late", make_scopes(ASKED["late"]), day, now=long_ago)
    stack.target.keys["late expired"] = expired.token
    with stack:
        time.sleep(SETTLE_S)
        yield stack, prometheus


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve, let them come, write down what was scraped."""
    options = parse_arguments(arguments)
    campaign = start("hour", options)
    bodies = draw_bodies(options.seed)
    with tempfile.TemporaryDirectory(prefix="hour-") as name:
        models = pack_samples(Path(name) / "models")
        with serve_watched(models) as (stack, prometheus):
            began = time.time()
            with receive(stack.target, bodies, options.seed, options.seconds) as visitors:
                wait(campaign, prometheus, options.seconds)
            lasted_s = time.time() - began
            fired = prometheus.fired_within(lasted_s)
            recorded = prometheus.record(began, began + lasted_s)
    save(recorded, options.series)
    figures = {
        "seconds": round(lasted_s, 1),
        "requests": describe(visitors),
        "series": len(recorded),
        "fired_live": fired,
        "fired_replayed": replay(recorded),
    }
    return campaign.finish(figures, judge(figures))


def wait(campaign: Campaign, prometheus: Prometheus, seconds: float) -> None:
    """Wait, and tell of alerts meanwhile."""
    ends = time.monotonic() + seconds
    while (left := ends - time.monotonic()) > 0:
        time.sleep(min(left, TELL_EVERY_S))
        campaign.tell(f"firing: {sorted(prometheus.firing()) or 'nothing'}")


def describe(visitors: Sequence[Visitor]) -> dict[str, Any]:
    """Return what each was answered."""
    total: Counter[int] = Counter()
    for visitor in visitors:
        total.update(visitor.statuses)
    each = {visitor.name: dict(sorted(visitor.statuses.items())) for visitor in visitors}
    return {"all": dict(sorted(total.items())), **each}


def judge(figures: dict[str, Any]) -> list[str]:
    """Return what should not have been."""
    misses = [f"{alert} fired while nothing was wrong" for alert in figures["fired_live"]]
    misses += [f"{alert} fired when it was replayed" for alert in figures["fired_replayed"]]
    misses += ["requests without an answer"] if figures["requests"]["all"].get(0) else []
    return misses


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser("hour", __doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--series", type=Path, default=SERIES, help="where what was scraped is kept")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
