"""slowhttptest: hundreds of connections that say as little as they can, in three ways at a time, and nobody notices.

Slowloris (headers that do not end), R-U-Dead-Yet (bodies that do not end) and slow read (answers that are not taken).
"""

import csv
import socketserver
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from attacks.gateway.door import Door, Grounds
from attacks.gateway.exchange import Http1, Verdict
from attacks.gateway.naive import NaiveGateway
from attacks.gateway.program import find_program
from attacks.gateway.rows.row import DIGITS, post
from garrison.gateway import certificates

SECONDS, CONNECTIONS = 13, 250  # longer than the shortest timeout that ships; together under limits.max_connections
TIMEOUT_S, BENIGN_TIMEOUT_S = 60, 5
TYPE = "image/png\r\nx-api-key: {key}"  # slowhttptest has no option for further headers
WAYS = {
    "slow headers": ("-H", "-i", "3", "-x", "20", "-u", f"https://127.0.0.1:{{port}}{DIGITS}"),
    "slow bodies": (
        "-B",
        "-i",
        "3",
        "-x",
        "20",
        "-s",
        "60000",
        "-f",
        TYPE,
        "-u",
        f"https://127.0.0.1:{{port}}{DIGITS}",
    ),
    "slow reading": (
        "-X",
        "-w",
        "1",
        "-y",
        "8",
        "-n",
        "5",
        "-z",
        "1",
        "-k",
        "3",
        "-u",
        "https://127.0.0.1:{port}/healthz",
    ),
}


@dataclass(frozen=True)
class Run:
    """What slowhttptest saw, second by second, and what a benign client was told meanwhile."""

    seconds: dict[str, list[dict[str, str]]]
    verdicts: list[Any]

    def available(self, way: str) -> list[bool]:
        """Say for each second whether the service was there, as slowhttptest's own probe saw it."""
        return [int(second["Service Available"]) > 0 for second in self.seconds[way]]

    def connected(self, way: str) -> int:
        return max(int(second["Connected"]) for second in self.seconds[way])


def attack(door: Door, directory: Path, ways: Sequence[str], seconds: int = SECONDS) -> Run:
    """Run slowhttptest in several ways at a time, and ask as a benign client for as long as it takes."""
    program = find_program("slowhttptest", "slowhttptest")

    def run(way: str) -> list[dict[str, str]]:
        prefix = directory / way.replace(" ", "-")
        options = [option.format(port=door.port, key=door.grounds.tokens["key"]) for option in WAYS[way]]
        command = [program, "-c", str(CONNECTIONS), "-r", str(CONNECTIONS), "-l", str(seconds), "-p", "3"]
        subprocess.run(
            [*command, "-g", "-o", str(prefix), *options], timeout=TIMEOUT_S, check=False, capture_output=True
        )
        return list(csv.DictReader(prefix.with_suffix(".csv").read_text().splitlines(), skipinitialspace=True))

    with ThreadPoolExecutor(len(ways)) as pool:
        waiting = {way: pool.submit(run, way) for way in ways}
        verdicts = list(ask_until(door, list(waiting.values())))
        return Run({way: one.result() for way, one in waiting.items()}, verdicts)


def ask_until(door: Door, waiting: Sequence[Any]) -> Iterator[Any]:
    """Ask again and again, each time on a connection of its own."""
    while not all(one.done() for one in waiting):
        try:
            yield ask(door)
        except OSError as error:
            yield type(error).__name__
        time.sleep(0.02)


def ask(door: Door) -> Verdict:
    with door.connect("http/1.1", BENIGN_TIMEOUT_S) as connection:
        wire = Http1(connection)
        wire.send(door.grounds.fill(post()))
        return wire.read().verdict


class OneAtATime(NaiveGateway):
    """What is no gateway, and answers nobody before it is done with whoever came first; each has a second."""

    process_request = socketserver.TCPServer.process_request


@pytest.fixture(scope="module")
def runs(shipped: Door, grounds: Grounds, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """What becomes of the gateway as it ships, and of what stands in its place; both at the same time."""
    certificate = certificates.ensure_certificate(grounds.directory / "tls")
    places = [tmp_path_factory.mktemp(name) for name in ("shipped", "naive")]
    with OneAtATime(certificate, grounds.inference.path) as naive, ThreadPoolExecutor(1) as pool:
        weak = pool.submit(attack, Door(grounds, naive.port), places[1], ["slow headers"], seconds=6)
        return {"shipped": attack(shipped, places[0], list(WAYS)), "naive": weak.result()}


@pytest.mark.parametrize("way", WAYS)
def test_the_service_is_there_throughout(runs: dict[str, Run], way: str) -> None:
    assert runs["shipped"].connected(way) > CONNECTIONS / 2  # they were there, all at a time
    assert all(runs["shipped"].available(way))


def test_every_request_of_others_is_answered(runs: dict[str, Run]) -> None:
    assert len(runs["shipped"].verdicts) > SECONDS
    assert set(runs["shipped"].verdicts) == {200}


def test_who_is_slow_is_gone_after_its_time(runs: dict[str, Run]) -> None:
    """Headers have ten seconds; after that, these connections end one after the other."""
    ends = [int(second["Closed"]) for second in runs["shipped"].seconds["slow headers"]]
    assert ends[SECONDS // 2] == 0 < ends[-1]


def test_a_server_that_waits_for_each_of_them_is_not_there(runs: dict[str, Run]) -> None:
    assert not all(runs["naive"].available("slow headers"))
    assert set(runs["naive"].verdicts) != {200}
