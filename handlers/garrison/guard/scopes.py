"""What the gateway says about a caller: two headers enter, a `Caller` leaves.

    x-garrison-client   the client's name
    x-garrison-scopes   what it may do, `MODEL:VERB MODEL:VERB`; with gRPC, whose messages name the model

Envoy removes whatever a client itself sends under such names. Where the path names the model, as with REST, Envoy has
decided already, and the header is not there: see `decided_by_path`.
"""

import functools
import re

from garrison.contract import MODEL_NAME
from garrison.errors import RequestRefused
from garrison.guard.refusals import refuse_for
from garrison.guard.serving import Caller

CLIENT_HEADER, SCOPES_HEADER, REQUEST_HEADER = "x-garrison-client", "x-garrison-scopes", "x-request-id"
PREDICT, DESCRIBE = "predict", "describe"
MAX_SCOPES_BYTES = 256 * 1024  # of 1,000 models with the longest names, and three verbs each
_CLIENT = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_SCOPE = re.compile(rf"{MODEL_NAME}:[a-z]{{1,16}}")
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def read_caller(client: str | None, scopes: str | None, request_id: str | None, protocol: str) -> Caller:
    """Return who asks, and what for, as the gateway says.

    Raises:
        Unidentified: a header is missing, or not of the gateway's making.
    """
    if client is None or not _CLIENT.fullmatch(client):
        raise refuse_for("unidentified", "x-garrison-client is missing or malformed")
    if scopes is None:
        raise refuse_for("unidentified", "x-garrison-scopes is missing")
    return Caller(client, _read_scopes(scopes), _read_request_id(request_id), protocol)


def decided_by_path(client: str | None, model: str, verb: str, request_id: str | None, protocol: str) -> Caller:
    """Return who asks where the gateway has looked at the model in the path: it may do this one thing.

    Raises:
        Unidentified: the gateway does not say who it is.
    """
    scope = f"{model}:{verb}"
    return read_caller(client, scope if _SCOPE.fullmatch(scope) else "", request_id, protocol)


@functools.lru_cache(maxsize=256)
def _read_scopes(text: str) -> frozenset[str]:
    """Read a list of scopes; a client's is the same for each of its requests."""
    if len(text) > MAX_SCOPES_BYTES:
        raise _malformed_scopes()
    found = text.split(" ") if text else []
    if not all(_SCOPE.fullmatch(scope) for scope in found):
        raise _malformed_scopes()
    return frozenset(found)


def _malformed_scopes() -> RequestRefused:
    return refuse_for("unidentified", "x-garrison-scopes is malformed")


def _read_request_id(text: str | None) -> str:
    """Return the gateway's id of a request, or nothing: a log line is never refused for it."""
    return text if text is not None and _REQUEST_ID.fullmatch(text) else ""
