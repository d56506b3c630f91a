"""On the way from one configuration to the next, nothing is allowed that neither of them allows.

Each configuration is drawn by chance, reduced to what decides: who signed, who may use which model, which routes lead
where. A request may meet any mixture of what was in force before a step and what the step brings.
"""

import itertools
import json
from collections.abc import Iterator
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from garrison.gateway.resources import CERTIFICATE, CLUSTERS, ROUTES, Resources
from garrison.gateway.transition import find_rebuilt, order_changes

KEYS, CLIENTS, MODELS = ("k1", "k2", "k3"), ("ada", "bob"), ("digits", "faces", "words")
JWT, LIMIT, WHO = "jwt", "limit", "who"
HTTP = "type.googleapis.com/envoy.extensions.filters.http"
Request = tuple[str, str, str]
REQUESTS: tuple[Request, ...] = tuple(itertools.product(KEYS, CLIENTS, MODELS))


def make(keys: set[str], allowed: set[tuple[str, str]], models: set[str], certificate: str = "c") -> Resources:
    """Render a small configuration: each model is behind a cluster of its own."""
    jwks = {"keys": [{"kid": key} for key in sorted(keys)]}
    providers = {"garrison": {"issuer": "garrison", "local_jwks": {"inline_string": json.dumps(jwks)}}}
    buckets = [{"entries": [{"key": "client", "value": c}]} for c in sorted({client for client, _ in allowed})]
    routes = [{"match": {"path": model}, "route": {"cluster": model}} for model in sorted(models)]
    hosts = [{"name": "garrison", "routes": routes}]
    who: dict[str, Any] = {"allowed": sorted(allowed), "models": sorted(models)}
    return {
        JWT: ({"typed_config": {"@type": f"{HTTP}.jwt_authn.v3.JwtAuthentication", "providers": providers}},),
        WHO: ({"typed_config": {"@type": f"{HTTP}.rbac.v3.RBAC", **who}},),
        LIMIT: ({"typed_config": {"@type": f"{HTTP}.local_ratelimit.v3.LocalRateLimit", "descriptors": buckets}},),
        ROUTES: ({"name": "garrison", "virtual_hosts": hosts},),
        CLUSTERS: tuple({"name": model} for model in sorted(models)),
        CERTIFICATE: ({"name": certificate},),
    }


def is_allowed(resources: Resources, request: Request) -> bool:
    """Decide as the gateway does: a model that is not known is left to the routes, which know it neither."""
    key, client, model = request
    return (
        key in {one["kid"] for one in jwks(resources)}
        and (model not in config(resources, WHO)["models"] or [client, model] in lists(config(resources, WHO)))
        and model in paths(resources)
    )


def jwks(resources: Resources) -> list[dict[str, str]]:
    text = config(resources, JWT)["providers"]["garrison"]["local_jwks"]["inline_string"]
    found: list[dict[str, str]] = json.loads(text)["keys"]
    return found


def config(resources: Resources, name: str) -> dict[str, Any]:
    found: dict[str, Any] = resources[name][0]["typed_config"]
    return found


def lists(who: dict[str, Any]) -> list[list[str]]:
    return [list(pair) for pair in who["allowed"]]


def paths(resources: Resources) -> set[str]:
    return {route["match"]["path"] for host in resources[ROUTES][0]["virtual_hosts"] for route in host["routes"]}


def buckets(resources: Resources) -> set[str]:
    return {bucket["entries"][0]["value"] for bucket in config(resources, LIMIT)["descriptors"]}


def mixtures(old: Resources, steps: list[Resources]) -> Iterator[Resources]:
    """Yield everything that a request may meet: of each step any part, after all of those before."""
    current = dict(old)
    for step in steps:
        for chosen in itertools.product((False, True), repeat=len(step)):
            yield current | {name: step[name] for name, taken in zip(step, chosen, strict=True) if taken}
        current |= step


@st.composite
def configurations(draw: st.DrawFn) -> Resources:
    keys = draw(st.sets(st.sampled_from(KEYS), min_size=1))
    pairs = list(itertools.product(CLIENTS, MODELS))
    return make(keys, draw(st.sets(st.sampled_from(pairs))), draw(st.sets(st.sampled_from(MODELS))))


@settings(max_examples=150, deadline=None)
@given(configurations(), configurations())
def test_nothing_more_is_allowed_than_before_or_after_and_nothing_less(old: Resources, new: Resources) -> None:
    for met in mixtures(old, order_changes(old, new)):
        for request in REQUESTS:
            verdicts = {is_allowed(old, request), is_allowed(new, request)}
            assert len(verdicts) == 2 or {is_allowed(met, request)} == verdicts


@settings(max_examples=40, deadline=None)
@given(configurations(), configurations())
def test_nothing_leads_nowhere_and_nobody_is_without_limits(old: Resources, new: Resources) -> None:
    for met in mixtures(old, order_changes(old, new)):
        for client, model in itertools.product(CLIENTS, MODELS):
            allowed = [request for request in REQUESTS if request[1:] == (client, model) and is_allowed(met, request)]
            if allowed and [client, model] in lists(config(met, WHO)):
                assert model in {cluster["name"] for cluster in met[CLUSTERS]}
                assert client in buckets(met)


@settings(max_examples=40, deadline=None)
@given(configurations(), configurations())
def test_at_the_end_there_is_the_new_one_and_buckets_that_nobody_uses(old: Resources, new: Resources) -> None:
    reached = dict(old)
    for step in order_changes(old, new):
        reached |= step
    assert {name: reached[name] for name in new if name != LIMIT} == {n: new[n] for n in new if n != LIMIT}
    assert buckets(reached) == buckets(old) | buckets(new)
    assert order_changes(reached, new) == []


BOTH = {("ada", "digits")}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (make({"k1"}, set(), {"digits"}), make({"k2"}, {("bob", "digits")}, {"digits"})),
        (make({"k1"}, BOTH, {"digits"}), make({"k1"}, BOTH, {"digits", "faces"})),
        (make({"k1"}, BOTH, {"digits", "faces"}), make({"k1"}, BOTH, {"digits"})),
    ],
    ids=["a stolen key, and a client that it would open", "a model comes", "a model goes"],
)
def test_written_all_at_once_it_would_let_in_more(old: Resources, new: Resources) -> None:
    """The twin of the first test: it can fail."""
    verdicts = [
        is_allowed(met, request) and not is_allowed(old, request) and not is_allowed(new, request)
        for met in mixtures(old, [new])
        for request in REQUESTS
    ]
    assert any(verdicts)


def test_a_client_more_and_one_less_leave_the_other_resources_alone() -> None:
    old, new = make({"k1"}, {("ada", "digits")}, {"digits"}), make({"k1"}, {("bob", "digits")}, {"digits"})
    assert [sorted(step) for step in order_changes(old, new)] == [[LIMIT], [WHO]]
    assert [sorted(step) for step in order_changes(old, make({"k1"}, set(), {"digits"}))] == [[WHO]]


def test_another_key_touches_nothing_but_the_keys() -> None:
    old, new = make({"k1"}, BOTH, {"digits"}), make({"k2"}, BOTH, {"digits"})
    first, second = order_changes(old, new)
    assert [key["kid"] for key in jwks(first)] == ["nobody"]  # Envoy takes no empty set
    assert second == {JWT: new[JWT]}


def test_a_key_that_got_a_note_is_the_same_key() -> None:
    """Rotating writes an end beside the earlier key: its tokens work all the time."""
    old, new = make({"k1"}, BOTH, {"digits"}), make({"k1", "k2"}, BOTH, {"digits"})
    noted = {"keys": [{**key, "exp": 1} if key["kid"] == "k1" else key for key in jwks(new)]}
    config(new, JWT)["providers"]["garrison"]["local_jwks"]["inline_string"] = json.dumps(noted)
    assert order_changes(old, new) == [{JWT: new[JWT]}]


def test_a_key_of_the_same_name_and_another_value_is_another_key() -> None:
    old, new = make({"k1"}, BOTH, {"digits"}), make({"k1"}, BOTH, {"digits"})
    other = {"keys": [{"kid": "k1", "x": "another"}]}
    config(new, JWT)["providers"]["garrison"]["local_jwks"]["inline_string"] = json.dumps(other)
    first, second = order_changes(old, new)
    assert ([key["kid"] for key in jwks(first)], second) == (["nobody"], {JWT: new[JWT]})


def test_a_changed_limit_takes_the_place_of_the_old_one() -> None:
    old = make({"k1"}, BOTH, {"digits"})
    new = make({"k1"}, BOTH, {"digits"})
    config(new, LIMIT)["descriptors"][0]["token_bucket"] = {"max_tokens": 9}
    assert order_changes(old, new) == [{LIMIT: new[LIMIT]}]


def test_what_says_no_stays_until_the_new_routes_are_there() -> None:
    old, new = make({"k1"}, BOTH, {"digits", "words"}), make({"k1"}, BOTH, {"digits", "faces"})
    no = {"match": {"path": "faces"}, "direct_response": {"status": 404}}
    old[ROUTES][0]["virtual_hosts"][0]["routes"].append(no)
    narrow = next(step for step in order_changes(old, new) if ROUTES in step)
    first, second = narrow[ROUTES][0]["virtual_hosts"][0]["routes"]
    assert (first["match"], second) == ({"path": "digits"}, no)


def test_what_the_gateway_itself_tells_about_a_model_is_no_no() -> None:
    old, new = make({"k1"}, set(), {"digits", "words"}), make({"k1"}, BOTH, {"digits"})
    for route in old[ROUTES][0]["virtual_hosts"][0]["routes"]:
        route["direct_response"] = {"status": 200}
    narrow = next(step for step in order_changes(old, new) if {ROUTES, WHO} & step.keys())
    assert WHO not in narrow and paths(narrow) == {"digits"}


def test_another_issuer_or_another_list_of_filters_needs_a_restart() -> None:
    old, new = make({"k1"}, BOTH, {"digits"}), make({"k2"}, BOTH, {"digits"})
    assert find_rebuilt(old, new) == []
    config(new, JWT)["providers"]["garrison"]["issuer"] = "another"
    assert find_rebuilt(old, new) == [JWT]
    assert find_rebuilt(old, {**old, "cors": ()}) == ["cors"]
