"""What Envoy counts for us: headers.lua counts each answer once, by names that are known beforehand.

    refused.REASON        refusals, by reason; `in_its_own_words` for those that a handler or the guard has worded
    answered.MODEL        answers, by model; `grpc`, `rest` or `guard` where no path names one
    management_attempts   requests for a path in routes/management.py
    probes                requests for anything else that is not there

all of them below `http.gateway.lua.garrison`. Never by client and model together, and never by anything that a request
can choose. Envoy's logger of statistics would count by any field of the access log; it is marked as work in progress,
and not for untrusted callers.
"""

from typing import Any

from garrison.gateway.admin import STAT_PREFIX

COUNTERS = "garrison"
PREFIX = f"http.{STAT_PREFIX}.lua.{COUNTERS}"


def render_tags() -> dict[str, Any]:
    """Render how a part of a counter's name becomes a label: `envoy_http_lua_garrison_refused{reason="..."}`."""
    prefix = PREFIX.replace(".", r"\.")
    return {
        "stats_tags": [
            {"tag_name": "reason", "regex": rf"^{prefix}\.refused(\.([a-z0-9_]+))$"},
            {"tag_name": "model", "regex": rf"^{prefix}\.answered(\.([A-Za-z0-9_-]+))$"},
        ]
    }
