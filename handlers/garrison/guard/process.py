"""One guard process: four sockets in a directory, one event loop, a backend; until SIGTERM.

    rest.sock    TensorFlow Serving's REST
    grpc.sock    TensorFlow Serving's gRPC, and TorchServe's where there is one
    ready.sock   at /serving: does this process take requests? elsewhere: has the backend every model, too?
    watch.sock   metrics

A stop has four steps: `ready.sock` says no, so that the gateway looks elsewhere; after a while nothing new is taken;
what is in progress is finished; everything is closed. A second signal skips the waiting.
"""

import asyncio
import contextlib
import http
import json
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from garrison.contract import TFSERVING, TORCHSERVE, Contract
from garrison.guard.backend import Backend
from garrison.guard.counts import CountingReport, log
from garrison.guard.grpc_server import GuardHandler, NoSuchMethod, make_server
from garrison.guard.rooms import Rooms
from garrison.guard.service import GuardServing
from garrison.sockets import GUARD_GRPC, GUARD_REST, READY, SERVING_PATH, WATCH
from garrison.unix_http import Page, UnixServer
from garrison.watch.page import CONTENT_TYPE

POLL_S = 0.5
STUCK_AFTER_S = 6.0  # a backend that hangs takes some of it
NOTICED_AFTER_S = 2.0  # the gateway asks once a second
ANSWER_MARGIN_S = 2.0  # beyond the longest timeout of a contract


@dataclass(frozen=True)
class Plan:
    """Where a process makes its sockets, and whom it asks about which models; no `backend`, no SavedModels."""

    directory: Path
    contracts: tuple[Contract, ...]
    backend: Path | None
    torchserve: Path | None = None

    def of(self, server: str) -> tuple[Contract, ...]:
        """Return the contracts of one server's models."""
        return tuple(contract for contract in self.contracts if contract.server == server)


class GuardProcess:
    """Everything that one process holds; made inside its event loop."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        served = plan.of(TFSERVING) if plan.backend is not None else ()
        behind = plan.of(TORCHSERVE) if plan.torchserve is not None else ()
        self._served, self._longest_s = served, max((c.workers.timeout_s for c in (*served, *behind)), default=0)
        self._report, self._rooms = CountingReport((*served, *behind)), Rooms(served)
        self._backend = Backend(plan.backend or plan.directory / "none", served)
        self._serving = GuardServing(served, self._backend, self._rooms)
        self._handlers = self._make_handlers(behind)
        self._grpc = make_server((*served, *behind), self._handlers, plan.directory / GUARD_GRPC)
        self._stopping, self._hurry = asyncio.Event(), asyncio.Event()
        self._beat = time.monotonic()
        self._was_available = self._was_complete = False

    async def run(self) -> None:
        """Serve until told to stop."""
        self._handle_signals()
        listeners = [
            UnixServer(self._plan.directory / READY, self._say_ready),
            UnixServer(self._plan.directory / WATCH, self._render),
        ]
        await self._grpc.start()
        rest = await self._start_rest()
        watching = asyncio.create_task(self._keep_watch())
        try:
            await self._stopping.wait()
            await self._drain(rest)
        finally:
            watching.cancel()
            await self._close()
            for listener in listeners:
                listener.close()

    def _make_handlers(self, behind: Sequence[Contract]) -> list[grpc.GenericRpcHandler]:
        handlers: list[grpc.GenericRpcHandler] = []
        if self._served:
            handlers.append(GuardHandler(self._serving, self._served, self._report))
        if self._plan.torchserve is not None:
            from garrison.guard.torchserve import make_handler

            handlers.append(make_handler(behind, self._plan.torchserve, self._report))
        return [*handlers, NoSuchMethod(self._report)]

    async def _start_rest(self) -> Any:
        from garrison.guard.rest import start_rest

        return await start_rest(self._serving, self._report, self._served, self._plan.directory / GUARD_REST)

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)

    def _stop(self) -> None:
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()

    async def _drain(self, rest: Any) -> None:
        if self._report.has_served:
            await self._wait(NOTICED_AFTER_S)
        grace_s = 0.0 if self._hurry.is_set() else self._longest_s + ANSWER_MARGIN_S
        finishing = asyncio.ensure_future(asyncio.gather(self._grpc.stop(grace_s), rest.stop(grace_s)))
        hurried = asyncio.create_task(self._hurry.wait())
        await asyncio.wait({finishing, hurried}, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        if not finishing.done():
            await asyncio.gather(self._grpc.stop(0), rest.stop(0.0))
            await finishing

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), seconds)

    async def _close(self) -> None:
        for handler in self._handlers:
            close = getattr(handler, "close", None)
            if close is not None:
                await close()
        await self._backend.close()

    async def _keep_watch(self) -> None:
        """Ask the backend again and again, note that the loop turns, and log when models come and go."""
        while True:
            self._beat = time.monotonic()
            await self._backend.look()
            available = self._backend.all_available()
            if available and not self._was_available:
                log({"event": "models_available", "message": "the server behind takes requests for every model"})
            elif self._was_available and not available:
                log({"event": "models_unavailable", "message": "the server behind does not take requests now"})
            self._was_available = available
            self._was_complete = self._was_complete or available
            await asyncio.sleep(POLL_S)

    def _say_ready(self, path: str) -> Page:
        """Say whether requests are taken, from a thread: also when the loop does not turn.

        Once every model was there, one that is not does not keep the others' clients away.
        """
        state = "not ready"
        if time.monotonic() - self._beat > STUCK_AFTER_S:
            state = "stuck"
        elif self._stopping.is_set():
            state = "stopping"
        elif self._backend.all_available() or (path == SERVING_PATH and self._is_serving()):
            state = "ready"
        status = http.HTTPStatus.OK if state == "ready" else http.HTTPStatus.SERVICE_UNAVAILABLE
        return Page(status, "application/json", json.dumps({"status": state}).encode())

    def _is_serving(self) -> bool:
        return self._was_complete and self._backend.any_available()

    def _render(self, _: str) -> Page:
        return Page(http.HTTPStatus.OK, CONTENT_TYPE, self._report.render(self._measure))

    def _measure(self, model: str) -> tuple[int, bool]:
        contract = next((one for one in self._served if one.model == model), None)
        if contract is None:
            return 0, True  # TorchServe's own launcher tells
        return self._rooms.count(model), self._backend.is_available(model, int(contract.version))


async def serve(plan: Plan) -> None:
    """Be a guard process until SIGTERM."""
    await GuardProcess(plan).run()
