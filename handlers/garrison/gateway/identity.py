"""Render who is who: clients, ways and revocations enter as settings, and leave as tables in front of identity.lua.

The tables are written as texts and read when Envoy loads the script: a script of Envoy's may hold only some 65,000
values, but long ones. Looking somebody up costs the same among ten clients and among ten thousand.
"""

import json
from collections.abc import Iterable, Mapping, Sequence

from garrison.gateway.authentication import KINDS, Authentication
from garrison.gateway.limits import mark_budgets
from garrison.gateway.routes import guarded
from garrison.gateway.source import GatewaySource

NAMESPACE = "garrison"  # of what identity.lua notes about a request: client, key_id, way, model, verb, allowed


def render_tables(source: GatewaySource) -> str:
    """Render the lines that identity.lua expects in front of it."""
    authentication, clients, verification = source.settings.authentication, source.clients, source.verification
    sets = sorted({_join(client.scopes()) for client in clients})
    numbers = {text: str(number) for number, text in enumerate(sets)}
    names = {name: client.name for client in clients for name in client.certificates}
    tables = {
        "SETS": {number: text for text, number in numbers.items()},
        "CLIENTS": {client.name: numbers[_join(client.scopes())] for client in clients},
        "SUBJECTS": {subject: client.name for client in clients for subject in client.subjects},
        "CERTIFICATES": {_plain_name(name): client for name, client in names.items()},
        "REVOKED_KEYS": dict.fromkeys(verification.revoked_keys, ""),
        "REVOKED_CERTIFICATES": dict.fromkeys(verification.clients.revoked if verification.clients else (), ""),
        "BUDGETED": mark_budgets(clients),
        "MODEL_WAYS": {model: write_ways(ways) for model, ways in sorted(authentication.models.items())},
    }
    lines = [f"local {name} = {_write_table(table)}" for name, table in tables.items()]
    return "\n".join([*lines, *_render_settings(authentication), _render_guarded(source.protocols)]) + "\n"


def write_ways(ways: Sequence[Sequence[str]]) -> str:
    """Write ways as gateway.yaml has them: `key mtls+key`."""
    return " ".join("+".join(way) for way in ways)


def _render_settings(authentication: Authentication) -> list[str]:
    oidc = authentication.oidc
    uses = ", ".join(f"{kind} = {'true' if authentication.uses(kind) else 'false'}" for kind in KINDS)
    algorithms = ", ".join(f"{name} = true" for name in (oidc.algorithms if oidc else ()))
    return [
        f"local DEFAULT_WAYS = {_quote(write_ways(authentication.accept))}",
        f"local USES = {{ {uses} }}",
        f"local ALGORITHMS = {{ {algorithms} }}",
        f"local SCOPE_CLAIM = {_quote(oidc.scope_claim if oidc else '')}",
        f"local SCOPE_PREFIX = {_quote(oidc.scope_prefix if oidc else '')}",
    ]


def _render_guarded(protocols: Sequence[str]) -> str:
    return f"local GUARDED = {{ {', '.join(_quote(prefix) for prefix in guarded(protocols))} }}"


def _plain_name(name: str) -> str:
    """Return a certificate's name as it is looked up: a DNS name in small letters, a URI as it is."""
    return name if "://" in name else name.lower()


def _join(scopes: Iterable[str]) -> str:
    return " ".join(sorted(scopes))


def _write_table(table: Mapping[str, str]) -> str:
    return _quote("".join(f"{name}\t{value}\n" for name, value in table.items()))


def _quote(text: str) -> str:
    return json.dumps(text)  # all of it is plain ASCII, for which JSON's quotes and Lua's are the same
