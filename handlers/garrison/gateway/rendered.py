"""Read back what a rendered configuration says, for who runs Envoy with it: a file enters, the facts about it leave.

The file comes from `garrison gateway render`, perhaps in another container and as another user. Envoy trusts it, and so
does this: what is checked is that nobody but its owner can write it, and that it is such a file.
"""

import hashlib
import ipaddress
import json
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from garrison.errors import ConfigError
from garrison.files import read_file
from garrison.gateway.budget.plan import Plan, read_plan
from garrison.gateway.certificates import Certificate

DEVELOPMENT, OPERATOR = "development", "operator"
LISTENER = "gateway"
_SERVERS = {"inference": "torchserve", "guard-rest": "guard", "guard-grpc": "guard"}
_MOST_BYTES = 64 * 2**20
_DIGEST_SHOWN = 12  # hexadecimal digits
_HIGHEST_PORT = 65_535


@dataclass(frozen=True)
class Rendered:
    """Where the gateway listens, its admin socket, its certificate, and how long its longest request may take."""

    address: str
    port: int
    admin: Path
    certificate: Certificate
    longest_s: int
    budgets: Plan | None = None  # where there is anything to count
    models: tuple[str, ...] = ()
    clients: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)  # the whole of it
    digest: str = field(default="", compare=False)


def describe_certificate(certificate: Certificate) -> dict[str, Any]:
    """Return what a configuration notes about its certificate; Envoy ignores it."""
    return {"certificate": OPERATOR if certificate.ca_path is None else DEVELOPMENT}


def read_rendered(path: Path) -> Rendered:
    """Read a rendered configuration.

    Raises:
        ConfigError: it cannot be read, others can write it, or it is something else.
    """
    try:
        if path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ConfigError(f"{path}: other users can write to it; run `chmod go-w {path}`")
        data = read_file(path, _MOST_BYTES)
        config = json.loads(data)
    except OSError as error:
        advice = "write it with `garrison gateway render --output`"
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); {advice}") from error
    except (ValueError, RecursionError) as error:
        raise _refuse(path) from error
    try:
        return _read(config, hashlib.sha256(data).hexdigest()[:_DIGEST_SHOWN])
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _refuse(path) from error


def _read(config: dict[str, Any], digest: str) -> Rendered:
    listener = _find_listener(config)
    (chain,) = listener["filter_chains"]
    socket = listener["address"]["socket_address"]
    (host,) = chain["filters"][0]["typed_config"]["route_config"]["virtual_hosts"]
    proxied = [route["route"] for route in host["routes"] if "route" in route]  # the others the gateway answers itself
    timeouts = [int(action["timeout"].removesuffix("s")) for action in proxied]
    noted = config["node"]["metadata"]["garrison"]
    return Rendered(
        str(ipaddress.ip_address(str(socket["address"]))),
        _read_port(socket["port_value"]),
        Path(config["admin"]["address"]["pipe"]["path"]),
        _read_certificate(noted["certificate"], chain),
        max(timeouts),
        read_plan(noted["budgets"]) if "budgets" in noted else None,
        tuple(map(str, noted["models"])),
        tuple(map(str, noted["clients"])),
        config,
        digest,
    )


def list_places(config: dict[str, Any]) -> tuple[tuple[str, int], ...]:
    """Return every address and port that a configuration listens on."""
    sockets = [listener["address"]["socket_address"] for listener in config["static_resources"]["listeners"]]
    return tuple((str(socket["address"]), int(socket["port_value"])) for socket in sockets)


def list_tls_files(config: dict[str, Any]) -> tuple[Path, ...]:
    """Return the files that the clients' listener speaks TLS with, as a configuration names them."""
    context = find_tls(config)
    values = [*context["tls_certificates"], context.get("validation_context", {})]
    entries = [entry for value in values for entry in value.values() if isinstance(entry, dict)]
    return tuple(Path(entry["filename"]) for entry in entries if "filename" in entry)


def find_tls(config: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a configuration about what TLS is spoken with."""
    (chain,) = _find_listener(config)["filter_chains"]
    context: dict[str, Any] = chain["transport_socket"]["typed_config"]["common_tls_context"]
    return context


def name_servers(config: dict[str, Any]) -> dict[tuple[str, str], str]:
    """Return what each server and guard is called where they are counted, by cluster and socket."""
    clusters = {one["name"]: one for one in config["static_resources"]["clusters"]}
    return {
        (cluster, endpoint["endpoint"]["address"]["pipe"]["path"]): f"{kind}-{number}"
        for cluster, kind in _SERVERS.items()
        if cluster in clusters
        for number, endpoint in enumerate(clusters[cluster]["load_assignment"]["endpoints"][0]["lb_endpoints"])
    }


def _find_listener(config: dict[str, Any]) -> dict[str, Any]:
    (listener,) = (one for one in config["static_resources"]["listeners"] if one["name"] == LISTENER)
    return dict(listener)


def _read_port(value: Any) -> int:
    port = int(value)
    if port != value or not 1 <= port <= _HIGHEST_PORT:
        raise ValueError(f"{value} is no port")
    return port


def _read_certificate(kind: str, chain: dict[str, Any]) -> Certificate:
    (pair,) = chain["transport_socket"]["typed_config"]["common_tls_context"]["tls_certificates"]
    paths = Path(pair["certificate_chain"]["filename"]), Path(pair["private_key"]["filename"])
    return Certificate(None if kind == OPERATOR else paths[0].parent / "ca.pem", *paths)


def _refuse(path: Path) -> ConfigError:
    return ConfigError(f"{path}: is not what `garrison gateway render` writes; write it anew")
