"""Handlers that ask, honestly, for more than their cell gives: their authors are told what, where, and what to do.

The operator of these tests lets handlers import modules that the policy refuses as it comes: what such a module is then
used for is up to the cell.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from garrison.errors import EXIT_CONFIG
from stack.conftest import MOODY, save_sums
from stack.observing import wait_for
from stack.running import RunningStack, pack_contract

ENDS_WITHIN_S = 120
IMPORTS = "handlers:\n  imports: [os, socket, subprocess, threading, torch.hub]\n"
HANDLER = """\
import os
import socket
import subprocess
import threading
import time

import numpy as np
import torch
import torch.hub

from garrison.torchserve.base import SafeHandler

{at_import}


class Curious(SafeHandler):
    def load(self, model):
        self.held = []
        {at_load}

    def prepare(self, item):
        wish = np.zeros(len(WISHES), np.float32)
        if item.value in WISHES:
            wish[list(WISHES).index(item.value)] = 1
        return wish

    def infer(self, batch):
        for number, wish in enumerate(WISHES.values()):
            if batch[0, number]:
                wish(self)
        return batch

    def present(self, output, item):
        return {{"said": item.value}}


def start_threads(self):
    for _ in range(1000):
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()


WISHES = {{
    "connect": lambda self: socket.create_connection(("192.0.2.1", 80)),
    "download": lambda self: torch.hub.load_state_dict_from_url("https://download.pytorch.org/models/resnet18.pth"),
    "start a program": lambda self: subprocess.run(["ls"]),
    "read a file": lambda self: os.open("/etc/hostname", os.O_RDONLY),
    "write a file": lambda self: os.mkdir("/tmp/cache"),
    "start threads": start_threads,
    "take memory": lambda self: self.held.append(np.ones(2**32)),
    "signal": lambda self: os.kill(1, 0),
}}
"""
INSIDE_WISHES = {  # what is asked for → words of the log's line about it
    "connect": ["opened a socket", "no network"],
    "download": ["asked for an address", "no network", "model.read(name)"],
    "start a program": ["started a process"],
    "read a file": ["reached for '/etc/hostname'", "model.read(name)"],
    "write a file": ["reached for '/tmp/cache'"],
    "start threads": ["more threads", "cell.yaml"],
    "signal": ["called kill"],
}


@contextlib.contextmanager
def prepared(
    directory: Path, *, on_violation: str = "end", at_import: str = "", at_load: str = ""
) -> Iterator[RunningStack]:
    """Pack the curious handler, with a line of its own at two places, and prepare its stack."""
    models, weights, handler = directory / "models", directory / "model.pt", directory / "curious.py"
    save_sums(weights)
    handler.write_text(HANDLER.format(at_import=at_import, at_load=at_load))
    models.mkdir()
    with RunningStack.prepared(models, served=("moody",)) as stack:
        with (stack.config / "admission.yaml").open("a") as file:
            file.write(IMPORTS)
        settings = stack.config / "cell.yaml"
        settings.write_text(settings.read_text().replace("on_violation: end", f"on_violation: {on_violation}"))
        pack_contract(MOODY, weights, models, "--handler", handler, "--config", stack.config)
        yield stack


# While it loads: the server does not start, and says why --------------------------------------------------------------


LOADING = {
    "a download at import": (
        "at_import",
        "torch.hub.load_state_dict_from_url('https://example.com/x')",
        ["line 13: asked for an address", "no network", "--extra-files"],
    ),
    "a directory of its own": (
        "at_load",
        "os.mkdir('/srv/models')",
        ["line 19: reached for '/srv/models'", "outside its cell"],
    ),
    "a program": ("at_load", "subprocess.run(['ls'])", ["line 19: started a process", "threads"]),
}


@pytest.mark.parametrize(("place", "code", "words"), LOADING.values(), ids=LOADING)
def test_a_handler_that_cannot_load_says_why(tmp_path: Path, place: str, code: str, words: list[str]) -> None:
    with prepared(tmp_path, **{place: code}) as stack:
        stack.launch()
        assert stack.process is not None
        status = stack.process.wait(ENDS_WITHIN_S)
        stack.process = None
        said = stack.said()
        assert status == EXIT_CONFIG
        assert "model moody: its workers end before they are ready: handler.py, line " in said
        assert not [word for word in words if word not in said], said
        assert "Traceback" not in said


# While it serves ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def curious(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A server whose workers go on after a forbidden call."""
    with prepared(tmp_path_factory.mktemp("curious"), on_violation="fail") as stack:
        yield stack.start()


@pytest.mark.parametrize(("wish", "words"), INSIDE_WISHES.items(), ids=INSIDE_WISHES)
def test_the_log_says_what_a_handler_was_not_given(curious: RunningStack, wish: str, words: list[str]) -> None:
    before = curious.worker_pids("moody")
    answer = curious.target.send(path="/predictions/moody", body=wish.encode())
    assert (answer.status, answer.reason) == (500, "model_failed")
    assert answer.json == {"reason": "model_failed", "message": "The model gave no usable answer."}
    detail = find_detail(curious, answer.headers["x-request-id"])
    assert detail.startswith("handler.py, line ")
    assert not [word for word in words if word not in detail], detail
    assert curious.target.send(path="/predictions/moody", body=b"good day").json["said"] == "good day"
    assert curious.worker_pids("moody") == before


def test_memory_that_is_not_given_refuses_the_request_alone(curious: RunningStack) -> None:
    answer = curious.target.send(path="/predictions/moody", body=b"take memory")
    assert (answer.status, answer.reason) == (503, "out_of_memory")
    assert curious.target.send(path="/predictions/moody", body=b"good day").status == 200


def find_detail(stack: RunningStack, request_id: str) -> str:
    """Return the detail of the contract's line about a request."""
    found: list[str] = []

    def look() -> bool:
        events = [e for e in stack.events() if (e.get("request_id"), e["gate"]) == (request_id, "contract")]
        found.extend(event["detail"] for event in events)
        return bool(found)

    wait_for(look, f"the line about {request_id}")
    return found[0]
