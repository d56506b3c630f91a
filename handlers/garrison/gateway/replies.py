"""Everything the gateway says when it says no: one catalogue, from HTTP status to reason and message.

The same catalogue answers for the gateway's own refusals and for failures of the model server behind it, whose own
words never reach a client. A refusal that a handler has worded itself (it carries the header `x-garrison-reason`)
passes unchanged.
"""

import json
from dataclasses import dataclass
from typing import Any


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
    401: Reply("unauthenticated", "Send a valid API key in the header x-api-key."),
    403: Reply("forbidden", "This key does not allow this request."),
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
FALLBACK_STATUS = 500  # what a status that is not in the catalogue becomes when the model server sends it
OTHER = Reply("refused", "The request was refused.")  # for the few statuses that Envoy itself may choose besides


def render_local_replies() -> dict[str, Any]:
    """Render how Envoy words its own refusals: one mapper per status, then one for whatever is left."""
    mappers = [_render_mapper("EQ", status, reply) for status, reply in REPLIES.items()]
    return {"mappers": [*mappers, _render_mapper("GE", 300, OTHER)], "body_format": _render_body(OTHER)}


def render_lua_replies() -> str:
    """Render the catalogue as the Lua table that headers.lua expects in front of it."""
    entries = [
        f"[{status}] = {{ reason = {_quote_lua(reply.reason)}, body = {_quote_lua(reply.body())} }}"
        for status, reply in REPLIES.items()
    ]
    return f"local REPLIES = {{ {', '.join(entries)} }}\nlocal FALLBACK_STATUS = {FALLBACK_STATUS}\n"


def _render_mapper(operator: str, status: int, reply: Reply) -> dict[str, Any]:
    headers = {"x-garrison-reason": reply.reason}
    if status == 429:
        headers["retry-after"] = "1"  # every bucket gains at least one token a second
    comparison = {"op": operator, "value": {"default_value": status, "runtime_key": "garrison.none"}}
    return {
        "filter": {"status_code_filter": {"comparison": comparison}},
        "headers_to_add": [
            {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            for key, value in headers.items()
        ],
        "body_format_override": _render_body(reply),
    }


def _render_body(reply: Reply) -> dict[str, Any]:
    text = reply.body().replace("%", "%%")  # a percent sign starts a command in Envoy's formats
    return {"text_format_source": {"inline_string": text}, "content_type": "application/json"}


def _quote_lua(text: str) -> str:
    return json.dumps(text)  # the catalogue is plain ASCII, for which JSON's quotes and Lua's are the same
