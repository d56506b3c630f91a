"""Order the change from one configuration to the next, so that no moment in between lets in what neither of them does.

Envoy takes each resource by itself, and a request may meet some of the new ones and some of the old. What is allowed
is what the verified keys, the clients' scopes and the routes allow together; so these never grow while another one
still has to shrink:

    1. clusters, buckets   the new ones beside the old: nothing leads to a missing cluster, no client is without limits
    2. keys, routes        only those that are in both
    3. everything else     who may do what
    4. keys, routes        the new ones
    5. clusters            without those that nothing leads to any more

Each step is written when Envoy has taken the one before. What both configurations allow is allowed all the time, what
neither does never. A step that changes nothing is left out; buckets that are not needed any more stay, because writing
the limiter's resource anew would fill all the others.
"""

import base64
import json
from collections.abc import Iterable
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from garrison.gateway.resources import CALLERS, CERTIFICATE, CLUSTERS, METRICS, ROUTES, Resource, Resources

_VERIFIES = "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"
_COUNTS = ("kid", "kty", "alg", "crv", "x", "y", "n", "e")  # of a JSON Web Key
_NOT_FOUND = 404
_LIMITS = "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"


def order_changes(old: Resources, new: Resources) -> list[Resources]:
    """Return what to write, step by step; what only one of them has, a listener for metrics, waits for a restart.

    Applied on top of each other the steps make `new`, but for buckets of clients that are gone.
    """
    new = {name: entries for name, entries in new.items() if name in old}
    verifying, limiting = _of_type(new, _VERIFIES), _of_type(new, _LIMITS)
    early = {CLUSTERS, CERTIFICATE, CALLERS, *limiting} & new.keys()
    narrowed = {ROUTES, *verifying}
    wide = {name: new[name] for name in early}
    wide[CLUSTERS] = _join(old[CLUSTERS], new[CLUSTERS])
    wide |= {name: (_keep_buckets(old[name][0], new[name][0]),) for name in limiting}
    narrow: Resources = {name: (_narrow_keys(old[name][0], new[name][0]),) for name in verifying}
    narrow[ROUTES] = (_narrow_routes(old[ROUTES][0], new[ROUTES][0]),)
    steps = [
        wide,
        narrow,
        {name: new[name] for name in new if name not in early | narrowed},
        {name: new[name] for name in narrowed},
        {CLUSTERS: new[CLUSTERS]},
    ]
    return _leave_out_same(old, steps)


def find_rebuilt(old: Resources, new: Resources) -> list[str]:
    """Name the resources that differ in more than can be changed while Envoy runs; such as a list of filters."""
    missing = sorted((old.keys() ^ new.keys()) - {METRICS})
    verifying = [name for name in _of_type(old, _VERIFIES) if name in new]
    return missing + [name for name in verifying if _without_keys(old[name][0]) != _without_keys(new[name][0])]


def _of_type(resources: Resources, kind: str) -> list[str]:
    return [name for name, entries in resources.items() if entries and _type(entries[0]) == kind]


def _type(entry: Resource) -> str:
    return str(entry.get("typed_config", {}).get("@type", ""))


def _leave_out_same(old: Resources, steps: Iterable[Resources]) -> list[Resources]:
    current, changing = dict(old), []
    for step in steps:
        changed = {name: entries for name, entries in step.items() if current[name] != entries}
        current |= changed
        if changed:
            changing.append(changed)
    return changing


def _join(old: tuple[Resource, ...], new: tuple[Resource, ...]) -> tuple[Resource, ...]:
    names = {cluster["name"] for cluster in new}
    return (*new, *(cluster for cluster in old if cluster["name"] not in names))


def _keep_buckets(old: Resource, new: Resource) -> Resource:
    """Return the new limits and the old buckets that are not among them; the old limits if they have all of that."""
    before, after = _buckets(old), _buckets(new)
    if before == {**before, **after} and _without_buckets(old) == _without_buckets(new):
        return old
    config = {**new["typed_config"], "descriptors": list({**before, **after}.values())}
    return {**new, "typed_config": config} if before or after else new


def _buckets(limits: Resource) -> dict[str, Any]:
    return {json.dumps(one["entries"]): one for one in limits["typed_config"].get("descriptors", ())}


def _without_buckets(limits: Resource) -> dict[str, Any]:
    return {name: value for name, value in limits["typed_config"].items() if name != "descriptors"}


def _narrow_routes(old: Resource, new: Resource) -> Resource:
    """Keep the old routes that have a new one beside them, and those that only say no."""
    hosts = {host["name"]: _matches(host) for host in new["virtual_hosts"]}
    kept = [
        {**host, "routes": [one for one in host["routes"] if _match(one) in hosts[host["name"]] or _says_no(one)]}
        for host in old["virtual_hosts"]
        if host["name"] in hosts
    ]
    return {**old, "virtual_hosts": kept}


def _matches(host: dict[str, Any]) -> set[str]:
    return {_match(route) for route in host["routes"]}


def _match(route: dict[str, Any]) -> str:
    return json.dumps(route["match"], sort_keys=True)


def _says_no(route: dict[str, Any]) -> bool:
    return bool(route.get("direct_response", {}).get("status") == _NOT_FOUND)  # others say what a model is like


def _narrow_keys(old: Resource, new: Resource) -> Resource:
    """Keep of each provider's keys those that are in both."""
    providers = {
        name: _with_keys(provider, _shared_keys(provider, new["typed_config"]["providers"][name]))
        for name, provider in old["typed_config"]["providers"].items()
    }
    return {**old, "typed_config": {**old["typed_config"], "providers": providers}}


def _shared_keys(old: dict[str, Any], new: dict[str, Any]) -> list[Any] | None:
    before, after = _keys(old), _keys(new)
    if before is None or after is None:
        return None
    known = [_identify(key) for key in after]
    return [key for key in before if _identify(key) in known] or [_nobody()]


def _identify(key: dict[str, Any]) -> dict[str, Any]:
    """Return what of a key counts when a token is verified; a note of ours, such as when it ends, is none of it."""
    return {name: key[name] for name in _COUNTS if name in key}


def _keys(provider: dict[str, Any]) -> list[Any] | None:
    inline = provider.get("local_jwks", {}).get("inline_string")
    return None if inline is None else list(json.loads(inline)["keys"])


def _with_keys(provider: dict[str, Any], keys: list[Any] | None) -> dict[str, Any]:
    if keys is None or keys == _keys(provider):
        return provider
    return {**provider, "local_jwks": {"inline_string": json.dumps({"keys": keys})}}


def _without_keys(verification: Resource) -> Resource:
    """Return everything of it but the keys that are written into it."""
    config = verification["typed_config"]
    providers = {
        name: provider if _keys(provider) is None else {**provider, "local_jwks": None}
        for name, provider in config["providers"].items()
    }
    return {**verification, "typed_config": {**config, "providers": providers}}


def _nobody() -> dict[str, str]:
    """Return a public key whose private one nobody has: Envoy takes no empty set."""
    numbers = ec.generate_private_key(ec.SECP256R1()).public_key().public_numbers()
    x, y = (_encode(number) for number in (numbers.x, numbers.y))
    return {"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": "nobody", "alg": "ES256", "use": "sig"}


def _encode(number: int) -> str:
    return base64.urlsafe_b64encode(number.to_bytes(32, "big")).rstrip(b"=").decode()
