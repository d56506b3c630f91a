"""Change everything that an operator can change while clients ask, and count the requests that failed.

Clients ask all the time, over HTTP/1.1 and HTTP/2, some on connections that stay open, some on new ones. Meanwhile the
signing keys are rotated and the old ones retired, a client is added and one key revoked, the certificate is replaced, a
broken configuration is written and mended, and a new version of the model is rolled out to two servers. No request
that is allowed may fail, and no connection that stays open may be closed. It is measured how long each change takes to
come into force, from the moment at which it was written.

With `--recorded` there are no model servers but one that records, and instead of a version a model is added.
"""

import argparse
import contextlib
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx

from campaigns.result import Campaign, make_parser, start
from campaigns.sites import (
    GIVE_UP_S,
    PATH,
    RecordedSite,
    RolledSite,
    Site,
    connect,
    count_events,
    read_serial,
    wait_until,
)
from garrison.gateway.clients import make_scopes
from garrison.gateway.keys import IssuedKey, issue_key
from garrison.gateway.revocation import revoke_keys
from garrison.gateway.rotation import list_signing_keys, retire_key, rotate_keys

SECONDS = 60.0
MOST_S = 5.0  # from writing a change to its being in force; "within seconds"
SETTLED_S = 0.5
PAUSE_S = 0.01
MOST_SHOWN = 20
NEW = "new version"
WAYS = {  # HTTP/2? Does the connection stay open? How many of these clients?
    "http/1.1, open": (False, True, 3),
    "http/1.1, new": (False, False, 1),
    "http/2, open": (True, True, 2),
    "http/2, new": (True, False, 1),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaign, and write what came out."""
    options = parse_arguments(arguments)
    campaign = start("rotation", options)
    with tempfile.TemporaryDirectory(prefix="garrison-") as name, open_site(options, Path(name)) as site:
        operator = Operator(site)
        callers = Callers(operator)
        try:
            took = change_everything(campaign, operator, options.seconds)
        finally:
            callers.stop()
        figures = {"in_force_after_s": took, **callers.figures(), "events": count_events(site)}
    return campaign.finish(figures, find_misses(figures))


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser("rotation", __doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long clients ask, at least")
    parser.add_argument("--recorded", action="store_true", help="before a server that records, without TorchServe")
    return parser.parse_args(arguments)


@contextlib.contextmanager
def open_site(options: argparse.Namespace, directory: Path) -> Iterator[Site]:
    """Start what is to be changed."""
    kind = RecordedSite if options.recorded else RolledSite
    with kind.opened(directory) as site:
        yield site


class Operator:
    """Who changes things. `token` is the key that legitimate clients use at the moment."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.token = self.first = issue(site, "demo").token
        self._guest = issue(site, "guest")

    def add_signing_key(self) -> float:
        """Rotate, and give clients new keys once the gateway takes them: those that they have work all the time."""
        rotate_keys(self.site.keys)
        fresh = issue(self.site, "demo").token
        self.site.render()
        took = self._wait_for(200, fresh)
        time.sleep(SETTLED_S)  # until the last of Envoy's threads has it, too
        self.token = fresh
        return took

    def retire_signing_key(self) -> float:
        """Take the earlier pair out: a key of it is refused."""
        time.sleep(SETTLED_S)  # until every client has taken its new key
        retire_key(self.site.keys, list_signing_keys(self.site.keys)[1].key_id)
        self.site.render()
        return self._wait_for(401, self.first)

    def add_client(self) -> float:
        """List a client."""
        self._guest = issue(self.site, "guest")
        self.site.write_clients("demo", "guest")
        self.site.render()
        return self._wait_for(200, self._guest.token)

    def revoke_key(self) -> float:
        """Revoke one key: its holder is refused on the connection that it has, where its next key is taken."""
        with connect(self.site, h2=True) as client:  # HTTP/1.1 is closed by who refuses a body
            _, before = ask(client, self._guest.token, self.site.body)
            revoke_keys(self.site.keys, [self._guest.record.key_id], "", "found in a log", unlisted=False)
            self.site.render()
            took = wait_until(lambda: ask(client, self._guest.token, self.site.body)[0] == 401)
            status, after = ask(client, issue(self.site, "guest").token, self.site.body)
        return took if (status, after) == (200, before) else GIVE_UP_S

    def replace_certificate(self) -> float:
        """Put another certificate and key in the place of those that are served."""
        before = read_serial(self.site)
        self.site.replace_certificate()
        return wait_until(lambda: read_serial(self.site) != before)

    def break_configuration(self) -> float:
        """Write what is no configuration; return when the log said so."""
        before = count_events(self.site)["configuration_refused"]
        self.site.write_rubbish()
        return wait_until(lambda: count_events(self.site)["configuration_refused"] > before)

    def mend_configuration(self) -> float:
        """Render again, with one client more."""
        self.site.write_clients("demo", "guest", "late")
        self.site.render()
        return self._wait_for(200, issue(self.site, "late").token)

    def bring_new(self) -> float:
        """Bring a new version, or a model, for whose answer is waited."""
        token = issue(self.site, "demo", self.site.new_path.rpartition("/")[2]).token
        self.site.bring_new()
        headers = {"x-api-key": token}
        with connect(self.site, h2=True) as client:
            return wait_until(
                lambda: self.site.is_new(client.post(self.site.new_path, headers=headers, content=self.site.body))
            )

    def _wait_for(self, status: int, token: str) -> float:
        with connect(self.site, h2=True) as client:
            return wait_until(lambda: ask(client, token, self.site.body)[0] == status)


def issue(site: Site, client: str, model: str = "digits") -> IssuedKey:
    """Issue a key."""
    return issue_key(site.keys, client, make_scopes([model]), timedelta(hours=1))


def ask(client: httpx.Client, token: str, body: bytes) -> tuple[int, Any]:
    """Ask once; return the status, and from which port."""
    with client.stream("POST", PATH, headers={"x-api-key": token}, content=body) as reply:
        port = reply.extensions["network_stream"].get_extra_info("client_addr")
        reply.read()
        return reply.status_code, port


@dataclass
class Calls:
    """What clients of one kind have met."""

    answered: int = 0
    failures: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    reopened: int = 0


class Callers:
    """Clients in threads of their own, until they are told to stop."""

    def __init__(self, operator: Operator) -> None:
        self._operator, self._site = operator, operator.site
        self._stop, self._lock = threading.Event(), threading.Lock()
        self.calls = {way: Calls() for way in WAYS}
        self._threads = [
            threading.Thread(target=self._call, args=(self.calls[way], h2, stays))
            for way, (h2, stays, count) in WAYS.items()
            for _ in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def _call(self, calls: Calls, h2: bool, stays: bool) -> None:
        ports: set[Any] = set()
        with contextlib.ExitStack() as closing:
            client = closing.enter_context(connect(self._site, h2=h2)) if stays else None
            while not self._stop.wait(PAUSE_S):
                with contextlib.ExitStack() as once:
                    self._ask(calls, client or once.enter_context(connect(self._site, h2=h2)), ports)
        with self._lock:
            calls.reopened += len(ports) - 1 if stays else 0

    def _ask(self, calls: Calls, client: httpx.Client, ports: set[Any]) -> None:
        began, said = time.monotonic(), ""
        try:
            status, port = ask(client, self._operator.token, self._site.body)
            ports.add(port)
            said = "" if status == HTTPStatus.OK else f"status {status}"
        except (httpx.HTTPError, OSError) as error:
            said = f"{type(error).__name__}: {error}"
        with self._lock:
            calls.answered += not said
            calls.slowest_s = max(calls.slowest_s, time.monotonic() - began)
            calls.failures += [said] if said else []

    def stop(self) -> None:
        """Let every client finish its request."""
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * GIVE_UP_S)

    def figures(self) -> dict[str, Any]:
        """Return what they have met."""
        calls = self.calls.items()
        return {
            "clients": {way: count for way, (_, _, count) in WAYS.items()},
            "answered": {way: one.answered for way, one in calls},
            "failed": {way: len(one.failures) for way, one in calls},
            "failures": [f"{way}: {said}" for way, one in calls for said in one.failures][:MOST_SHOWN],
            "closed": {way: one.reopened for way, one in calls if WAYS[way][1]},
            "slowest_s": round(max(one.slowest_s for _, one in calls), 3),
            "hanging": sum(thread.is_alive() for thread in self._threads),
        }


def change_everything(campaign: Campaign, operator: Operator, seconds: float) -> dict[str, float]:
    """Make each change in turn, spread over the time; return after how many seconds each was in force."""
    steps = {
        "signing key added": operator.add_signing_key,
        "signing key retired": operator.retire_signing_key,
        "client added": operator.add_client,
        "key revoked": operator.revoke_key,
        "certificate replaced": operator.replace_certificate,
        "broken configuration refused": operator.break_configuration,
        "configuration mended": operator.mend_configuration,
        NEW: operator.bring_new,
    }
    began, took = time.monotonic(), {}
    for number, (name, step) in enumerate(steps.items()):
        time.sleep(max(0.0, began + seconds * (number + 0.5) / len(steps) - time.monotonic()))
        took[name] = round(step(), 2)
        campaign.tell(f"{name}: in force after {took[name]} s")
    time.sleep(max(0.0, began + seconds - time.monotonic()))
    return took


def find_misses(figures: dict[str, Any]) -> list[str]:
    """Return which aims were missed."""
    misses = [f"{way}: {count} requests failed" for way, count in figures["failed"].items() if count]
    misses += [f"{way}: {count} connections were closed" for way, count in figures["closed"].items() if count]
    misses += [f"{way}: nobody was answered" for way, count in figures["answered"].items() if not count]
    slow = [name for name, took in figures["in_force_after_s"].items() if took > MOST_S]
    misses += [f"{name}: in force only after {figures['in_force_after_s'][name]} s" for name in slow]
    misses += [f"{figures['hanging']} clients hang"] if figures["hanging"] else []
    return misses


if __name__ == "__main__":
    sys.exit(main())
