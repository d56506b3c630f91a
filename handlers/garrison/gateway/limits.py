"""How much a client may ask, of one model and of all together, as filters of Envoy's.

    requests per second   local_ratelimit, in front of everything that costs something
    bytes per minute      local_ratelimit, once the body is there; what came over the wire counts, headers included
    queries per day,      ratelimit, which asks the budget service, last of all: what is refused for another reason
    concurrent requests   counts against no budget

A limiter of models stands in front of that of clients: what the model's bucket refuses takes nothing from the client's.
Buckets are enumerated: with wildcard descriptors Envoy keeps 20, and a 21st client would hand an evicted one a full
bucket again. What is rendered here depends on clients' names and limits alone: Envoy fills all buckets of a filter that
changes, and keeps them when only keys or scopes do. All filters are there even where they have nothing to do: a first
limit of a kind then comes into force without a restart.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from garrison.contract import Contract
from garrison.gateway.budget.allowances import ALL_MODELS, Allowance, Allowances
from garrison.gateway.budget.questions import ANY_MODEL, BEGIN, CLIENT, END, MODEL, STEP, STREAM
from garrison.gateway.clients import Client, ClientLimits
from garrison.gateway.settings import TFSERVING_GRPC, TORCHSERVE_GRPC
from garrison.gateway.source import GatewaySource

FILTERS = "type.googleapis.com/envoy.extensions.filters.http"
HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
ALWAYS = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}  # by default a limiter is off
MARKED = "garrison.budgets"  # where identity.lua marks requests
QUERIES, PLACES = "queries", "places"
BUDGET_CLUSTER = "budget"
SERVICE_TIMEOUT = "0.25s"
WIRE_BYTES = "%DOWNSTREAM_WIRE_BYTES_RECEIVED%"  # %BYTES_RECEIVED% is 0 without a body, and 0 is always refused
MOST_TOKENS = 2**32 - 1
MINUTE_S = 60

Bucket = dict[str, Any]


def limit_requests(clients: Sequence[Client]) -> list[dict[str, Any]]:
    """Limit requests per second."""
    of_models, of_clients = _find_buckets(clients, _requests)
    return [
        _limit("garrison.requests_of_model", (CLIENT, MODEL), of_models),
        _limit("envoy.filters.http.local_ratelimit", (CLIENT,), of_clients),
    ]


def limit_bytes(clients: Sequence[Client]) -> list[dict[str, Any]]:
    """Limit bytes per minute. How full the bucket is goes to headers.lua, which says when to come back."""
    weighed = {"enable_x_ratelimit_headers": "DRAFT_VERSION_03"}
    of_models, of_clients = _find_buckets(clients, _bytes)
    return [
        _limit("garrison.bytes_of_model", (CLIENT, MODEL), of_models, WIRE_BYTES, **weighed),
        _limit("garrison.bytes", (CLIENT,), of_clients, WIRE_BYTES, **weighed),
    ]


def count_budgets() -> dict[str, Any]:
    """Ask the budget service about the requests that identity.lua has marked.

    It is asked before the request goes on, and told when the stream is over, however that comes; both name the stream.
    """
    service = {"transport_api_version": "V3", "grpc_service": {"envoy_grpc": {"cluster_name": BUDGET_CLUSTER}}}
    config = {
        "@type": f"{FILTERS}.ratelimit.v3.RateLimit",
        "domain": "garrison",
        "timeout": SERVICE_TIMEOUT,
        "failure_mode_deny": True,
        "status_on_error": {"code": "ServiceUnavailable"},
        "disable_x_envoy_ratelimited_header": True,
        "rate_limit_service": service,
        "rate_limits": [
            {"actions": _question(BEGIN)},
            {"actions": _question(END), "apply_on_stream_done": True},
        ],
    }
    return {"name": "envoy.filters.http.ratelimit", "typed_config": config}


def mark_budgets(clients: Sequence[Client]) -> dict[str, str]:
    """Return the clients that the budget service knows: whether it counts their requests in progress, too."""
    allowed = {client.name: [allowance for _, allowance in _allow(client)] for client in clients}
    return {
        name: PLACES if any(allowance.concurrent is not None for allowance in allowances) else QUERIES
        for name, allowances in allowed.items()
        if allowances
    }


def render_budget_cluster(socket: Path) -> dict[str, Any]:
    """Render where the budget service is: HTTP/2 over a unix socket, without tries at another time."""
    http = {
        "@type": f"type.googleapis.com/{HTTP_OPTIONS}",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    endpoint = {"endpoint": {"address": {"pipe": {"path": str(socket)}}}}
    return {
        "name": BUDGET_CLUSTER,
        "type": "STATIC",
        "connect_timeout": SERVICE_TIMEOUT,
        "load_assignment": {"cluster_name": BUDGET_CLUSTER, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "typed_extension_protocol_options": {HTTP_OPTIONS: http},
    }


def find_allowances(clients: Sequence[Client], contracts: Sequence[Contract]) -> Allowances:
    """Return what the budget service counts; empty if no client has a budget or a limit of concurrent requests."""
    found = {client.name: dict(_allow(client)) for client in clients}
    longest_s = max((contract.workers.timeout_s for contract in contracts), default=1)
    return Allowances({name: own for name, own in found.items() if own}, longest_s)


def check_limits(source: GatewaySource) -> list[str]:
    """Return what is wrong with the limits as a whole, which no single entry shows."""
    headers = source.settings.limits.max_request_headers_bytes
    largest = {contract.model: contract.max_body_bytes + headers for contract in source.contracts}
    nameless = [name for name in (TFSERVING_GRPC, TORCHSERVE_GRPC) if name in source.protocols]
    return [problem for client in source.clients for problem in _check_client(client, largest, nameless)]


def _check_client(client: Client, largest: Mapping[str, int], nameless: Sequence[str]) -> Iterator[str]:
    """Check that each model's largest request fits into a minute, and that a model's own limits can be held."""
    for model in client.models:
        own, needed = f"models.{model.name}", largest.get(model.name, 0)
        for where, limits in (("", client.limits), (f"{own}.", model.limits)):
            most = limits.bytes_per_minute
            if most is not None and most < needed:
                advice = f"less than one request for {model.name} may have with its headers ({needed} bytes)"
                yield f"clients.{client.name}.{where}bytes_per_minute: {most} is {advice}; write more"
        if nameless and model.limits != ClientLimits():
            advice = f"the gateway cannot know which model {nameless[0]} asks for; limit the client as a whole"
            yield f"clients.{client.name}.{own}: {advice}, or take {nameless[0]} out of the protocols"


def _limit(
    name: str, keys: Sequence[str], buckets: Sequence[Bucket], weight: str = "", **options: Any
) -> dict[str, Any]:
    """Render one limiter; who has no bucket in it passes."""
    rate = {"actions": [_IDENTITY[key] for key in keys]}
    config: dict[str, Any] = {
        "@type": f"{FILTERS}.local_ratelimit.v3.LocalRateLimit",
        "stat_prefix": f"garrison.{name.rpartition('.')[2]}",
        "filter_enabled": ALWAYS,
        "filter_enforced": ALWAYS,
        "rate_limits": [{**rate, "hits_addend": {"format": weight}} if weight else rate],
        "descriptors": list(buckets),
        **options,
    }
    return {"name": name, "typed_config": config}


def _find_buckets(
    clients: Sequence[Client], make: Callable[[ClientLimits], Bucket | None]
) -> tuple[list[Bucket], list[Bucket]]:
    """Return the buckets of clients' single models, and those of clients."""
    of_models = [
        {"entries": _entries(client=client.name, model=model.name), "token_bucket": bucket}
        for client in clients
        for model in client.models
        if (bucket := make(model.limits))
    ]
    of_clients = [
        {"entries": _entries(client=client.name), "token_bucket": bucket}
        for client in clients
        if (bucket := make(client.limits))
    ]
    return of_models, of_clients


def _requests(limits: ClientLimits) -> Bucket | None:
    if limits.requests_per_second is None:
        return None
    return {"max_tokens": limits.burst, "tokens_per_fill": limits.requests_per_second, "fill_interval": "1s"}


def _bytes(limits: ClientLimits) -> Bucket | None:
    """Return a bucket that holds a minute's bytes and is filled all the time; Envoy counts up to 4 GiB in one."""
    most = limits.bytes_per_minute
    if most is None:
        return None
    if most <= MOST_TOKENS:
        return {"max_tokens": most, "tokens_per_fill": most, "fill_interval": f"{MINUTE_S}s"}
    return {"max_tokens": MOST_TOKENS, "tokens_per_fill": min(most // MINUTE_S, MOST_TOKENS), "fill_interval": "1s"}


def _allow(client: Client) -> Iterator[tuple[str, Allowance]]:
    limits = [(ALL_MODELS, client.limits), *((model.name, model.limits) for model in client.models)]
    for name, limit in limits:
        allowance = Allowance(limit.queries_per_day, limit.concurrent)
        if allowance:
            yield name, allowance


def _question(step: str) -> list[dict[str, Any]]:
    """Return what becomes a question: whose, for what, which stream; none for who was not marked."""
    return [
        {"generic_key": {"descriptor_key": STEP, "descriptor_value": step}},
        _metadata("marked", "DYNAMIC", MARKED, step),
        _IDENTITY[CLIENT],
        {"metadata": {**_IDENTITY[MODEL]["metadata"], "default_value": ANY_MODEL}},
        {"request_headers": {"header_name": "x-request-id", "descriptor_key": STREAM}},
    ]


def _entries(**values: str) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in values.items()]


def _metadata(descriptor_key: str, source: str, namespace: str, *path: str) -> dict[str, Any]:
    key = {"key": namespace, "path": [{"key": name} for name in path]}
    return {"metadata": {"descriptor_key": descriptor_key, "metadata_key": key, "source": source}}


_IDENTITY = {
    CLIENT: _metadata(CLIENT, "DYNAMIC", "garrison", "client"),
    MODEL: _metadata(MODEL, "ROUTE_ENTRY", "garrison", "model"),
}
