"""Headers of every answer, whoever gives it, that tell a browser to make nothing of it but data.

An API has no pages. What a browser is told here keeps an answer from being shown, framed, kept, or fetched by another
site's page, and keeps the connection from ever being plain HTTP again.
"""

from typing import Any

from garrison.gateway.settings import GatewaySettings

MUTATION = "envoy.filters.http.header_mutation"
_TYPE = "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation"
TWO_YEARS_S = 63_072_000
SECURITY_HEADERS = {
    # Without includeSubDomains: whether other names under this one speak TLS is not ours to decide.
    "strict-transport-security": f"max-age={TWO_YEARS_S}",
    "x-content-type-options": "nosniff",  # data, whatever a browser thinks it looks like
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


def render_security_headers(settings: GatewaySettings) -> dict[str, Any]:
    """Render the filter in front of all others: answers pass it last, local replies and preflights among them."""
    headers = SECURITY_HEADERS | ({"vary": "origin"} if settings.cors_origins else {})
    appended = [
        {"append": {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}
        for key, value in headers.items()
    ]
    return {"name": MUTATION, "typed_config": {"@type": _TYPE, "mutations": {"response_mutations": appended}}}
