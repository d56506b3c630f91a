"""Read the pages of a gateway's metrics listener: a site enters, samples leave. Needs no Prometheus.

The gateway's own page, then that of each server and of each process of the guard, from 0 until there is none.
"""

import http
import time
from collections.abc import Iterator

from prometheus_client.parser import text_string_to_metric_families

from garrison.errors import Undecided
from garrison.watch.seeing.asking import Site, ask
from garrison.watch.seeing.samples import Sample, Samples

GATEWAY_PATH, SERVERS_PATH, GUARDS_PATH = "/metrics/gateway", "/metrics/servers/", "/metrics/guards/"
MAX_PAGES = 64
PREFIX = "garrison_"


def read_pages(site: Site) -> Samples:
    """Read every page.

    Raises:
        Undecided: nothing answers, or what answers is no metrics listener of Garrison's.
    """
    began = time.time()
    gateway = _read_page(site, GATEWAY_PATH)
    if gateway is None:
        raise Undecided(f"{site}{GATEWAY_PATH}: not there; is that the metrics listener of gateway.yaml?")
    listed = list(gateway)
    for prefix in (SERVERS_PATH, GUARDS_PATH):
        for number in range(MAX_PAGES):
            page = _read_page(site, f"{prefix}{number}")
            if page is None:
                break
            listed.extend(page)
    return Samples(began, tuple(listed))


def _read_page(site: Site, path: str) -> list[Sample] | None:
    """Return a page's samples; None where there is no such page, and nothing of one whose server does not answer."""
    reply = ask(site, path)
    if reply.status == http.HTTPStatus.NOT_FOUND:
        return None
    if reply.status != http.HTTPStatus.OK:
        return []
    try:
        return list(_parse(reply.body.decode(), path))
    except (ValueError, KeyError, IndexError) as error:
        raise Undecided(f"{site}{path}: is no page of metrics") from error


def _parse(text: str, target: str) -> Iterator[Sample]:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.startswith(PREFIX):
                yield Sample(sample.name, sample.labels, sample.value, target)
