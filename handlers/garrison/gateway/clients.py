"""Who may ask for what, how often: clients.yaml in, frozen dataclasses out.

It does not check that a client's models are admitted: a client may be listed before its model arrives.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from garrison.contract import MODEL_NAME
from garrison.errors import ConfigError
from garrison.gateway.authentication import MODEL_MEANING
from garrison.settings import Settings, load_settings

VERBS = ("predict", "explain", "describe")
CLIENT_NAME = r"[a-z][a-z0-9_-]{0,63}"
CLIENT_MEANING = "a client's name of small letters, digits, - and _, starting with a letter, at most 64 long"
SUBJECT = r"[!-~]{1,255}"
CERTIFICATE_NAME = r"[a-z][a-z0-9+.-]{0,31}://[!-~]{1,500}|[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63}){0,10}"
MOST_RATE, MOST_BURST = 100_000, 1_000_000
MOST_CONCURRENT, MOST_QUERIES = 100_000, 1_000_000_000
MOST_BYTES = 2**40
MOST_FILE_BYTES = 16 * 2**20  # some 100,000 clients


@dataclass(frozen=True)
class ClientLimits:
    """How much a client may ask, of all its models together or of one; None where only other limits hold."""

    requests_per_second: int | None = None
    burst: int | None = None
    concurrent: int | None = None
    bytes_per_minute: int | None = None
    queries_per_day: int | None = None


@dataclass(frozen=True)
class AllowedModel:
    """A model that a client may use, what for, and how much."""

    name: str
    verbs: tuple[str, ...] = VERBS
    limits: ClientLimits = ClientLimits()


@dataclass(frozen=True)
class Client:
    """One caller: what it may use, how much, and what else than keys it is known by."""

    name: str
    models: tuple[AllowedModel, ...]
    limits: ClientLimits
    subjects: tuple[str, ...] = ()
    certificates: tuple[str, ...] = ()

    def scopes(self) -> tuple[str, ...]:
        """Return what it may do, as `MODEL:VERB`."""
        return tuple(scope for model in self.models for scope in make_scopes([model.name], model.verbs))


def load_clients(path: Path) -> tuple[Client, ...]:
    """Read config/clients.yaml; an empty list of clients is allowed and refuses everyone.

    Raises:
        ConfigError: with every problem of the file, each naming the key and what to write instead.
    """
    settings = load_settings(path, MOST_FILE_BYTES)
    listed = settings.section("clients", "a mapping of client names; {} for none")
    clients = tuple(_read_client(name, entry) for name, entry in listed.sections(CLIENT_NAME, CLIENT_MEANING))
    _check_different(listed, clients)
    settings.finish()
    return clients


def make_scopes(models: Sequence[str], verbs: Sequence[str] = VERBS) -> tuple[str, ...]:
    """Return every verb of every model, as `MODEL:VERB`."""
    return tuple(f"{model}:{verb}" for model in models for verb in verbs)


def choose_scopes(path: Path, client: str, models: Sequence[str], verbs: Sequence[str]) -> tuple[str, ...]:
    """Return the scopes of a key for some models and verbs, or all verbs that the file allows the client with each.

    Raises:
        ConfigError: the key would open nothing, or less than it says; with what to add to the file.
    """
    listed = {entry.name: entry.scopes() for entry in load_clients(path)}
    if client not in listed:
        raise ConfigError(f"{path}: lists no client '{client[:80]}'; add it there first")
    wrong = [verb for verb in verbs if verb not in VERBS]
    if wrong:
        raise ConfigError(f"--verbs: {', '.join(wrong)[:80]!r} is not out of {', '.join(VERBS)}")
    allowed = set(listed[client])
    missing = [model for model in models if not allowed.intersection(make_scopes([model]))]
    if missing:
        names = ", ".join(missing)[:200]
        raise ConfigError(f"{path}: clients.{client}.models: does not list {names}; add it there first")
    if not verbs:
        return tuple(scope for scope in make_scopes(models) if scope in allowed)
    refused = [scope for scope in make_scopes(models, verbs) if scope not in allowed]
    if refused:
        names = ", ".join(refused)[:200]
        raise ConfigError(f"{path}: clients.{client}.models: does not allow {names}; add it to the verbs there first")
    return make_scopes(models, verbs)


def _read_client(name: str, settings: Settings) -> Client:
    return Client(
        name=name,
        models=_read_models(settings),
        limits=_read_limits(settings, required=True),
        subjects=settings.texts("subjects", SUBJECT, "a subject (sub) as the OIDC issuer writes it", default=()),
        certificates=settings.texts(
            "certificates",
            CERTIFICATE_NAME,
            "a URI or DNS name as it stands in a client certificate (subject alternative name)",
            default=(),
        ),
    )


def _read_models(settings: Settings) -> tuple[AllowedModel, ...]:
    """Read a list of models, or a mapping of them to what may be done with each."""
    if not settings.is_mapping("models"):
        return tuple(AllowedModel(name) for name in settings.texts("models", MODEL_NAME, MODEL_MEANING))
    listed = settings.section("models")
    models = tuple(
        AllowedModel(name, entry.choices("verbs", VERBS, default=VERBS), _read_limits(entry, required=False))
        for name, entry in listed.sections(MODEL_NAME, MODEL_MEANING)
    )
    if not listed:
        settings.problem("models", "is empty; name at least one model")
    return models


def _read_limits(settings: Settings, *, required: bool) -> ClientLimits:
    rate = "requests_per_second" in settings or "burst" in settings or required
    limits = ClientLimits(
        requests_per_second=settings.integer("requests_per_second", 1, MOST_RATE) if rate else None,
        burst=settings.integer("burst", 1, MOST_BURST) if rate else None,
        concurrent=settings.integer("concurrent", 1, MOST_CONCURRENT) if "concurrent" in settings else None,
        bytes_per_minute=settings.size("bytes_per_minute", MOST_BYTES) if "bytes_per_minute" in settings else None,
        queries_per_day=settings.integer("queries_per_day", 1, MOST_QUERIES) if "queries_per_day" in settings else None,
    )
    settings.know("requests_per_second", "burst", "concurrent", "bytes_per_minute", "queries_per_day")
    per_second, burst = limits.requests_per_second, limits.burst
    if settings.sound("requests_per_second", "burst") and per_second and burst and burst < per_second:
        settings.problem("burst", f"{burst} is less than requests_per_second {per_second}")
    return limits


def _check_different(settings: Settings, clients: Sequence[Client]) -> None:
    """Check that nobody is two clients."""
    for kind in ("subjects", "certificates"):
        owners: dict[str, str] = {}
        for client in clients:
            for name in getattr(client, kind):
                owner = owners.setdefault(name.lower() if kind == "certificates" else name, client.name)
                if owner != client.name:
                    found = f"{name!r} is in {owner}.{kind} already"
                    settings.problem(f"{client.name}.{kind}", f"{found}; one name, one client")
