"""Which pages of which origins a browser lets talk to the gateway: those that are named, and none by default.

A preflight is answered without a key, as browsers send none with it: the same for every path at which there may be a
model, whether there is one or not. Never `*`, and never with credentials that a browser adds by itself. It is no
protection of the gateway: who is no browser may claim any origin, and needs a key.
"""

from typing import Any

from garrison.gateway.settings import GatewaySettings

CORS = "envoy.filters.http.cors"
_TYPE = "type.googleapis.com/envoy.extensions.filters.http.cors.v3"
METHODS = "GET, POST, PUT"
MAX_AGE_S = 600
EXPOSED = "x-garrison-reason, x-request-id, retry-after"


def render_cors() -> dict[str, Any]:
    """Render the filter; what it allows is said on each route."""
    return {"name": CORS, "typed_config": {"@type": f"{_TYPE}.Cors"}}


def render_policy(settings: GatewaySettings) -> dict[str, Any] | None:
    """Render what a route allows pages of the named origins, or nothing where none is named."""
    if not settings.cors_origins:
        return None
    bearer = ["authorization"] if settings.authentication.uses("oidc") else []
    return {
        "@type": f"{_TYPE}.CorsPolicy",
        "allow_origin_string_match": [{"exact": origin} for origin in settings.cors_origins],
        "allow_methods": METHODS,
        "allow_headers": ", ".join(["content-type", "x-api-key", *bearer]),
        "expose_headers": EXPOSED,
        "max_age": str(MAX_AGE_S),
        "allow_credentials": False,
    }
