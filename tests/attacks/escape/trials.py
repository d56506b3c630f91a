"""Try escapes: in stock TorchServe one after the other, in cells all of a server at once; what was seen is returned."""

import contextlib
import http.client
import json
import secrets
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from attacks.escape.effects import find_started
from attacks.escape.handlers import asked_moments
from attacks.escape.model import Escape, Scene
from attacks.escape.servers import (
    CELL,
    DIGITS_MODEL,
    NEIGHBOUR,
    Celled,
    CelledPlan,
    Running,
    Stock,
    make_celled,
    run_stock,
    wait_until_tried,
    write_stock_escape,
)
from stack.running import DIGITS

STOCK_AT_ONCE = 3
SEEN_WITHIN_S = 60
LOOK_INTERVAL_S = 0.2
AFTERLIFE_S = 4
ANSWER_WITHIN_S = 15
FAILURES = (OSError, http.client.HTTPException, ValueError, psutil.Error)


@dataclass(frozen=True)
class Outcome:
    """What was seen of an escape's effect (nothing is good), and what the attacker reported."""

    seen: str
    report: str


@dataclass
class CelledOutcome:
    """What came of all escapes at one server, and what the neighbours went through meanwhile."""

    escapes: dict[str, Outcome] = field(default_factory=dict)
    violations: dict[str, dict[str, int]] = field(default_factory=dict)
    ended: dict[str, list[str]] = field(default_factory=dict)  # why workers of a model ended
    asked: int = 0  # questions to the neighbours
    wrong: list[str] = field(default_factory=list)  # answers that were not what they must be
    replaced: list[str] = field(default_factory=list)  # neighbours with another worker than before
    strangers: list[str] = field(default_factory=list)  # processes that should not be there


# Stock ----------------------------------------------------------------------------------------------------------------


def try_in_stock(escapes: Sequence[Escape]) -> dict[str, Outcome]:
    """Try escapes in one stock TorchServe: three at a time, then those whose effect is on everybody."""
    outcomes = {}
    with tempfile.TemporaryDirectory(prefix="esc-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        for place in ("run", "places", "models"):
            (directory / place).mkdir()
        secret = secrets.token_hex(12)
        with run_stock(directory / "run", secret) as server:
            ordinary = [one for one in escapes if not one.alone and not one.outlives]
            with ThreadPoolExecutor(STOCK_AT_ONCE) as pool:
                tried = pool.map(lambda escape: _try_one(escape, server, directory), ordinary)
                outcomes.update(zip((one.name for one in ordinary), tried, strict=True))
            for escape in (one for one in escapes if one.alone):
                outcomes[escape.name] = _try_one(escape, server, directory)
            outcomes.update(_try_to_outlive([one for one in escapes if one.outlives], server, directory))
    return outcomes


def _try_one(escape: Escape, server: Stock, directory: Path) -> Outcome:
    """Try an escape, and once more if nothing was seen: a busy machine can keep a worker from its one attempt."""
    outcome = _try_once(escape, server, directory)
    return outcome if outcome.seen else _try_once(escape, server, directory)


def _try_once(escape: Escape, server: Stock, directory: Path) -> Outcome:
    scene = _set_scene(escape, server, directory / "places")
    with scene.cleaning:
        _register(escape, scene, server, directory)
        deadline = time.monotonic() + SEEN_WITHIN_S
        seen, asked = "", False
        while not seen and time.monotonic() < deadline:
            if not asked and server.is_ready(scene.name):
                asked = True
                _ask(scene, asked_moments(escape))
            elif asked:
                _ask(scene, [], 2)
            seen = _look(escape, scene)
            time.sleep(0.05)
        _end_started(scene)
        server.unregister(scene.name)
    for left in (scene.place, directory / "models" / scene.name):
        shutil.rmtree(left, ignore_errors=True)
    return Outcome(seen, scene.report)


def _try_to_outlive(escapes: Sequence[Escape], server: Stock, directory: Path) -> dict[str, Outcome]:
    """Try what is seen only when the server is gone."""
    scenes = [(escape, _set_scene(escape, server, directory / "places")) for escape in escapes]
    for escape, scene in scenes:
        _register(escape, scene, server, directory)
        deadline = time.monotonic() + SEEN_WITHIN_S
        while not server.is_ready(scene.name) and time.monotonic() < deadline:
            time.sleep(0.1)
        _ask(scene, asked_moments(escape))
        scene.kept["attackers"] = scene.own_pids()
    return _outlive(scenes, server)


def _outlive(scenes: Sequence[tuple[Escape, Scene]], server: Running) -> dict[str, Outcome]:
    if not scenes:
        return {}
    server.kill()
    time.sleep(AFTERLIFE_S)
    outcomes = {escape.name: Outcome(_look(escape, scene), scene.report) for escape, scene in scenes}
    for _, scene in scenes:
        with scene.cleaning:
            _end_started(scene)
            _end(scene.kept.get("attackers", []))
    return outcomes


def _register(escape: Escape, scene: Scene, server: Stock, directory: Path) -> None:
    target = directory / "models" / scene.name
    scene.world.update(own_model=[str(target)], **_tell_world(server))
    scene.world.update(other_model=str(directory / "run" / NEIGHBOUR / "weights"))
    scene.world.update(other_models=[str(directory / "run" / NEIGHBOUR)], metrics=[str(directory / "run" / "metrics")])
    _do(escape.prepare, scene)
    _do(escape.note, scene)
    server.register(scene.name, write_stock_escape(escape, scene, target))


# Celled ---------------------------------------------------------------------------------------------------------------


def try_in_cells(escapes: Sequence[Escape], **changes: Any) -> CelledOutcome:
    """Try escapes in one server, each in a worker of its own, beside two neighbours that are asked all the time.

    `changes` are changes of the cell's settings.
    """
    outcome = CelledOutcome()
    with tempfile.TemporaryDirectory(prefix="esc-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        (directory / "places").mkdir()
        plan = CelledPlan(directory, secrets.token_hex(12), replace(CELL, **changes))
        server = make_celled(plan)
        scenes = []
        for escape in escapes:
            scene = _set_scene(escape, server, directory / "places")
            scene.world.update(own_model=list(map(str, plan.served(scene.name))))
            scene.world.update(other_model=str(plan.packed_directory / DIGITS_MODEL / "model.pt"))
            scene.world.update(other_models=list(map(str, [*plan.served(NEIGHBOUR), *plan.served(DIGITS_MODEL)])))
            _do(escape.prepare, scene)
            plan.add_escape(escape, scene)
            scenes.append((escape, scene))
        with plan.run(server), contextlib.ExitStack() as cleaning:
            for _, scene in scenes:
                cleaning.push(scene.cleaning)
            _attack(scenes, server, outcome)
        _read_statuses(server, outcome)
    return outcome


def _attack(scenes: Sequence[tuple[Escape, Scene]], server: Celled, outcome: CelledOutcome) -> None:
    watch = Watch(scenes, server, outcome)
    with watch.looking():
        left = wait_until_tried(server, [NEIGHBOUR, DIGITS_MODEL])
        assert not left, (left, server.lines()[-30:])
        before = {name: server.worker_pids(name) for name in (NEIGHBOUR, DIGITS_MODEL)}
        with watch.asking():
            wait_until_tried(server, [scene.name for _, scene in scenes])
            for escape, scene in scenes:
                _strike(escape, scene, server)
            time.sleep(3 * LOOK_INTERVAL_S)
        after = {name: server.worker_pids(name) for name in (NEIGHBOUR, DIGITS_MODEL)}
        outcome.replaced = [name for name in before if before[name] != after[name]]
    for escape, scene in scenes:
        if not escape.outlives:
            outcome.escapes[escape.name] = Outcome(watch.seen.get(escape.name, ""), scene.report)
            _end_started(scene)
    outcome.escapes.update(_outlive([one for one in scenes if one[0].outlives], server))


def _strike(escape: Escape, scene: Scene, server: Celled) -> None:
    """Let an attacker strike, unless its worker was ended for what it did before; then hear what it reports."""
    metrics = [str(path) for path in server.run.glob(f"tmp/workers/{NEIGHBOUR}.*/metrics")]
    scene.world.update(_tell_world(server), metrics=metrics)
    scene.kept["attackers"] = scene.own_pids()
    _do(escape.note, scene)
    scene.kept["noted"] = True
    if server.is_ready(scene.name):
        _ask(scene, asked_moments(escape), ANSWER_WITHIN_S)
        time.sleep(2 * LOOK_INTERVAL_S)
    if server.is_ready(scene.name):
        _ask(scene, [], ANSWER_WITHIN_S)


class Watch:
    """Look at everything all the time while the attackers work: what is there for a moment only is seen as well."""

    def __init__(self, scenes: Sequence[tuple[Escape, Scene]], server: Celled, outcome: CelledOutcome) -> None:
        self.seen: dict[str, str] = {}
        self._scenes, self._server, self._outcome = scenes, server, outcome
        self._digit = next(DIGITS.glob("samples/7.*")).read_bytes()

    @contextlib.contextmanager
    def looking(self) -> Iterator[None]:
        """Look for effects, and for processes that should not be there."""
        with _repeat(self._look, LOOK_INTERVAL_S):
            yield
        self._look()

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """Ask the neighbours what is known, and compare."""
        self._digits = self._predict(DIGITS_MODEL, self._digit)
        with _repeat(self._ask, 0.05):
            yield

    def _look(self) -> None:
        for escape, scene in self._scenes:
            due = not escape.outlives and escape.name not in self.seen and (not escape.note or "noted" in scene.kept)
            if due and (seen := _look(escape, scene)):
                self.seen[escape.name] = seen
        self._server.sweep()
        self._outcome.strangers.extend(_find_strangers(self._server))

    def _ask(self) -> None:
        for model, body, wanted in (
            (NEIGHBOUR, b"[[1, 2, 3]]", "[6.0]"),
            (DIGITS_MODEL, self._digit, self._digits),
        ):
            self._outcome.asked += 1
            if (got := self._predict(model, body)) != wanted:
                self._outcome.wrong.append(f"{model}: {got[:200]}")

    def _predict(self, model: str, body: bytes) -> str:
        try:
            answer = self._server.predict(model, body)
        except FAILURES as error:
            return repr(error)
        return answer.body.decode() if answer.status == 200 else f"{answer.status} {answer.body[:200]!r}"


def _find_strangers(server: Celled) -> list[str]:
    """Return the processes below the server that are neither a supervisor nor its one worker."""
    found = []
    with contextlib.suppress(psutil.Error):
        for supervisor in psutil.Process(server.jvm).children():
            workers = supervisor.children()
            below = [one for worker in workers for one in worker.children(recursive=True)]
            found += [f"{one.pid} {one.name()}" for one in (*workers[1:], *below)]
    return found


def _read_statuses(server: Celled, outcome: CelledOutcome) -> None:
    for status in server.statuses():
        counts = outcome.violations.setdefault(status["model"], {})
        for name, count in status["violations"].items():
            counts[name] = counts.get(name, 0) + count
    outcome.ended = {model: server.ended(model) for model in outcome.violations}


# Both -----------------------------------------------------------------------------------------------------------------


def _set_scene(escape: Escape, server: Running, places: Path) -> Scene:
    scene = Scene(escape.name, server, places / escape.name)
    scene.place.mkdir()
    scene.world.update(token=scene.token, place=str(scene.place), marker=str(scene.marker), run=str(server.run))
    return scene


def _tell_world(server: Running) -> dict[str, Any]:
    """Return what an accomplice can tell once the server runs."""
    return {
        "jvm": server.jvm,
        "neighbour": next(iter(server.worker_pids(NEIGHBOUR)), 0),
        "grpc_ports": server.grpc_ports(),
        "worker_sockets": sorted(str(path) for place in server.places for path in place.rglob(".ts.sock.*")),
    }


def _ask(scene: Scene, moments: list[str], timeout_s: float = 40) -> None:
    """Ask the attacker to strike, or only to report; one that does not answer has reported what it had before."""
    body = json.dumps({"moments": moments, "world": scene.world}).encode().hex().encode()
    with contextlib.suppress(*FAILURES):
        answer = scene.server.ask("inference", "POST", f"/predictions/{scene.name}", body, timeout_s)
        if answer.status == 200:
            scene.report = "\n".join(json.loads(answer.body)["report"])


def _look(escape: Escape, scene: Scene) -> str:
    with contextlib.suppress(*FAILURES):
        return escape.seen(scene)
    return ""


def _do(steps: Sequence[Callable[[Scene], object]], scene: Scene) -> None:
    for step in steps:
        step(scene)


def _end_started(scene: Scene) -> None:
    """End what an escape left running."""
    for _ in range(5):
        if not (pids := [pid for pid in find_started(scene) if pid != psutil.Process().pid]):
            return
        _end(pids)
        time.sleep(0.1)


def _end(pids: Sequence[int]) -> None:
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            psutil.Process(pid).send_signal(signal.SIGKILL)


@contextlib.contextmanager
def _repeat(work: Callable[[], None], interval_s: float) -> Iterator[None]:
    """Do something again and again beside what is done here; its failure is ours."""
    over = threading.Event()
    with ThreadPoolExecutor(1) as pool:

        def loop() -> None:
            while not over.wait(interval_s):
                work()

        running = pool.submit(loop)
        try:
            yield
        finally:
            over.set()
        running.result()
