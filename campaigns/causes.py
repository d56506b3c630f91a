"""What each alert is for, done for real to a running stack: a cause begins, and somebody waits until its alert fires.

A cause returns when it began, or, where several things have to happen, when the last of them did.
"""

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
from PIL import Image, ImageOps

from campaigns.visitors import Bodies
from stack.running import RunningStack

MOODS = """\
garrison: 1
model: moods
version: "1"
task: custom
inputs:
  text: {kind: text, max_bytes: 1KiB, max_characters: 200, max_tokens: 8}
batch: {max_items: 8, max_delay_ms: 5, max_bytes: 1MiB, max_instances: 4}
workers: {count: 1, queue: 64, timeout_s: 10}
outputs: {decimals: 2}
"""
MOODS_HANDLER = """\
import os
import time

import numpy as np

from garrison.torchserve.base import SafeHandler


class Moods(SafeHandler):
    def load(self, model):
        pass

    def prepare(self, item):
        return np.array([item.value == mood for mood in ("slow", "raise", "signal")], np.float32)

    def infer(self, batch):
        if batch[:, 0].any():
            time.sleep(0.5)
        if batch[:, 1].any():
            raise RuntimeError("in a bad mood")
        if batch[:, 2].any():
            os.kill(1, 0)
        return batch

    def present(self, output, item):
        return {"said": item.value}
"""
IMPORTS = "\nhandlers: {imports: [os]}\n"  # what this operator lets handlers use
MANY, CONNECTIONS = 160, 8
SLOW_S, STOPPED_S = 60, 45


@dataclass
class Scene:
    """Where causes happen: the stack, and requests of the kind that its models know."""

    stack: RunningStack
    bodies: Bodies

    def send(self, model: str, bodies: Sequence[bytes], key: str = "tester") -> None:
        """Send requests, over a few connections."""
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            for body in bodies:
                pool.submit(self.stack.target.send, path=f"/predictions/{model}", body=body, key=key)


@dataclass(frozen=True)
class Cause:
    """One alert, what is done in words and in deeds, how it is ended, and with which labels the alert has to fire."""

    alert: str
    words: str
    happen: Callable[[Scene], float]
    mend: Callable[[Scene], None] = lambda _: None
    where: str = ""


def ask_for_management(scene: Scene) -> float:
    """Ask for the list of models."""
    began = time.monotonic()
    scene.stack.target.send("GET", "/models", key=None)
    return began


def guess_keys(scene: Scene) -> float:
    """Ask again and again with a key that somebody else has signed."""
    began = time.monotonic()
    scene.send("digits", [b"x"] * MANY, "forged")
    return began


def send_broken_texts(scene: Scene) -> float:
    """Let a client that has always been right send nothing but broken texts."""
    began = time.monotonic()
    scene.send("languages", [b"\xff\xfe"] * 80, "late")
    return began


def send_broken_scenes(scene: Scene) -> float:
    """Let several clients send broken pictures to one model."""
    began = time.monotonic()
    for key in ("steady", "tester"):
        scene.send("scene_masks", [b"\x89PNG\r\n\x1a\n"] * 50, key)
    return began


def raise_errors(scene: Scene) -> float:
    """Send what the model's code fails on."""
    began = time.monotonic()
    scene.send("moods", [b"raise"] * 40)
    return began


def send_a_signal(scene: Scene) -> float:
    """Send what makes the model's code call kill()."""
    began = time.monotonic()
    scene.send("moods", [b"signal"])
    return began


def admit_a_changed_model(scene: Scene) -> float:
    """Admit a model of which one byte was changed after it was signed."""
    stack = scene.stack
    changed = stack.directory / "changed" / "digits"
    shutil.copytree(stack.models or Path(), changed.parent)
    weights = changed / "model.pt"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    began = time.monotonic()
    command = [sys.executable, "-m", "garrison.cli", "admit", str(changed), "--config", str(stack.config)]
    subprocess.run([*command, "--state", str(stack.state)], check=False, capture_output=True)  # noqa: S603 - ours
    return began


def change_the_audit_log(scene: Scene) -> float:
    """Write into the store's log, as somebody would who wants a model to have been admitted."""
    began = time.monotonic()
    with (scene.stack.state / "store" / "audit.jsonl").open("a") as file:
        file.write('{"event": {"event": "admitted"}, "sequence": 99}\n')
    return began


def kill_workers(scene: Scene) -> float:
    """Kill a model's worker three times, each as soon as there is another."""
    last = 0.0
    for _ in range(3):
        wait_until(lambda: bool(scene.stack.worker_pids("tumours")))
        (pid, *_) = scene.stack.worker_pids("tumours")
        last = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: pid not in scene.stack.worker_pids("tumours"))  # noqa: B023 - waited for here
    return last


def use_a_budget(scene: Scene) -> float:
    """Use 19 of 20 queries of a day."""
    began = time.monotonic()
    for body in scene.bodies["digits"][:19]:
        scene.stack.target.send(body=body, key="counted")
    return began


def break_a_file(scene: Scene) -> float:
    """Write a limit that is none into clients.yaml."""
    path = scene.stack.config / "clients.yaml"
    shutil.copy(path, path.with_suffix(".before"))
    began = time.monotonic()
    path.write_text(path.read_text().replace("burst: 100", "burst: none"))
    return began


def mend_the_file(scene: Scene) -> None:
    """Put it back."""
    path = scene.stack.config / "clients.yaml"
    path.with_suffix(".before").replace(path)


def slow_down(scene: Scene) -> float:
    """Send what the model thinks about for half a second, one request after the other."""
    began = time.monotonic()

    def ask() -> None:
        while time.monotonic() - began < SLOW_S:
            scene.stack.target.send(path="/predictions/moods", body=b"slow", key="tester")

    for _ in range(2):
        threading.Thread(target=ask, daemon=True).start()
    return began


def send_negatives(scene: Scene) -> float:
    """Send pictures with light and dark exchanged, as a scanner would after a change of settings."""
    began = time.monotonic()
    bodies = [make_negative(body) for body in scene.bodies["digits"]]
    scene.send("digits", bodies * 4)
    return began


def make_negative(body: bytes) -> bytes:
    """Exchange light and dark."""
    with Image.open(io.BytesIO(body)) as opened:
        picture = ImageOps.invert(opened.convert("L"))
    file = io.BytesIO()
    picture.save(file, "png")
    return file.getvalue()


def hold_the_server(scene: Scene) -> float:
    """Kill TorchServe, and hold the one that is started in its place before it has loaded a model."""
    before = find_server(scene.stack)
    began = time.monotonic()
    before.kill()
    wait_until(lambda: find_server(scene.stack).pid != before.pid)
    find_server(scene.stack).suspend()
    return began


def free_the_server(scene: Scene) -> None:
    """Let it go on."""
    find_server(scene.stack).resume()
    wait_until(scene.stack.is_ready)


def find_server(stack: RunningStack) -> psutil.Process:
    """Return TorchServe's Java process, the newest one."""
    for _ in range(600):
        with contextlib.suppress(psutil.Error):
            found = [one for one in psutil.Process(stack.pid).children() if one.name() == "java"]
            if found:
                return found[-1]
        time.sleep(0.1)
    raise RuntimeError("TorchServe is not there")


def hold_the_launcher(scene: Scene) -> float:
    """Stop `garrison serve` itself: nobody tells metrics any more, while Envoy and the workers go on."""
    began = time.monotonic()
    os.kill(scene.stack.pid, signal.SIGSTOP)
    return began


def free_the_launcher(scene: Scene) -> None:
    """Let it go on."""
    os.kill(scene.stack.pid, signal.SIGCONT)


def wait_until(happened: Callable[[], bool], timeout_s: float = 90) -> None:
    """Wait until something has happened.

    Raises:
        RuntimeError: it has not.
    """
    for _ in range(int(timeout_s * 10)):
        with contextlib.suppress(OSError, KeyError, IndexError):
            if happened():
                return
        time.sleep(0.1)
    raise RuntimeError(f"not within {timeout_s} s")


CAUSES: Sequence[Cause] = (
    Cause("GarrisonManagementAttempt", "one `GET /models`", ask_for_management),
    Cause("GarrisonRefusalBurst", f"{MANY} requests with a forged key", guess_keys, where='reason="unauthenticated"'),
    Cause(
        "GarrisonClientErrors",
        "80 broken texts of a client that made no errors",
        send_broken_texts,
        where='client="late"',
    ),
    Cause("GarrisonModelErrors", "100 broken pictures of two clients", send_broken_scenes, where='model="scene_masks"'),
    Cause("GarrisonServerErrors", "40 requests that the model's code fails on", raise_errors, where='model="moods"'),
    Cause("GarrisonCellViolation", "a request that makes the model's code call `kill`", send_a_signal),
    Cause("GarrisonAdmissionRefused", "`garrison admit` of a model with one changed bit", admit_a_changed_model),
    Cause("GarrisonAuditLogBroken", "a line written into the audit log by hand", change_the_audit_log),
    Cause("GarrisonBudgetNearlyUsed", "19 of 20 queries", use_a_budget),
    Cause("GarrisonConfigurationRefused", "a broken `clients.yaml`", break_a_file, mend_the_file),
    Cause("GarrisonSlow", "requests that take half a second instead of milliseconds", slow_down, where='model="moods"'),
    Cause("GarrisonInputDrift", "600 negatives of digits", send_negatives, where='model="digits"'),
    Cause("GarrisonWorkerCrashLoop", "a worker killed, the third time", kill_workers, where='model="tumours"'),
)
LAST_CAUSES: Sequence[Cause] = (
    Cause("GarrisonServerUnhealthy", "TorchServe killed, and the next one held", hold_the_server, free_the_server),
    Cause("GarrisonTargetDown", "`garrison serve` held by SIGSTOP", hold_the_launcher, free_the_launcher),
)


def list_all() -> Iterator[Cause]:
    """Go through all causes that happen to a running stack."""
    yield from CAUSES
    yield from LAST_CAUSES
