"""Where the state comes from: Prometheus, where one answers that scrapes Garrison, or else the pages themselves."""

import collections
import time
from typing import Protocol

from garrison.errors import Undecided
from garrison.watch.seeing.asking import Site
from garrison.watch.seeing.pages import read_pages
from garrison.watch.seeing.prometheus import Prometheus
from garrison.watch.seeing.samples import Change, Samples
from garrison.watch.seeing.state import NAMES, State, describe

WINDOW_S = 60
PROMETHEUS = Site("http", "127.0.0.1", 9090)
METRICS = Site("http", "127.0.0.1", 9464)


class Source(Protocol):
    """Something that knows the state of the stack; `told` is what a person may call it."""

    told: str

    def look(self) -> State:
        """Return the state now."""


class FromPrometheus:
    """Compare the counts of now with those of a minute ago, and take the alerts."""

    def __init__(self, site: Site) -> None:
        self.told = f"Prometheus at {site}"
        self._prometheus = Prometheus(site)

    def look(self) -> State:
        """Return the state now.

        Raises:
            Undecided: Prometheus does not answer, or has nothing of Garrison's.
        """
        now_s = time.time()
        now = self._prometheus.read(NAMES, now_s)
        if not now.listed:
            raise Undecided(f"{self.told} has no metrics of Garrison's; is the metrics listener among its targets?")
        return describe(Change(self._prometheus.read(NAMES, now_s - WINDOW_S), now), self._prometheus.list_alerts())


class FromPages:
    """Read the pages again and again, and compare with what they said up to a minute ago."""

    def __init__(self, site: Site, pause_s: float) -> None:
        self.told = f"the metrics listener at {site}; without Prometheus there are no alerts"
        self._site, self._pause_s = site, pause_s
        self._seen: collections.deque[Samples] = collections.deque()

    def look(self) -> State:
        """Return the state now; the first time after a pause, since it takes two looks to see what happens.

        Raises:
            Undecided: the listener does not answer, or is none of Garrison's.
        """
        if not self._seen:
            self._seen.append(read_pages(self._site))
            time.sleep(self._pause_s)
        now = read_pages(self._site)
        while len(self._seen) > 1 and now.time_s - self._seen[0].time_s > WINDOW_S:
            self._seen.popleft()
        before = self._seen[0]
        self._seen.append(now)
        return describe(Change(before, now), None)


def find_source(prometheus: Site | None, metrics: Site | None, pause_s: float) -> Source:
    """Return what was asked for, or what answers on this machine.

    Raises:
        Undecided: nothing was asked for, and nothing answers.
    """
    if prometheus is not None:
        return FromPrometheus(prometheus)
    if metrics is not None:
        return FromPages(metrics, pause_s)
    for source in (FromPrometheus(PROMETHEUS), FromPages(METRICS, 0)):
        try:
            source.look()
        except Undecided:
            continue
        return source if isinstance(source, FromPrometheus) else FromPages(METRICS, pause_s)
    raise Undecided(
        f"nothing of Garrison's answers at {PROMETHEUS} (Prometheus) or {METRICS} (the metrics listener); write "
        "`metrics: {address: 127.0.0.1, port: 9464}` into gateway.yaml, or say where they are: --metrics, --prometheus"
    )
