"""What an operator may change about the gateway: two YAML files in, frozen dataclasses out.

It does not check that a client's models are admitted: a client may be listed before its model arrives.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from garrison.contract import MODEL_NAME
from garrison.errors import ConfigError
from garrison.settings import Settings, load_settings

CLIENT_NAME = r"[a-z][a-z0-9_-]{0,63}"
CLIENT_MEANING = "a client's name of small letters, digits, - and _, starting with a letter, at most 64 long"
MODEL_MEANING = "a model's name of letters, digits, - and _, at most 64 long"
TLS_VERSIONS = ("1.2", "1.3")
PATH = r"[^\x00-\x1f]{1,4096}"
_NONE = "-"  # stands for a path that is not given


@dataclass(frozen=True)
class Limits:
    """How much the gateway holds at once, for all clients together."""

    max_connections: int
    max_heap_bytes: int
    max_request_headers_bytes: int
    max_header_count: int


@dataclass(frozen=True)
class Timeouts:
    """How long a client may take for each step of a request, in seconds."""

    handshake_s: int
    headers_s: int
    request_s: int
    idle_s: int


@dataclass(frozen=True)
class GatewaySettings:
    """Where the gateway listens, and its bounds."""

    address: str
    tls_minimum: str
    tls_certificate: Path | None
    tls_key: Path | None
    limits: Limits
    timeouts: Timeouts


@dataclass(frozen=True)
class Client:
    """One caller: which models it may use, and how often."""

    name: str
    models: tuple[str, ...]
    requests_per_second: int
    burst: int


def load_gateway(path: Path) -> GatewaySettings:
    """Read config/gateway.yaml.

    Raises:
        ConfigError: with every problem of the file, each naming the key and what to write instead.
    """
    settings = load_settings(path)
    tls = settings.section("tls", required=False)
    certificate, key = _read_certificate(tls, path.parent)
    gateway = GatewaySettings(
        address=_read_address(settings),
        tls_minimum=tls.choice("minimum", TLS_VERSIONS, default="1.2"),
        tls_certificate=certificate,
        tls_key=key,
        limits=_read_limits(settings.section("limits", required=False)),
        timeouts=_read_timeouts(settings.section("timeouts", required=False)),
    )
    settings.finish()
    return gateway


def load_clients(path: Path) -> tuple[Client, ...]:
    """Read config/clients.yaml; an empty list of clients is allowed and refuses everyone.

    Raises:
        ConfigError: with every problem of the file, each naming the key and what to write instead.
    """
    settings = load_settings(path)
    listed = settings.section("clients", "a mapping of client names; {} for none")
    clients = tuple(_read_client(name, entry) for name, entry in listed.sections(CLIENT_NAME, CLIENT_MEANING))
    settings.finish()
    return clients


def check_issue(path: Path, client: str, models: Sequence[str]) -> None:
    """Check that a key would open something: the file lists the client, and each of the models for it.

    Raises:
        ConfigError: with what to add to the file.
    """
    listed = {entry.name: entry.models for entry in load_clients(path)}
    if client not in listed:
        raise ConfigError(f"{path}: lists no client '{client[:80]}'; add it there first")
    missing = [model for model in models if model not in listed[client]]
    if missing:
        raise ConfigError(f"{path}: clients.{client}.models: does not list {', '.join(missing)}; add it there first")


def _read_address(settings: Settings) -> str:
    meaning = "an IP address to listen on, such as 127.0.0.1"
    address = settings.text("address", r"[0-9a-fA-F.:]{2,45}", meaning, default="127.0.0.1")
    if address:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            settings.problem("address", f"'{address}' is not {meaning}")
    return address


def _read_certificate(tls: Settings, directory: Path) -> tuple[Path | None, Path | None]:
    """Read where the operator's certificate and its key are; a path may be relative to the file's directory."""
    meaning = "the path of a PEM file"
    certificate = tls.text("certificate", PATH, meaning, default=_NONE)
    key = tls.text("key", PATH, meaning, default=_NONE)
    for name, other in (("certificate", "key"), ("key", "certificate")):
        if name in tls and other not in tls:
            tls.problem(name, f"is of no use without {other}; write both, or neither for a development certificate")
    if "certificate" not in tls or "key" not in tls:
        return None, None
    return directory.absolute() / certificate, directory.absolute() / key


def _read_limits(settings: Settings) -> Limits:
    headers = settings.size("max_request_headers", 96 * 1024, default=16 * 1024)
    if headers < 1024 and "max_request_headers" in settings:
        settings.problem("max_request_headers", f"{headers} bytes do not hold a key; write at least 1KiB")
    heap = settings.size("max_heap", 64 * 2**30, default=512 * 2**20)
    if heap < 64 * 2**20 and "max_heap" in settings:
        settings.problem("max_heap", f"{heap} bytes are not enough for Envoy itself; write at least 64MiB")
    return Limits(
        max_connections=settings.integer("max_connections", 1, 1_000_000, default=1000),
        max_heap_bytes=heap,
        max_request_headers_bytes=headers,
        max_header_count=settings.integer("max_header_count", 10, 1000, default=50),
    )


def _read_timeouts(settings: Settings) -> Timeouts:
    return Timeouts(
        handshake_s=settings.integer("handshake_s", 1, 60, default=10),
        headers_s=settings.integer("headers_s", 1, 60, default=10),
        request_s=settings.integer("request_s", 1, 600, default=30),
        idle_s=settings.integer("idle_s", 1, 3600, default=60),
    )


def _read_client(name: str, settings: Settings) -> Client:
    client = Client(
        name=name,
        models=settings.texts("models", MODEL_NAME, MODEL_MEANING),
        requests_per_second=settings.integer("requests_per_second", 1, 100_000),
        burst=settings.integer("burst", 1, 1_000_000),
    )
    if "burst" in settings and client.burst < client.requests_per_second:
        settings.problem("burst", f"{client.burst} is less than requests_per_second {client.requests_per_second}")
    return client
