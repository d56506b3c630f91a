"""Answer one request at a time of TensorFlow Serving's REST API, as a bare ASGI application.

    1 path   2 caller   3 model   4 encoding   5 body, bounded   6 JSON   7 the model   8 answer

Nothing of a body is read before the path has named a model that the caller may ask. Every answer is JSON: the model's,
or {"error": "..."} of the catalogue with the reason in a header.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from garrison.contract import Contract
from garrison.contract.signatures import CLASSIFY, PREDICT
from garrison.errors import RequestRefused
from garrison.guard.refusals import REASON_KEY, refuse_for
from garrison.guard.report import Report
from garrison.guard.rest import answers
from garrison.guard.rest.paths import METADATA, STATUS, Asked, read_path
from garrison.guard.rest.requests import name_signature, read_body, read_examples, read_inputs
from garrison.guard.scopes import CLIENT_HEADER, DESCRIBE, REQUEST_HEADER, decided_by_path
from garrison.guard.serving import Caller, Found, Serving, Target

PROTOCOL = "tfserving-rest"
BODY_TIMEOUT_S = 30  # the gateway sends a body once it has all of it
DISCARD_TIMEOUT_S = 0.5
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]


@dataclass
class _Request:
    """One request, as far as it is known; what is told about it in the end."""

    headers: dict[bytes, bytes]
    receive: Receive
    caller: Caller | None = None
    model: str = ""
    is_read: bool = False  # to its last byte: only then may the connection go on

    def header(self, name: str) -> str | None:
        """Return a header's value, if it is there once and is ASCII."""
        value = self.headers.get(name.encode())
        return value.decode("ascii", "replace") if value is not None else None

    @property
    def has_two_lengths(self) -> bool:
        """Say whether two readers might see its end, and so the next request, in different places."""
        return b"content-length" in self.headers and b"transfer-encoding" in self.headers


class Application:
    """The REST API over one way to the models."""

    def __init__(self, serving: Serving, report: Report, contracts: Sequence[Contract]) -> None:
        self._serving, self._report = serving, report
        self._contracts = {contract.model: contract for contract in contracts}
        self._most = max((contract.max_body_bytes for contract in contracts), default=0)

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        request, began = _Request(_collect(scope["headers"]), receive), time.monotonic()
        try:
            body = await self._answer(scope, request)
        except Exception as error:  # noqa: BLE001 - the boundary: what is unknown is told as `internal`
            request_id = request.caller.request_id if request.caller else request.header(REQUEST_HEADER) or ""
            words = self._report.refused(
                error, protocol=PROTOCOL, caller=request.caller, model=request.model, request_id=request_id
            )
            reason = ((REASON_KEY.encode(), words.reason.encode()),)
            await _discard_rest(request, self._most)
            await _send(send, words.http_status, answers.write_error(words.message), request, reason)
        else:
            self._report.answered(PROTOCOL, request.model, time.monotonic() - began)
            await _discard_rest(request, self._most)
            await _send(send, 200, body, request)

    async def _answer(self, scope: Mapping[str, Any], request: _Request) -> str:
        if request.has_two_lengths:
            raise refuse_for("two_lengths")
        asked = read_path(scope["method"], scope["raw_path"].decode("latin-1"), scope["query_string"])  # 1
        request.model = asked.target.model
        is_look = asked.what in (STATUS, METADATA)
        verb = DESCRIBE if is_look else PREDICT
        request.caller = decided_by_path(  # 2
            request.header(CLIENT_HEADER), request.model, verb, request.header(REQUEST_HEADER), PROTOCOL
        )
        if is_look:
            return self._describe(request, asked)
        contract = self._contracts.get(request.model)  # 3
        if contract is None:
            raise refuse_for("not_found", "no such model")
        if request.header("content-encoding") not in (None, "identity"):  # 4
            raise refuse_for("compressed")
        payload = await _read_payload(request, contract.max_body_bytes)  # 5
        return await self._ask(request.caller, contract, asked, payload)

    def _describe(self, request: _Request, asked: Asked) -> str:
        if request.caller is None:
            raise refuse_for("unidentified")
        found = self._serving.find(request.caller, asked.target, DESCRIBE)
        if asked.what == METADATA:
            return answers.write_metadata(found)
        return answers.write_status(found, available=self._serving.is_available(found))

    async def _ask(self, caller: Caller, contract: Contract, asked: Asked, payload: bytes) -> str:
        body = read_body(payload, contract)  # 6
        target = Target(asked.target.model, asked.target.version, asked.target.label, name_signature(body))
        found = self._serving.find(caller, target, asked.what)
        if asked.what == PREDICT:
            return await self._predict(caller, found, body)
        examples = read_examples(body, contract, found.signature)
        if asked.what == CLASSIFY:  # 7 and 8
            return answers.write_classes(await self._serving.classify(caller, found, examples))
        return answers.write_values(await self._serving.regress(caller, found, examples))

    async def _predict(self, caller: Caller, found: Found, body: dict[str, Any]) -> str:
        inputs, in_rows = read_inputs(body, found.signature)
        outputs = await self._serving.predict(caller, found, inputs)  # 7
        return answers.write_rows(outputs) if in_rows else answers.write_columns(outputs)  # 8


async def _read_payload(request: _Request, most: int) -> bytes:
    """Return the body.

    Raises:
        TooLarge: it is longer, or says that it will be.
        OutOfTime: it does not arrive.
    """
    if _declares_more(request, most):
        raise refuse_for("message_too_large", f"more than {most} bytes are declared")
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await _receive_all(request, most)
    except TimeoutError as error:
        raise refuse_for("not_in_time") from error


def _declares_more(request: _Request, most: int) -> bool:
    declared = request.header("content-length")
    return declared is not None and declared.isdigit() and int(declared[:20]) > most


async def _discard_rest(request: _Request, most: int) -> None:
    """Read what is left of a body that nobody needs: whoever still writes it would miss the answer."""
    if request.is_read or request.has_two_lengths or b"expect" in request.headers or _declares_more(request, most):
        return
    with contextlib.suppress(TimeoutError, RequestRefused):
        async with asyncio.timeout(DISCARD_TIMEOUT_S):
            await _receive_all(request, most, keep=False)


async def _receive_all(request: _Request, most: int, *, keep: bool = True) -> bytes:
    payload, count = bytearray(), 0
    while not request.is_read:
        message = await request.receive()
        if message["type"] != "http.request":
            raise refuse_for("broken_off")
        piece = message.get("body", b"")
        count += len(piece)
        if keep:
            payload += piece
        if count > most:
            raise refuse_for("message_too_large", f"more than {most} bytes")
        request.is_read = not message.get("more_body", False)
    return bytes(payload)


def _collect(headers: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return headers by name; of one that stands several times nothing may depend on which is read."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        found[name] = b"" if name in found else value
    return found


async def _send(
    send: Send, status: int, text: str, request: _Request, further: Sequence[tuple[bytes, bytes]] = ()
) -> None:
    body = text.encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *further]
    if not request.is_read:  # whatever else arrives is not looked for the next request in
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
