"""Answer Envoy's rate limit filter: may this request go on? And take note when one is over.

Envoy asks with descriptors: `step` says what it is about, `begin` or `end`; then come the client, the model and the
stream's id. An answer is given when everything is counted. What cannot be counted is answered with an error, which
Envoy, told to deny then, turns into 503; the log says why, now and then, and how often.

Envoy says `end` for every stream that it has asked about, whatever the answer was, also when the client is gone. Only a
client that goes between the question and the answer leaves a place taken, until its lease is over.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from garrison.errors import ConfigError
from garrison.gateway.budget.ledger import Asked, Ledger, LedgerFailure, Verdict
from garrison.gateway.budget.messages import METHOD, OK, OVER_LIMIT, SERVICE, Request, Response
from garrison.gateway.budget.plan import load_plan
from garrison.gateway.budget.questions import CLIENT, END, MODEL, REASON, STEP, STREAM
from garrison.gateway.budget.used import USED_FILE, Used

LEASE_MARGIN_S = 5  # Envoy's own timeouts come first
REOPEN_S = 1.0
TOLD_EVERY_S = 10.0

Log = Callable[[str, str], None]


class BudgetService:
    """The one method of Envoy's protocol, over a ledger."""

    def __init__(self, ledger: Ledger, path: Path, log: Log) -> None:
        self._ledger = ledger
        self._path = path
        self._log = log
        self._seen = _look(path)
        self._allowances = load_plan(path).allowances
        self._former: set[str] = set()
        self.used = Used(path.with_name(USED_FILE))
        self._failure, self._failed_at = "", -REOPEN_S
        self._failures, self._told_at = 0, -TOLD_EVERY_S

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what a gRPC server needs to know."""
        method = grpc.unary_unary_rpc_method_handler(
            self.answer, request_deserializer=Request.FromString, response_serializer=Response.SerializeToString
        )
        return grpc.method_handlers_generic_handler(SERVICE, {METHOD: method})

    async def answer(self, request: Any, context: "grpc.aio.ServicerContext[Any, Any]") -> Any:
        """Answer one request of Envoy's."""
        try:
            await self._ensure_open()
            verdict = Verdict()
            for descriptor in request.descriptors:
                verdict = await self._decide({entry.key: entry.value for entry in descriptor.entries})
        except LedgerFailure as failure:
            self._tell(str(failure))
            await context.abort(grpc.StatusCode.UNAVAILABLE)
        return _word(verdict)

    async def prepare(self) -> None:
        """Open the ledger; if that fails, the log says so before anybody asks."""
        try:
            await self._ensure_open()
        except LedgerFailure as failure:
            self._log("budgets_unavailable", f"requests that count against a budget are refused: {failure}")

    def reload(self) -> None:
        """Read the allowances again if their file has changed; a bad one changes nothing."""
        seen = _look(self._path)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            fresh = load_plan(self._path).allowances
        except ConfigError as error:
            self._log("budgets_refused", f"the old budgets stay: {error}")
            return
        self._former |= self._allowances.names() - fresh.names()
        self._allowances = fresh

    async def _decide(self, named: dict[str, str]) -> Verdict:
        try:
            step, client, model, stream = (named[key] for key in (STEP, CLIENT, MODEL, STREAM))
        except KeyError as error:
            raise LedgerFailure(f"Envoy asks without naming {error}") from error
        if step == END:
            await self._ledger.give_back(client, model, stream)
            return Verdict()
        if not self._allowances.knows(client):
            self.reload()  # Envoy was faster
        scopes = self._allowances.find(client, model)
        if not scopes:
            if client in self._former or self._allowances.knows(client):
                return Verdict()
            raise LedgerFailure(f"client {client}: has no budget here")
        lease_s = self._allowances.longest_s + LEASE_MARGIN_S
        verdict = await self._ledger.take(Asked(client, model, scopes, stream, lease_s))
        self.used.note(client, verdict)
        return verdict

    async def _ensure_open(self) -> None:
        """Open the ledger if need be, and not again at once if that fails."""
        if self._ledger.is_open:
            return
        if time.monotonic() < self._failed_at + REOPEN_S:
            raise LedgerFailure(self._failure)
        try:
            await self._ledger.open()
        except LedgerFailure as failure:
            self._failure, self._failed_at = str(failure), time.monotonic()
            raise
        if self._failure:
            self._failure = ""
            self._log("budgets_available", "budgets can be counted again")

    def _tell(self, why: str) -> None:
        self._failures += 1
        if time.monotonic() >= self._told_at + TOLD_EVERY_S:
            self._log("budgets_unavailable", f"{self._failures} requests refused, since nothing can be counted: {why}")
            self._failures, self._told_at = 0, time.monotonic()


def _word(verdict: Verdict) -> Any:
    if not verdict.reason:
        return Response(overall_code=OK)
    response = Response(overall_code=OVER_LIMIT)
    response.response_headers_to_add.add(key="retry-after", value=str(verdict.retry_after_s))
    response.dynamic_metadata.fields.add(key=REASON).value.string_value = verdict.reason
    return response


def _look(path: Path) -> tuple[int, int]:
    """Return what changes with a file's contents, as files are replaced and not written to."""
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return (found.st_ino, found.st_mtime_ns)
