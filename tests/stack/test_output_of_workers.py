"""A model that prints as fast as it can: the server's memory, the log and the neighbours stay as they were.

The stock server keeps a line until it ends. Its proof runs the same printing there.
"""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from attacks.stock import run_stock
from garrison.cell.output import FORWARDED_AT_ONCE_BYTES, FORWARDED_BYTES_PER_S, MAX_STAMPED_CHARACTERS
from stack.conftest import MOODY, SUMS, save_sums
from stack.observing import wait_for
from stack.running import Answer, RunningStack, pack_contract, send_together

MEBIBYTE = 2**20
PRINTED_BYTES = 64 * MEBIBYTE
TOO_MUCH_BYTES = 64 * MEBIBYTE  # stock holds each byte of an endless line at least once, and once more as it grows
KINDS = {"an endless line": "x", "empty lines": "\n", "short lines": "x\n", "events": '{"event": "refused"}\n'}
HANDLER = """\
import numpy as np

from garrison.torchserve.base import SafeHandler

KINDS = {kinds!r}


class Chatty(SafeHandler):
    def load(self, model):
        pass

    def prepare(self, item):
        return np.array([KINDS.index(item.value) if item.value in KINDS else -1], np.float32)

    def infer(self, batch):
        kind = int(batch[0, 0])
        if kind >= 0:
            piece = {pieces!r}[kind] * (2**20 // len({pieces!r}[kind]))
            for _ in range({pieces_printed}):
                print(piece, end="", flush=True)
        return batch

    def present(self, output, item):
        return {{"said": item.value}}
"""
STOCK_HANDLER = f"""\
class Chatty:
    def initialize(self, context):
        pass

    def handle(self, data, context):
        for _ in range({PRINTED_BYTES // MEBIBYTE}):
            print("x" * 2**20, end="", flush=True)
        return ["printed"] * len(data)
"""


class Peak:
    """The most memory that a server has held since it was last asked."""

    def __init__(self, server: psutil.Process) -> None:
        self._pid = server.pid
        self.read()

    def read(self) -> int:
        lines = Path(f"/proc/{self._pid}/status").read_text().splitlines()
        peak = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
        Path(f"/proc/{self._pid}/clear_refs").write_text("5")
        return peak


def find_java(parent: int) -> psutil.Process:
    return next(one for one in psutil.Process(parent).children(recursive=True) if one.name() == "java")


@pytest.fixture(scope="module")
def chatty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    sources = tmp_path_factory.mktemp("chatty")
    models, weights, handler = sources / "models", sources / "model.pt", sources / "handler.py"
    save_sums(weights)
    handler.write_text(
        HANDLER.format(kinds=list(KINDS), pieces=list(KINDS.values()), pieces_printed=PRINTED_BYTES // MEBIBYTE)
    )
    pack_contract(SUMS, weights, models)
    pack_contract(MOODY.replace("timeout_s: 2", "timeout_s: 60"), weights, models, "--handler", handler)
    with RunningStack(models, served=("moody", "sums")) as stack:
        yield stack


@pytest.mark.parametrize("kind", KINDS)
def test_a_flood_costs_neither_the_server_nor_the_neighbours_nor_the_log(chatty: RunningStack, kind: str) -> None:
    peak, workers = Peak(find_java(chatty.pid)), chatty.worker_pids("sums")
    ask_neighbour(chatty, 200)
    before, written = peak.read(), chatty.log.stat().st_size
    answers: list[Answer] = []
    thread = threading.Thread(
        target=lambda: answers.append(chatty.target.send(path="/predictions/moody", body=kind.encode()))
    )
    thread.start()
    while thread.is_alive():
        ask_neighbour(chatty, 40)
    thread.join()
    assert answers[0].status == 200
    grown = peak.read() - before
    assert grown < TOO_MUCH_BYTES
    assert chatty.worker_pids("sums") == workers
    most_lines_bytes = FORWARDED_AT_ONCE_BYTES + FORWARDED_BYTES_PER_S * (answers[0].seconds + 10)
    assert chatty.log.stat().st_size - written < 3 * most_lines_bytes  # the server and the launcher add time and names
    dropped = [event for event in chatty.events() if (event["gate"], event["event"]) == ("cell", "output_dropped")]
    assert dropped and all(event["model"] == "moody" and event["bytes"] > 0 for event in dropped)


def ask_neighbour(stack: RunningStack, count: int) -> None:
    """Ask for sums that can be told apart, and check each."""
    rows = [[number, number + 1, 1] for number in range(count)]
    answers = send_together(stack.target, [("sums", f"[{row}]".encode()) for row in rows], connections=4)
    assert [answer.json for answer in answers] == [[sum(row)] for row in rows]


def test_what_is_printed_is_in_the_log_as_the_models(chatty: RunningStack) -> None:
    printed = [event for event in chatty.events() if event["gate"] == "contract"]
    assert {event["event"] for event in printed} >= {"output", "refused"}
    assert {event["model"] for event in printed if event["event"] == "refused"} == {"moody"}
    assert max(len(event.get("message", "")) for event in printed) <= MAX_STAMPED_CHARACTERS


def test_in_the_stock_server_an_endless_line_fills_the_memory(tmp_path: Path) -> None:
    handler = tmp_path / "chatty.py"
    handler.write_text(STOCK_HANDLER)
    with run_stock(tmp_path, handler) as server:
        java = psutil.Process(server.pid)
        before = java.memory_info().rss
        with contextlib.suppress(OSError):  # it reads so slowly that no answer may come
            server.ask("inference", "POST", "/predictions/digits", b"shout", timeout_s=1)
        wait_for(lambda: java.memory_info().rss - before > TOO_MUCH_BYTES, "the server's memory has grown")
