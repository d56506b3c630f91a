"""Normal traffic, as thresholds have to bear it: several clients of different habits, none of them an attacker.

    steady      asks every model, three times a second on average
    phone       nothing for a minute or two, then a burst above its rate; waits and asks again where it gets 429
    nightly     a batch of three minutes, then a pause
    clumsy      one request of eight is wrong: a broken file, a missing column, a path that is not there
    rare        a request in two minutes
    late        comes after a third of the time, first without a key, then with one that expired
    nobody      health checks, and a browser that wants an icon

What is asked is drawn from the data that the models were trained on, stored as clients would.
"""

import contextlib
import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from models.digits import train as digits
from models.languages import train as languages
from models.scene_masks import train as scene_masks
from models.scenes import composer
from models.scenes import train as scenes
from models.tumours import train as tumours
from stack.running import Target

DRAWN = 150  # bodies of each model
WEIGHTS = {"digits": 4, "tumours": 3, "languages": 3, "scenes": 2, "scene_masks": 1}
CLIENTS = """\
clients:
  steady: {models: [digits, tumours, languages, scenes, scene_masks], requests_per_second: 50, burst: 100}
  phone: {models: [digits, scenes], requests_per_second: 10, burst: 30}
  nightly: {models: [tumours], requests_per_second: 20, burst: 40}
  clumsy: {models: [digits, tumours, languages], requests_per_second: 10, burst: 20}
  rare: {models: [digits], requests_per_second: 1, burst: 5, queries_per_day: 500}
  late: {models: [languages], requests_per_second: 10, burst: 20}
"""
TRIES, FIRST_WAIT_S = 4, 1.0  # after a 429
BURST_CONNECTIONS = 6

Bodies = dict[str, list[bytes]]
Visit = Callable[["Visitor"], None]


def draw_bodies(seed: int) -> Bodies:
    """Draw requests from each model's training data."""
    source, chance = np.random.default_rng(seed), random.Random(seed)  # noqa: S311 - repeatable, not secret
    split = digits.load_splits()[0]
    rows = tumours.load_splits()[0].rows
    names = tumours.column_names()
    texts = [text.encode() for text in languages.read_held_out().texts if len(text) > 8]
    return {
        "digits": [digits.vary(split.images[chance.randrange(len(split.images))], source) for _ in range(DRAWN)],
        "tumours": [write_row(names, rows[chance.randrange(len(rows))]) for _ in range(DRAWN)],
        "languages": chance.sample(texts, DRAWN),
        "scenes": draw_scenes(split, scenes.RECIPE, source),
        "scene_masks": draw_scenes(split, scene_masks.RECIPE, source),
    }


def write_row(names: Sequence[str], row: Any) -> bytes:
    """Write a row of a table as a client would."""
    return json.dumps({"data": dict(zip(names, map(float, row), strict=True))}).encode()


def draw_scenes(split: Any, recipe: composer.Recipe, source: np.random.Generator) -> list[bytes]:
    """Compose scenes and store them as training does."""
    found = [composer.compose_scene(split, recipe, source) for _ in range(DRAWN)]
    return [composer.store_picture(scene.picture, composer.draw_variant(recipe, source)) for scene in found]


@dataclass
class Visitor:
    """One client: whom it asks, with what, until when; counts what it is answered."""

    name: str
    target: Target
    bodies: Bodies
    chance: random.Random
    ends: threading.Event
    began: float = field(default_factory=time.monotonic)
    lasts_s: float = 3600
    statuses: Counter[int] = field(default_factory=Counter)

    def ask(self, model: str, **changes: Any) -> int:
        """Ask once; return the status, 0 where there was no answer."""
        wanted = {"path": f"/predictions/{model}", "body": self.chance.choice(self.bodies[model]), "key": self.name}
        try:
            status = self.target.send(**{**wanted, **changes}).status
        except (OSError, http.client.HTTPException):
            status = 0
        self.statuses[status] += 1
        return status

    def ask_patiently(self, model: str) -> None:
        """Ask again, after longer and longer pauses, where it was too fast."""
        wait_s = FIRST_WAIT_S
        for _ in range(TRIES):
            if self.ask(model) != http.HTTPStatus.TOO_MANY_REQUESTS or self.pause(wait_s * self.chance.uniform(1, 1.5)):
                return
            wait_s *= 2

    def pause(self, seconds: float) -> bool:
        """Wait, and say whether all is over meanwhile."""
        return self.ends.wait(seconds)

    def pause_about(self, seconds: float) -> bool:
        """Wait as long as between two who do not know of each other."""
        return self.pause(self.chance.expovariate(1 / seconds))


def visit_steadily(visitor: Visitor) -> None:
    """Ask one model or the other, three times a second."""
    while not visitor.pause_about(1 / 3):
        (model,) = visitor.chance.choices(list(WEIGHTS), list(WEIGHTS.values()))
        visitor.ask_patiently(model)


def visit_in_bursts(visitor: Visitor) -> None:
    """Ask nothing for a while, then everything at once."""
    with ThreadPoolExecutor(BURST_CONNECTIONS) as pool:
        while not visitor.pause(visitor.chance.uniform(45, 120)):
            model = visitor.chance.choice(["digits", "digits", "scenes"])
            for _ in range(visitor.chance.randint(25, 70)):
                pool.submit(visitor.ask_patiently, model)


def visit_in_batches(visitor: Visitor) -> None:
    """Work through a batch, one request after the other, then rest."""
    while not visitor.pause(240):
        ends = time.monotonic() + 180
        while time.monotonic() < ends and not visitor.pause_about(1 / 6):
            visitor.ask("tumours")


def visit_clumsily(visitor: Visitor) -> None:
    """Make a mistake now and then, and most of the time repeat it once."""
    while not visitor.pause_about(1.5):
        model = visitor.chance.choice(["digits", "tumours", "languages"])
        if visitor.chance.random() > 1 / 8:
            visitor.ask(model)
            continue
        changes = spoil(visitor.chance, model)
        for _ in range(visitor.chance.choice([1, 2, 2])):
            visitor.ask(model, **changes)


def spoil(chance: random.Random, model: str) -> dict[str, Any]:
    """Return what an honest client gets wrong."""
    mistakes: list[dict[str, Any]] = [
        {"body": b"\x89PNG\r\n\x1a\n" + bytes(40)},
        {"body": b'{"data": '},
        {"body": b'{"data": {"mean radius": 1}}'},
        {"body": b"\xff\xfe\xff"},
        {"path": f"/predictions/{model}s"},
        {"headers": {"content-type": "application/x-www-form-urlencoded"}},
    ]
    return chance.choice(mistakes)


def visit_rarely(visitor: Visitor) -> None:
    """Ask once in two minutes."""
    while not visitor.pause_about(120):
        visitor.ask("digits")


def come_late(visitor: Visitor) -> None:
    """Begin in the middle, with what a beginner does."""
    if visitor.pause(visitor.lasts_s / 3):
        return
    for key in (None, None, "late expired", "late expired", "late"):
        visitor.ask("languages", key=key)
        visitor.pause(5)
    while not visitor.pause_about(2):
        visitor.ask_patiently("languages")


def look_in(visitor: Visitor) -> None:
    """Ask for health, and now and then for what a browser asks by itself."""
    while not visitor.pause(5):
        path = "/favicon.ico" if visitor.chance.random() < 1 / 40 else "/healthz"
        visitor.ask("digits", method="GET", path=path, body=b"", key=None)


HABITS: dict[str, Visit] = {
    "steady": visit_steadily,
    "phone": visit_in_bursts,
    "nightly": visit_in_batches,
    "clumsy": visit_clumsily,
    "rare": visit_rarely,
    "late": come_late,
    "nobody": look_in,
}


@contextlib.contextmanager
def receive(target: Target, bodies: Bodies, seed: int, lasts_s: float) -> Iterator[list[Visitor]]:
    """Let all of them come; they have gone at the end."""
    ends = threading.Event()
    visitors = [
        Visitor(name, target, bodies, random.Random(f"{seed} {name}"), ends, lasts_s=lasts_s)  # noqa: S311 - repeatable
        for name in HABITS
    ]
    threads = [threading.Thread(target=HABITS[visitor.name], args=(visitor,)) for visitor in visitors]
    for thread in threads:
        thread.start()
    try:
        yield visitors
    finally:
        ends.set()
        for thread in threads:
            thread.join()
