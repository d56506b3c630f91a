"""What an operator may change about the gateway: gateway.yaml in, frozen dataclasses out."""

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from garrison.gateway.authentication import PATH, Authentication, read_authentication
from garrison.gateway.budget.place import Place
from garrison.gateway.budget.settings import read_budgets
from garrison.settings import Settings, load_settings

TLS_PROFILES = ("intermediate", "modern")  # Mozilla's names: TLS 1.2 and 1.3, or 1.3 alone
TORCHSERVE, KSERVE_V1, KSERVE_V2 = "torchserve", "kserve-v1", "kserve-v2"
TFSERVING_REST, TFSERVING_GRPC, TORCHSERVE_GRPC = "tfserving-rest", "tfserving-grpc", "torchserve-grpc"
GUARD_PROTOCOLS = (TFSERVING_REST, TFSERVING_GRPC, TORCHSERVE_GRPC)  # those that the guard speaks
PROTOCOLS = (TORCHSERVE, KSERVE_V1, KSERVE_V2, *GUARD_PROTOCOLS)
ORIGIN = r"https://[a-z0-9.-]{1,253}(:[0-9]{1,5})?|http://localhost(:[0-9]{1,5})?"
METRICS_ADDRESS, METRICS_PORT = "127.0.0.1", 9464
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
class MetricsListener:
    """Where metrics can be read, apart from the clients' listener."""

    address: str
    port: int


@dataclass(frozen=True)
class GatewaySettings:
    """Where the gateway listens, what it speaks, whom it lets in, and its bounds.

    `protocols` are those that are listed; empty, where none are: then the models decide, see `choose_protocols`.
    """

    address: str
    tls_profile: str
    tls_certificate: Path | None
    tls_key: Path | None
    protocols: tuple[str, ...]
    cors_origins: tuple[str, ...]
    authentication: Authentication
    metrics: MetricsListener | None
    limits: Limits
    timeouts: Timeouts
    budgets: Place = field(default_factory=Place)


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
        tls_profile=tls.choice("profile", TLS_PROFILES, default="intermediate"),
        tls_certificate=certificate,
        tls_key=key,
        protocols=_read_protocols(settings),
        cors_origins=_read_origins(settings),
        authentication=read_authentication(settings.section("authentication", required=False), path.parent),
        metrics=_read_metrics(settings),
        limits=_read_limits(settings.section("limits", required=False)),
        timeouts=_read_timeouts(settings.section("timeouts", required=False)),
        budgets=read_budgets(settings.section("budgets", required=False), path.parent),
    )
    settings.finish()
    return gateway


def _read_protocols(settings: Settings) -> tuple[str, ...]:
    protocols = settings.choices("protocols", PROTOCOLS) if "protocols" in settings else ()
    if KSERVE_V1 in protocols and TFSERVING_REST in protocols:
        same = "both are POST /v1/models/NAME:predict, to different servers"
        settings.problem("protocols", f"{KSERVE_V1} and {TFSERVING_REST}: {same}; take one out, or use {KSERVE_V2}")
    return protocols


def _read_origins(settings: Settings) -> tuple[str, ...]:
    cors = settings.section("cors", required=False)
    meaning = "an origin such as https://app.example, without a path"
    return cors.texts("origins", ORIGIN, meaning) if "cors" in settings else ()


def _read_metrics(settings: Settings) -> MetricsListener | None:
    metrics = settings.section("metrics", required=False)
    if "metrics" not in settings:
        return None
    return MetricsListener(_read_address(metrics), metrics.integer("port", 1, 65_535, default=METRICS_PORT))


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
    if headers < 1024 and settings.sound("max_request_headers"):
        settings.problem("max_request_headers", f"{headers} bytes do not hold a key; write at least 1KiB")
    heap = settings.size("max_heap", 64 * 2**30, default=512 * 2**20)
    if heap < 64 * 2**20 and settings.sound("max_heap"):
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
