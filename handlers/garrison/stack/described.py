"""What a server serves, as an operator is told: a model, its version, and how its workers are; imports little."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ServedModel:
    """One model of a running server; process ids of workers that take requests, and of those that do not, or not yet.

    `digest` is that of all its files as admission recorded them, `wanted` how many workers its contract asks for.
    """

    model: str
    version: str
    digest: str
    ready: bool
    wanted: int
    working: tuple[int, ...]
    waiting: tuple[int, ...]

    def sentence(self) -> str:
        """Return one line about it."""
        state = "ready" if self.ready else "not ready"
        pids = f" (pid {', '.join(map(str, self.working))})" if self.working else ""
        starting = f", {len(self.waiting)} starting" if self.waiting else ""
        name = f"{self.model} {self.version} {self.digest[:12]}"
        return f"{name}: {state}, {len(self.working)} of {self.wanted} workers{pids}{starting}"
