"""What is written about each request: one JSON line, of who, what, the verdict and its cost; no query, no key, no body.

An attempt on a management path is the same line as an event of its own, so that an alert needs no list of paths.
What a client chooses is cut, and escaped by Envoy: a line stays one line, and valid JSON.
"""

from typing import Any

from garrison.gateway.routes.management import PATTERN

LOG_TYPE = "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog"
LOG_NAME = "envoy.access_loggers.stdout"
TIME = "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%"
MAX_LOGGED_PATH = 100
# An operator that is always empty. Alone, an empty operator is logged as null or left out; beside another one it makes
# the whole a text, so that every line has every field and every field one type.
NOTHING = "%DYNAMIC_METADATA(garrison:nothing)%"
# The path as the client wrote it, which a route that is another one upstream notes.
PATH = (
    '%COALESCE({"operators":[{"command":"METADATA","param":"ROUTE:garrison:path"},'
    f'{{"command":"PATH","param":"NQ:PATH","max_length":{MAX_LOGGED_PATH}}}]}})%'
)
TEXTS = {
    "client": "%DYNAMIC_METADATA(garrison:client)%",
    "key_id": "%DYNAMIC_METADATA(garrison:key_id)%",
    "way": "%DYNAMIC_METADATA(garrison:way)%",
    "model": "%METADATA(ROUTE:garrison:model)%",
    "verb": "%METADATA(ROUTE:garrison:verb)%",
    "api": "%METADATA(ROUTE:garrison:api)%",
    "method": "%REQ(:METHOD):20%",
    "path": PATH,
    "protocol": "%PROTOCOL%",
    "reason": "%RESP(X-GARRISON-REASON)%%TRAILER(X-GARRISON-REASON)%",  # of gRPC in what comes last
    "detail": "%RESPONSE_CODE_DETAILS% %RESPONSE_FLAGS%",
    "request_id": "%REQ(X-REQUEST-ID)%",
}
NUMBERS = {
    "status": "%RESPONSE_CODE%",
    "grpc_status": "%GRPC_STATUS_NUMBER%",
    "duration_ms": "%DURATION%",
    "body_ms": "%REQUEST_DURATION%",  # until the request had arrived
    "upstream_ms": "%COMMON_DURATION(US_TX_END:US_RX_BEG:ms)%",  # from there until the server answered
    "bytes_in": "%BYTES_RECEIVED%",
    "bytes_out": "%BYTES_SENT%",
}


def render_access_logs() -> list[dict[str, Any]]:
    """Render the log of requests, and that of attempts on management paths."""
    attempt = {"name": ":path", "string_match": {"safe_regex": {"regex": PATTERN}}}
    return [
        _render_log({"event": "management_attempt"}, attempt),
        _render_log({"event": "request"}, {**attempt, "invert_match": True}),
    ]


def render_connection_log() -> dict[str, Any]:
    """Render the log of connections that broke the protocol: Envoy ends them before there is a request to log."""
    fields = {
        "time": TIME,
        "gate": "gateway",
        "event": "broken_connection",
        "detail": "%RESPONSE_FLAGS% %CONNECTION_TERMINATION_DETAILS%",
        "duration_ms": "%DURATION%",
    }
    return {
        "name": LOG_NAME,
        "filter": {"response_flag_filter": {"flags": ["DPE"]}},
        "typed_config": {"@type": LOG_TYPE, "log_format": {"json_format": fields, "omit_empty_values": True}},
    }


def _render_log(event: dict[str, str], header: dict[str, Any]) -> dict[str, Any]:
    fields = {
        "time": TIME,
        "gate": "gateway",
        **event,
        **{name: text + NOTHING for name, text in TEXTS.items()},
        **NUMBERS,
    }
    log_format = {"json_format": fields, "omit_empty_values": True}
    return {
        "name": LOG_NAME,
        "filter": {"header_filter": {"header": header}},
        "typed_config": {"@type": LOG_TYPE, "log_format": log_format},
    }
