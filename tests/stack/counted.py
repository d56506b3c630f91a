"""A gateway with the budget service beside it, as `garrison gateway run` has it, in front of a recording server."""

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from garrison.eventlog import EventLog
from garrison.gateway import admin
from garrison.gateway.budget.plan import read_plan
from garrison.stack.budget import BudgetChild
from garrison.stack.part import Lifetime
from stack.gateways import Gateway, Place, free_port, http_manager, wait_until

WAIT_S = 20


class Counted(Gateway):
    """Envoy and what counts for it."""

    def __init__(self, place: Place, change: Callable[[dict[str, Any]], None], *, patient: bool = True) -> None:
        self.stream = io.BytesIO()
        self.place = place
        port = free_port()
        config = place.render(port)
        self.budget = BudgetChild(Lifetime(EventLog(self.stream, None)))
        self.plan = read_plan(config["node"]["metadata"]["garrison"]["budgets"])
        self.budget.begin(self.plan, place.directory)
        self._wait_for_service()
        if patient:
            wait_longer(config)
        change(config)
        super().__init__(place.directory, config, port)

    def _wait_for_service(self) -> None:
        assert any(self.budget.is_ready() for _ in wait_until(WAIT_S))

    def ask(self, client: str, model: str = "digits", body: bytes = b"x") -> tuple[int, str]:
        """Send one request; return status and reason."""
        reply = self.send("POST", f"/predictions/{model}", {"x-api-key": self.key(client)}, body)
        return reply.status, "" if reply.status == 200 else reply.reason

    def key(self, client: str) -> str:
        return self.place.key(client, self.place.models)

    def begin_again(self) -> None:
        """Start the service again beside the same Envoy."""
        self.budget.follow(self.plan)
        self._wait_for_service()

    def count_asked(self) -> int:
        """Return how many questions the service has answered with yes."""
        return admin.count(self.admin, "cluster.inference.ratelimit.ok")

    def events(self) -> list[dict[str, str]]:
        """Return what the budget service has said."""
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def stop(self) -> None:
        super().stop()
        self.budget.stop()


def wait_longer(config: dict[str, Any]) -> None:
    """Let Envoy wait for the service however busy the machine is; for a yes it waits in vain."""
    (limiter,) = [f for f in http_manager(config)["http_filters"] if f["name"] == "envoy.filters.http.ratelimit"]
    limiter["typed_config"]["timeout"] = f"{WAIT_S}s"


@contextlib.contextmanager
def open_counted(
    place: Place, change: Callable[[dict[str, Any]], None] = lambda config: None, *, patient: bool = True
) -> Iterator[Counted]:
    """Start both for as long as the block takes; the recording server forgets what it has seen before."""
    place.reset()
    gateway = Counted(place, change, patient=patient)
    try:
        yield gateway
    finally:
        gateway.stop()


def find_file(place: Place) -> Path:
    """Return the file of counts."""
    return place.directory / "budgets" / "budgets.sqlite"
