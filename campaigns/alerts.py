"""Show that alerts are silent while nothing is wrong, and fire within a minute of their cause: both for each rule.

Silent: ten minutes of normal traffic; an hour of it is the campaign `hour`. Then each cause is brought about for real,
in the same traffic, and the time until Prometheus says that the alert fires is noted. Rules and intervals are those
that ship; nothing is scaled.
"""

import argparse
import contextlib
import json
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from campaigns.causes import CAUSES, IMPORTS, LAST_CAUSES, MOODS, MOODS_HANDLER, Cause, Scene
from campaigns.hour import ASKED, wait
from campaigns.prometheus import RULES, Prometheus
from campaigns.result import Campaign, make_parser, start
from campaigns.serving import MODELS, pack_samples
from campaigns.visitors import CLIENTS, Bodies, Visitor, draw_bodies, receive
from garrison.gateway.certificates import ensure_certificate
from garrison.gateway.clients import make_scopes
from garrison.gateway.keys import issue_key
from lacking import LANDLOCK, lack
from stack.conftest import save_sums
from stack.running import RunningStack, free_monitoring_port, free_port, pack_contract

LIVE_S = 600
WITHIN_S = 60  # the aim
PATIENCE_S = 120
LONG = timedelta(days=90)
SETTLE_S = 15
MORE_CLIENTS = """\
  tester: {models: [digits, tumours, languages, scenes, scene_masks, moods], requests_per_second: 200, burst: 1000}
  counted: {models: [digits], requests_per_second: 10, burst: 30, queries_per_day: 20}
"""
WEAK = {
    "GarrisonPostureBelowRequirement": "a start where the kernel has no Landlock",
    "GarrisonUnsafeSetting": "a start with `unsafe_without: [landlock]`",
    "GarrisonCertificateExpiring": "a start with a certificate that ends in ten days",
    "GarrisonKeyExpiring": "a start with clients whose keys end in a day",
}
STOP = Cause("GarrisonNoTraffic", "all clients stop", lambda _: time.monotonic())

Times = dict[str, dict[str, Any]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Watch, bring about, write."""
    options = parse_arguments(arguments)
    campaign = start("alerts", options)
    bodies = draw_bodies(options.seed)
    with tempfile.TemporaryDirectory(prefix="alerts-") as name:
        models = pack_samples(Path(name) / "models")
        live, times = try_running(campaign, models, pack_moods(Path(name)), bodies, options)
        times |= try_weak(campaign, Path(name))
    figures = {"live_s": options.seconds, "fired_live": live, "rules": describe(times)}
    return campaign.finish(figures, judge(figures))


def pack_moods(directory: Path) -> Path:
    """Write the handler that does what it is asked; return where."""
    handler = directory / "moods.py"
    handler.write_text(MOODS_HANDLER)
    return handler


def try_running(
    campaign: Campaign, models: Path, handler: Path, bodies: Bodies, options: argparse.Namespace
) -> tuple[list[str], Times]:
    """Let normal traffic come, see that all is silent, then bring about one cause after the other."""
    times: Times = {}
    with serve(models, handler) as (stack, prometheus):
        scene = Scene(stack, bodies)
        began = time.time()
        with receive(stack.target, bodies, options.seed, options.seconds), ask_moods(stack):
            wait(campaign, prometheus, options.seconds)
            live = prometheus.fired_within(time.time() - began)
            campaign.tell(f"live: {live or 'silent'}")
            for cause in CAUSES:
                times[cause.alert] = bring_about(campaign, prometheus, scene, cause)
            wait_for_calm(campaign, prometheus, began)
        times[STOP.alert] = bring_about(campaign, prometheus, scene, STOP)
        for cause in LAST_CAUSES:
            times[cause.alert] = bring_about(campaign, prometheus, scene, cause)
    return live, times


@contextlib.contextmanager
def serve(models: Path, handler: Path) -> Iterator[tuple[RunningStack, Prometheus]]:
    """Run the stack with Prometheus, a model of moods, and all clients."""
    prometheus = Prometheus(free_monitoring_port())
    stack = RunningStack(models, settings=f"metrics: {{port: {free_port()}}}\n")
    stack.options += ["--monitoring", prometheus.port]
    with (stack.config / "admission.yaml").open("a") as file:
        file.write(IMPORTS)
    weights = handler.with_name("weights.pt")
    save_sums(weights)
    pack_contract(MOODS, weights, models, "--handler", handler, "--config", stack.config)
    (stack.config / "clients.yaml").write_text(CLIENTS + MORE_CLIENTS)
    asked = {**ASKED, "tester": (*MODELS, "moods"), "counted": ("digits",)}
    for client, names in asked.items():
        stack.target.keys[client] = issue_key(stack.state / "keys", client, make_scopes(names), LONG).token
    expired = datetime.now(UTC) - timedelta(days=2)
    token = issue_key(stack.state / "keys", "late", make_scopes(ASKED["late"]), timedelta(days=1), now=expired).token
    stack.target.keys["late expired"] = token
    with stack:
        time.sleep(SETTLE_S)
        yield stack, prometheus


@contextlib.contextmanager
def ask_moods(stack: RunningStack) -> Iterator[None]:
    """Ask the model of moods once a second, in a good one, so that it has a past."""
    ends = threading.Event()
    visitor = Visitor("tester", stack.target, {"moods": [b"good"]}, random.Random(1), ends)  # noqa: S311 - repeatable

    def visit() -> None:
        while not visitor.pause_about(1):
            visitor.ask("moods")

    thread = threading.Thread(target=visit)
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join()


def bring_about(campaign: Campaign, prometheus: Prometheus, scene: Scene, cause: Cause) -> dict[str, Any]:
    """Do it, wait until the alert fires, and end it."""
    before = prometheus.is_firing(cause.alert, cause.where)
    began = cause.happen(scene)
    found = measure(campaign, prometheus, cause, began)
    cause.mend(scene)
    return {**found, "fired_before": before}


def measure(campaign: Campaign, prometheus: Prometheus, cause: Cause, began: float) -> dict[str, Any]:
    """Wait until the alert fires; None after `PATIENCE_S`."""
    seconds = None
    while seconds is None and time.monotonic() - began < PATIENCE_S:
        with contextlib.suppress(OSError):
            if prometheus.is_firing(cause.alert, cause.where):
                seconds = round(time.monotonic() - began, 1)
        time.sleep(0.5)
    campaign.tell(f"{cause.alert}: {seconds} s")
    return {"cause": cause.words, "seconds": seconds}


def wait_for_calm(campaign: Campaign, prometheus: Prometheus, began: float) -> None:
    """Wait until there have been ten minutes of steady traffic."""
    campaign.tell(f"{time.time() - began:.0f} s of traffic; firing: {sorted(prometheus.firing())}")
    while time.time() - began < LIVE_S + 90:
        time.sleep(1)


def try_weak(campaign: Campaign, directory: Path) -> Times:
    """Start where the kernel lacks Landlock, with a certificate and keys that end soon; all four alerts at once."""
    models = directory / "weak"
    models.mkdir()
    (directory / "models" / "tumours").rename(models / "tumours")
    prometheus = Prometheus(free_monitoring_port())
    stack = RunningStack(models, served=["tumours"], settings=f"metrics: {{port: {free_port()}}}\n")
    stack.options += ["--monitoring", prometheus.port]
    cell = stack.config / "cell.yaml"
    cell.write_text(yaml.safe_dump({**yaml.safe_load(cell.read_text()), "unsafe_without": [LANDLOCK.split("_")[0]]}))
    ensure_certificate(stack.state / "certificates", datetime.now(UTC) - timedelta(days=20))
    command = [*lack(LANDLOCK), *stack.command()]
    stack.command = lambda: command  # type: ignore[method-assign] # only this stack
    began = time.monotonic()
    with stack:
        causes = [Cause(alert, words, lambda _: began) for alert, words in WEAK.items()]
        return {cause.alert: measure(campaign, prometheus, cause, began) for cause in causes}


def describe(times: Times) -> Times:
    """Return a row for each alert of the rules, in their order."""
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    return {rule["alert"]: times.get(rule["alert"], {}) for rule in rules if "alert" in rule}


def judge(figures: dict[str, Any]) -> list[str]:
    """Return what should not have been."""
    misses = [f"{alert} fired while nothing was wrong" for alert in figures["fired_live"]]
    for alert, row in figures["rules"].items():
        if row.get("seconds") is None or row["seconds"] > WITHIN_S:
            misses.append(f"{alert}: {json.dumps(row.get('seconds'))} s, with an aim of {WITHIN_S}")
        if row.get("fired_before"):
            misses.append(f"{alert} fired before its cause")
    return misses


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser("alerts", __doc__)
    parser.add_argument("--seconds", type=float, default=LIVE_S, help="how long to watch normal traffic")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
