"""How Envoy verifies tokens: signature, issuer, audience and dates, of our own keys and of an OIDC issuer's tokens.

A token that is presented has to be valid, whichever way in is taken; one of a kind that no way accepts is not looked
at. What a valid token allows is identity.lua's to say.
"""

import json
from collections.abc import Sequence
from typing import Any

from garrison.gateway.authentication import Oidc
from garrison.gateway.issuer import render_remote_keys
from garrison.gateway.keys import AUDIENCE, ISSUER, MAX_LIFETIME
from garrison.gateway.routes.management import PATTERN
from garrison.gateway.source import GatewaySource

KEY_HEADER, TOKEN_HEADER = "x-api-key", "authorization"
KEY, OIDC = "key", "oidc"
BEARER = "Bearer "
CLOCK_SKEW_S = 5  # Envoy's default of 60 s would keep an expired key alive for a minute
KEY_CACHE_SIZE = 1000


def render_providers(source: GatewaySource) -> dict[str, Any]:
    """Render who may sign tokens, and where on a request each kind is looked for."""
    authentication, providers = source.settings.authentication, {}
    if authentication.uses("key"):
        providers[KEY] = _key_provider(source.verification.jwks)
    if authentication.uses("oidc") and authentication.oidc is not None:
        providers[OIDC] = _oidc_provider(authentication.oidc, source.verification.oidc_jwks)
    return providers


def render_rules(providers: Sequence[str], prefixes: Sequence[str]) -> list[dict[str, Any]]:
    """Render when each provider is asked: below the guarded paths, where a token of its kind is presented."""
    marks = {
        KEY: {"name": KEY_HEADER, "present_match": True},
        OIDC: {"name": TOKEN_HEADER, "string_match": {"contains": BEARER, "ignore_case": True}},
    }
    rules = []
    for prefix in prefixes:
        if len(providers) > 1:
            every = {"requires_all": {"requirements": [{"provider_name": name} for name in providers]}}
            rules.append({"match": {"prefix": prefix, "headers": list(marks.values())}, "requires": every})
        for name in providers:
            rules.append({"match": {"prefix": prefix, "headers": [marks[name]]}, "requires": {"provider_name": name}})
    return rules


def render_look(providers: Sequence[str]) -> list[dict[str, Any]]:
    """Render that a token on a management path is looked at: it opens nothing there, but says whose it is."""
    anyway: list[dict[str, Any]] = [{"provider_name": name} for name in providers]
    requirements = [*anyway, {"allow_missing_or_failed": {}}]
    match = {"safe_regex": {"regex": PATTERN}}
    return [{"match": match, "requires": {"requires_any": {"requirements": requirements}}}] if providers else []


def _key_provider(jwks: dict[str, Any]) -> dict[str, Any]:
    return {
        "issuer": ISSUER,
        "audiences": [AUDIENCE],
        "local_jwks": {"inline_string": json.dumps(jwks)},
        "from_headers": [{"name": KEY_HEADER}],  # here only: not in Authorization, not in the query string
        "require_expiration": True,
        "max_lifetime": f"{int(MAX_LIFETIME.total_seconds())}s",
        "clock_skew_seconds": CLOCK_SKEW_S,
        "forward": True,  # identity.lua counts them, and then takes them out
        "payload_in_metadata": KEY,
        "jwt_cache_config": {"jwt_cache_size": KEY_CACHE_SIZE},  # verified once; its dates are checked every time
    }


def _oidc_provider(oidc: Oidc, jwks: dict[str, Any] | None) -> dict[str, Any]:
    """Render an issuer's tokens; without a cache, which would know tokens whose key the issuer has withdrawn."""
    local = {"local_jwks": {"inline_string": json.dumps(jwks)}}
    return {
        "issuer": oidc.issuer,
        "audiences": [oidc.audience],
        **(local if oidc.jwks_url is None else {"remote_jwks": render_remote_keys(oidc.jwks_url)}),
        "from_headers": [{"name": TOKEN_HEADER, "value_prefix": BEARER}],
        "require_expiration": True,
        "clock_skew_seconds": oidc.clock_skew_s,
        "forward": True,
        "payload_in_metadata": OIDC,
        "header_in_metadata": f"{OIDC}_head",  # with the algorithm, for which Envoy has no allow-list of its own
    }
