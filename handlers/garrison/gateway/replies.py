"""Everything the gateway says when it says no: one catalogue, from HTTP status to reason and message.

The same catalogue answers for the gateway's own refusals and for failures of the model server behind it, whose own
words never reach a client. A refusal that a handler or the guard has worded itself (it carries the header
`x-garrison-reason`) passes unchanged.

A gRPC client gets the same as a status and its message, with the reason in the same header.
"""

import json
from dataclasses import dataclass
from typing import Any

from garrison.gateway.budget.ledger import BUDGET_USED, TOO_MANY_CONCURRENT
from garrison.gateway.budget.questions import NAMESPACE, REASON


@dataclass(frozen=True)
class Reply:
    """A refusal as a client sees it: a stable reason code and one sentence."""

    reason: str
    message: str

    def body(self) -> str:
        """Return the answer's JSON body."""
        return json.dumps({"reason": self.reason, "message": self.message})


REPLIES = {
    400: Reply("bad_request", "This is not a request that the gateway understands."),
    401: Reply(
        "unauthenticated",
        "Send a valid API key in the header x-api-key, or a token or certificate that is accepted here.",
    ),
    403: Reply("forbidden", "This key, token or certificate does not allow this request."),
    404: Reply("not_found", "There is nothing here."),
    408: Reply("timeout", "The request took too long to arrive."),
    413: Reply("too_many_bytes", "The request body is larger than this model accepts."),
    415: Reply(
        "unsupported_media_type",
        "Send the input itself as the body, or as a form of one field named data; not compressed.",
    ),
    426: Reply("bad_request", "Use HTTP/1.1 or HTTP/2."),
    429: Reply("rate_limited", "Too many requests; wait before you send the next one."),
    431: Reply("headers_too_large", "The request headers are too large or too many."),
    500: Reply("server_error", "The request could not be completed."),
    501: Reply("bad_request", "The request uses a part of HTTP that is not supported here."),
    502: Reply("bad_gateway", "The model server gave no usable answer."),
    503: Reply("unavailable", "The model cannot take requests now; try again later."),
    504: Reply("timeout", "The model took too long to answer."),
}
BUDGET_REPLIES = {  # what the budget service says no for; 429 all of them, and the service says when to come back
    BUDGET_USED: Reply(BUDGET_USED, "All queries of this day are used; the budget is whole again at midnight UTC."),
    TOO_MANY_CONCURRENT: Reply(
        TOO_MANY_CONCURRENT, "Too many of your requests are in progress; wait for one to end before you send the next."
    ),
}
FALLBACK_STATUS = 500  # what a status that is not in the catalogue becomes when the model server sends it
OTHER = Reply("refused", "The request was refused.")  # for the few statuses that Envoy itself may choose besides
GRPC_STATUSES = {  # what a refusal is to a gRPC client; Envoy's own choice for 404, 413, 415 and 429 would be another
    400: 3, 401: 16, 403: 7, 404: 12, 408: 4, 413: 8, 415: 12, 426: 12, 429: 8, 431: 8,
    500: 13, 501: 12, 502: 14, 503: 14, 504: 4,
}  # fmt: skip
GRPC_UNKNOWN = 2
GRPC_FAILURES = {  # and which words stand for a status that the guard gives without any of its own
    3: 400, 4: 504, 5: 404, 7: 403, 8: 429, 12: 501, 13: 500, 14: 503, 16: 401,
}  # fmt: skip
FALLBACK_GRPC_STATUS = 13
GRPC_415 = Reply(
    REPLIES[415].reason, "Send gRPC over HTTP/2, as application/grpc or application/grpc+proto, not compressed."
)


def render_local_replies(*, grpc: bool = False) -> dict[str, Any]:
    """Render how Envoy words its own answers: refusals by the budget service's reason or by status, gRPC's first.

    The few answers that are none, such as what a contract says about a model, keep their words.
    """
    mappers = [_render_answer()]
    if grpc:
        mappers += [_render_grpc_mapper(_is_said(r), GRPC_STATUSES[429], reply) for r, reply in BUDGET_REPLIES.items()]
        mappers += [_render_grpc_mapper(_has(s), GRPC_STATUSES[s], r) for s, r in REPLIES.items()]
        mappers.append(_render_grpc_mapper(_has(300, "GE"), GRPC_UNKNOWN, OTHER))
    mappers += [_render_mapper(_is_said(reason), reply) for reason, reply in BUDGET_REPLIES.items()]
    mappers += [_render_mapper(_has(status), reply) for status, reply in REPLIES.items()]
    return {"mappers": [*mappers, _render_mapper(_has(300, "GE"), OTHER)], "body_format": _render_body(OTHER)}


def render_lua_replies() -> str:
    """Render the catalogue as the Lua tables that headers.lua expects in front of it."""
    entries = [
        f"[{status}] = {{ reason = {_quote_lua(reply.reason)}, body = {_quote_lua(reply.body())} }}"
        for status, reply in REPLIES.items()
    ]
    failures = [
        f"[{code}] = {{ reason = {_quote_lua(reply.reason)}, message = {_quote_lua(reply.message)} }}"
        for code, reply in ((code, REPLIES[status]) for code, status in GRPC_FAILURES.items())
    ]
    reasons = sorted({reply.reason for reply in (*REPLIES.values(), *BUDGET_REPLIES.values(), OTHER)})
    return (
        f"local REPLIES = {{ {', '.join(entries)} }}\nlocal FALLBACK_STATUS = {FALLBACK_STATUS}\n"
        f"local GRPC_FAILURES = {{ {', '.join(failures)} }}\nlocal FALLBACK_GRPC_STATUS = {FALLBACK_GRPC_STATUS}\n"
        f"local REASONS = {{ {', '.join(f'{reason} = true' for reason in reasons)} }}\n"
    )


def _render_answer() -> dict[str, Any]:
    body = {"text_format_source": {"inline_string": "%LOCAL_REPLY_BODY%"}, "content_type": "application/json"}
    return {"filter": _has(299, "LE"), "body_format_override": body}


def _render_grpc_mapper(applies: dict[str, Any], grpc_status: int, reply: Reply) -> dict[str, Any]:
    """Render a refusal for gRPC: Envoy makes its body the message, and keeps a status that is there already."""
    is_grpc = {"header_filter": {"header": {"name": "content-type", "string_match": {"prefix": "application/grpc"}}}}
    message = GRPC_415.message if reply is REPLIES[415] else reply.message
    body = {"text_format_source": {"inline_string": message.replace("%", "%%")}}
    headers = {"x-garrison-reason": reply.reason, "grpc-status": str(grpc_status)}
    return {
        "filter": {"and_filter": {"filters": [is_grpc, applies]}},
        "headers_to_add": _add_headers(headers),
        "body_format_override": body,
    }


def _render_mapper(applies: dict[str, Any], reply: Reply) -> dict[str, Any]:
    headers = {"x-garrison-reason": reply.reason}
    if reply is REPLIES[429]:
        headers["retry-after"] = "1"  # a bucket of requests gains one a second; headers.lua knows about those of bytes
    return {"filter": applies, "headers_to_add": _add_headers(headers), "body_format_override": _render_body(reply)}


def _has(status: int, operator: str = "EQ") -> dict[str, Any]:
    comparison = {"op": operator, "value": {"default_value": status, "runtime_key": "garrison.none"}}
    return {"status_code_filter": {"comparison": comparison}}


def _is_said(reason: str) -> dict[str, Any]:
    """Match what the budget service has said no to, for this reason."""
    matcher = {"filter": NAMESPACE, "path": [{"key": REASON}], "value": {"string_match": {"exact": reason}}}
    said = {"metadata_filter": {"matcher": matcher, "match_if_key_not_found": False}}
    return {"and_filter": {"filters": [_has(429), said]}}


def _add_headers(headers: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
        for key, value in headers.items()
    ]


def _render_body(reply: Reply) -> dict[str, Any]:
    text = reply.body().replace("%", "%%")  # a percent sign starts a command in Envoy's formats
    return {"text_format_source": {"inline_string": text}, "content_type": "application/json"}


def _quote_lua(text: str) -> str:
    return json.dumps(text)  # the catalogue is plain ASCII, for which JSON's quotes and Lua's are the same
