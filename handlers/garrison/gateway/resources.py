"""Split a complete configuration into what Envoy is started with and the resources that it takes anew while it runs.

`garrison gateway render` writes one static file, which Envoy can check as it stands. What changes more often than a
gateway is restarted leaves it: the HTTP filters that depend on keys, clients and limits (by ECDS), the routes (RDS),
the clusters (CDS), and what TLS is spoken with (SDS); no more than these, because Envoy takes an inotify instance for
each, of which Linux gives a user 128. Each resource is a file of its own in the gateway's run directory. Envoy watches
the directory and takes a file that is renamed into it; nobody else can write there.

No filter has a default: until its file was read there is no listener, and without a filter every request is refused.
"""

import copy
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from garrison.errors import ConfigError
from garrison.gateway.admin import STAT_PREFIX
from garrison.gateway.rendered import LISTENER

ROUTES, CLUSTERS, METRICS = "routes", "clusters", "metrics"
CERTIFICATE, CALLERS = "certificate", "callers"
CHANGING = {
    "envoy.filters.http.jwt_authn",
    "garrison.identity",
    "garrison.requests_of_model",
    "envoy.filters.http.local_ratelimit",
    "garrison.bytes_of_model",
    "garrison.bytes",
}
FIRST_WAIT_S = 15  # for the files at the start, which are there already
_EXTENSION = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"
_ROUTES = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
_CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
_SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105 - a type's name

Resource = dict[str, Any]
Resources = dict[str, tuple[Resource, ...]]


@dataclass(frozen=True)
class Split:
    """What Envoy is started with, and the resources by the names of their files."""

    bootstrap: dict[str, Any]
    resources: Resources


def split(config: dict[str, Any], directory: Path, pems: dict[str, str]) -> Split:
    """Take what can change out of a complete configuration; the same input gives the same parts.

    `directory` is where the resources will lie; `pems` is the text of every file that TLS is spoken with, by its path:
    chain and key change in one rename, so that no connection meets one without the other.

    Raises:
        ConfigError: two filters have the same name, so that one file would stand for both.
    """
    bootstrap = copy.deepcopy(config)
    bootstrap["node"].pop("metadata", None)  # only a note for who runs Envoy
    (listener,) = (one for one in bootstrap["static_resources"]["listeners"] if one["name"] == LISTENER)
    (chain,) = listener["filter_chains"]
    manager = chain["filters"][0]["typed_config"]
    resources = {
        **_split_filters(manager["http_filters"], directory),
        ROUTES: _split_routes(manager, directory, ROUTES),
        **_split_other_routes(bootstrap, directory),
        CLUSTERS: _split_clusters(bootstrap, directory),
        **_split_tls(chain["transport_socket"]["typed_config"]["common_tls_context"], directory, pems),
    }
    return Split(bootstrap, resources)


def write_resource(resource: Iterable[Resource]) -> tuple[str, bytes]:
    """Return a resource's version, which Envoy repeats when it has taken it, and its file."""
    entries = list(resource)
    version = hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()[:16]
    return version, json.dumps({"version_info": version, "resources": entries}).encode() + b"\n"


def name_statistics(name: str) -> str:
    """Return how Envoy's statistics of a resource begin."""
    fixed = {
        ROUTES: f"http.{STAT_PREFIX}.rds.garrison",
        METRICS: f"http.{METRICS}.rds.{METRICS}",
        CLUSTERS: "cluster_manager.cds",
    }
    secrets = {one: f"sds.{one}" for one in (CERTIFICATE, CALLERS)}
    return {**fixed, **secrets}.get(name, f"extension_config_discovery.http_filter.{name}")


def name_file(directory: Path, name: str) -> Path:
    """Return where a resource lies."""
    return directory / f"{name}.json"


def _split_filters(filters: list[dict[str, Any]], directory: Path) -> Resources:
    """Leave a filter's name and place in the list."""
    resources: Resources = {}
    for one in (one for one in filters if one["name"] in CHANGING):
        name, config = one["name"], one.pop("typed_config")
        if name in resources:
            raise ConfigError(f"two HTTP filters are named {name}; give each a name of its own")
        resources[name] = ({"@type": _EXTENSION, "name": name, "typed_config": config},)
        one["config_discovery"] = {"config_source": _source(directory, name), "type_urls": [config["@type"]]}
    return resources


def _split_routes(manager: dict[str, Any], directory: Path, name: str) -> tuple[Resource, ...]:
    routes = manager.pop("route_config")
    manager["rds"] = {"route_config_name": routes["name"], "config_source": _source(directory, name)}
    return ({"@type": _ROUTES, **routes},)


def _split_other_routes(bootstrap: dict[str, Any], directory: Path) -> Resources:
    """Take out the routes of the metrics' listener, if there is one: it has one for each server."""
    resources: Resources = {}
    for listener in bootstrap["static_resources"]["listeners"]:
        if listener["name"] == METRICS:
            manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
            resources[METRICS] = _split_routes(manager, directory, METRICS)
    return resources


def _split_clusters(bootstrap: dict[str, Any], directory: Path) -> tuple[Resource, ...]:
    clusters = bootstrap["static_resources"].pop("clusters")
    bootstrap["dynamic_resources"] = {"cds_config": _source(directory, CLUSTERS)}
    return tuple({"@type": _CLUSTER, **cluster} for cluster in clusters)


def _split_tls(context: dict[str, Any], directory: Path, pems: dict[str, str]) -> Resources:
    (pair,) = context.pop("tls_certificates")
    resources: Resources = {CERTIFICATE: (_secret(CERTIFICATE, "tls_certificate", _inline(pair, pems)),)}
    context["tls_certificate_sds_secret_configs"] = [_secret_source(directory, CERTIFICATE)]
    if "validation_context" in context:
        validation = _inline(context.pop("validation_context"), pems)
        resources[CALLERS] = (_secret(CALLERS, "validation_context", validation),)
        context["validation_context_sds_secret_config"] = _secret_source(directory, CALLERS)
    return resources


def _secret(name: str, kind: str, value: dict[str, Any]) -> Resource:
    return {"@type": _SECRET, "name": name, kind: value}


def _secret_source(directory: Path, name: str) -> dict[str, Any]:
    return {"name": name, "sds_config": _source(directory, name)}


def _source(directory: Path, name: str) -> dict[str, Any]:
    return {
        "path_config_source": {"path": str(name_file(directory, name))},
        "resource_api_version": "V3",
        "initial_fetch_timeout": f"{FIRST_WAIT_S}s",
    }


def _inline(value: dict[str, Any], pems: dict[str, str]) -> dict[str, Any]:
    """Put the text of each file in the place of its path."""
    return {
        key: {"inline_string": pems[entry["filename"]]} if isinstance(entry, dict) and "filename" in entry else entry
        for key, entry in value.items()
    }
