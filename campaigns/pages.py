"""Ask for every page of the metrics listener, with 100 models and 1,000 clients: how large, how many series, how long?

    idle   each page, one question after the other, as Prometheus asks, while nobody asks for a prediction
    moved  the server's, when every one of its workers has counted something since the question before
    busy   each while two clients ask for predictions, each as fast as it is answered

What is behind the listener is real: Envoy and its launcher, all of whose clients have asked, the launcher's sums over
200 workers that have refused for every reason there is, a guard's counts. Only the models are not: a server answers at
once. The aim is of the idle gateway, for 19 questions in 20: two cores do other things, too.
"""

import argparse
import http
import http.client
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from campaigns.result import Campaign, make_parser, start
from campaigns.watched_site import START_S, Site, open_site
from garrison.watch.families import SECOND_BUCKETS

AIM_MS = 100.0
ENVOY, GATEWAY, SERVER, GUARD = PAGES = ("/metrics", "/metrics/gateway", "/metrics/servers/0", "/metrics/guards/0")
MOST_FIXED, MOST_EACH = 1000, 5  # series of the gateway's page: some, and for each model and client
MODEL_SERIES = len(SECOND_BUCKETS) + 3 + 4
SETTLES_S = 6  # Envoy adds a histogram to its page up to five seconds after the first value
ASKERS = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask, and write what came out."""
    parser = make_parser("pages", __doc__)
    parser.add_argument("--models", type=int, default=100, help="(default: %(default)s)")
    parser.add_argument("--clients", type=int, default=1000, help="(default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="of each model (default: %(default)s)")
    parser.add_argument("--questions", type=int, default=200, help="for each page (default: %(default)s)")
    options = parser.parse_args(arguments)
    campaign = start("pages", options)
    figures: dict[str, Any] = {}
    load = os.getloadavg()[0]
    with (
        tempfile.TemporaryDirectory(prefix="pages-") as name,
        open_site(Path(name), options.models, options.clients, options.workers) as site,
    ):
        campaign.tell("all clients ask once")
        site.ask(range(options.clients))
        for page in PAGES:
            measure(site, page, 1)
        time.sleep(SETTLES_S)
        figures["idle"] = {page: measure(site, page, options.questions) for page in PAGES}
        figures["moved"] = {SERVER: measure(site, SERVER, options.questions, site.count_more)}
        with site.asking(ASKERS):
            figures["busy"] = {page: measure(site, page, options.questions) for page in PAGES}
        for state, found in figures.items():
            tell(campaign, state, found)
    misses = find_misses(figures, options)
    return campaign.finish({"load_before": round(load, 1), **figures}, misses)


# The pages ------------------------------------------------------------------------------------------------------------


def measure(
    site: Site, page: str, questions: int, before: Callable[[int], None] = lambda number: None
) -> dict[str, Any]:
    """Ask for one page again and again, on a connection that stays open; `before` happens before each question."""
    connection = http.client.HTTPConnection("127.0.0.1", site.metrics_port, timeout=START_S)
    times, body = [], b""
    for number in range(1, questions + 1):
        before(number)
        began = time.perf_counter()
        connection.request("GET", page)
        answer = connection.getresponse()
        body = answer.read()
        times.append((time.perf_counter() - began) * 1000)
        if answer.status != http.HTTPStatus.OK:
            raise RuntimeError(f"{page}: {answer.status}")
    connection.close()
    found = {
        "median_ms": statistics.median(times),
        "p95_ms": sorted(times)[int(0.95 * len(times))],
        "max_ms": max(times),
    }
    series = sum(line[:1] not in (b"#", b"") for line in body.splitlines())
    return {"bytes": len(body), "series": series, **{name: round(value, 1) for name, value in found.items()}}


def find_misses(figures: dict[str, Any], options: argparse.Namespace) -> list[str]:
    """Compare with the aims: every page in time, and no more series than there are models and clients."""
    late = [
        f"{state}: {page}: 19 of 20 answers within {found['p95_ms']} ms; the aim is {AIM_MS:.0f}"
        for state in ("idle", "moved")
        for page, found in figures[state].items()
        if found["p95_ms"] >= AIM_MS
    ]
    most = MOST_FIXED + MODEL_SERIES * options.models + MOST_EACH * options.clients
    many = [page for page in (GATEWAY,) if figures["busy"][page]["series"] > most]
    grown = [page for page in PAGES if figures["busy"][page]["series"] != figures["idle"][page]["series"]]
    return (
        late
        + [f"{page}: more than {most} series" for page in many]
        + [f"{page}: requests have made new series" for page in grown]
    )


def tell(campaign: Campaign, state: str, found: dict[str, Any]) -> None:
    """Say what was measured."""
    for page, one in found.items():
        campaign.tell(f"{state}: {page}: {one}")


if __name__ == "__main__":
    sys.exit(main())
