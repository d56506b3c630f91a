"""What an escape is, and the scene it is played in: a place outside, a secret, a token that marks its traces."""

import contextlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

MOMENTS = ("import", "load", "infer", "thread", "del")
# A refusal in the attacker's own words. A mistake in the text (NameError, TypeError, KeyError) looks otherwise.
REFUSED = (
    r"(PermissionError|OSError|BlockingIOError|FileNotFoundError|MemoryError|ProcessLookupError)\b|can't start new"
)


class Server(Protocol):
    """What effects are seen on: a running server with a neighbour beside the attacker."""

    run: Path  # where its sockets are
    places: tuple[Path, ...]  # all that its workers could write
    neighbour: str
    jvm: int
    secret: str  # in the environment that it was started with, as DATABASE_URL

    def worker_pids(self, model: str) -> list[int]: ...

    def describe(self, model: str) -> str: ...

    def list_models(self) -> str: ...

    def metrics(self) -> str: ...

    def lines(self) -> list[str]: ...

    def neighbour_lines(self) -> list[str]: ...

    def log(self) -> list[dict[str, Any]]: ...


@dataclass
class Scene:
    """One escape at one server.

    `world` is what the attacker's text is told, `report` what it said of itself, `token` what its traces carry,
    `secret` what it must not bring home; the secret is never told to it.
    """

    name: str
    server: Server
    place: Path
    token: str = field(default_factory=lambda: secrets.token_hex(7))  # fits the name of a process
    secret: str = field(default_factory=lambda: secrets.token_hex(12))
    world: dict[str, Any] = field(default_factory=dict)
    report: str = ""
    heard: list[bytes] = field(default_factory=list)  # by listeners
    kept: dict[str, Any] = field(default_factory=dict)  # what an observer remembers from before
    cleaning: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @property
    def marker(self) -> Path:
        """A file that does not exist yet, outside of everything that is the model's."""
        return self.place / "marker"

    def own_pids(self) -> list[int]:
        """Return the attacker's worker processes."""
        return self.server.worker_pids(self.name)


@dataclass(frozen=True)
class Escape:
    """One primitive.

    `source` is the body of a function of `world`; what it returns is its report. `seen` returns what was seen of the
    effect, or nothing. `prepare` sets the scene before the server knows the model, `note` remembers how things are
    right before the attacker is asked, `files` come with the model.

    `refused` is how the attacker reports that it was stopped; with `dies`, no report needs to come back, because the
    kernel ends what does that. `alone`: its effect is on everybody. `outlives`: it is looked for after the server has
    ended. `once`: in a cell it is not tried at other moments than its own, which it would not live to see. `root`: not
    even stock can do it as an ordinary user.
    """

    name: str
    when: str
    story: str
    source: str
    seen: Callable[[Scene], str]
    prepare: tuple[Callable[[Scene], object], ...] = ()
    note: tuple[Callable[[Scene], object], ...] = ()
    files: Callable[[Scene], dict[str, bytes]] = lambda scene: {}
    refused: str = REFUSED
    dies: bool = False
    alone: bool = False
    outlives: bool = False
    once: bool = False
    root: bool = False
