"""How callers may say who they are: the section `authentication` of gateway.yaml in, frozen dataclasses out.

It does not read the files that the section names: what callers are verified with is `gateway/verification.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from garrison.contract import MODEL_NAME
from garrison.settings import Settings

KINDS = ("key", "oidc", "mtls")
WAY = r"(key|oidc|mtls)(\+(key|oidc|mtls)){0,2}"
WAY_MEANING = "a way such as key, oidc, mtls, or several that are all needed, such as mtls+key"
MODEL_MEANING = "a model's name of letters, digits, - and _, at most 64 long"
ALGORITHMS = ("ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "EdDSA")
PATH = r"[^\x00-\x1f]{1,4096}"
URL = r"https://[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?(/[!-~]{0,1000})?"
_NONE = "-"  # stands for a value that is not given


@dataclass(frozen=True)
class Oidc:
    """Tokens of an OIDC issuer, sent as `Authorization: Bearer`: whose, for whom, and where its public keys are."""

    issuer: str
    audience: str
    jwks_file: Path | None
    jwks_url: str | None
    authority: Path | None  # in PEM: who may certify the server behind `jwks_url`
    algorithms: tuple[str, ...]
    clock_skew_s: int
    scope_claim: str
    scope_prefix: str


@dataclass(frozen=True)
class Mtls:
    """Client certificates: who issues them, and in `revoked` its list (CRL) of those that count no more."""

    authority: Path
    revoked: Path | None


@dataclass(frozen=True)
class Authentication:
    """The accepted ways, each a tuple of kinds that are all needed; a caller needs one way."""

    accept: tuple[tuple[str, ...], ...]
    models: dict[str, tuple[tuple[str, ...], ...]]
    oidc: Oidc | None = None
    mtls: Mtls | None = None

    def ways(self, model: str) -> tuple[tuple[str, ...], ...]:
        """Return the ways that are accepted for a model."""
        return self.models.get(model, self.accept)

    def uses(self, kind: str) -> bool:
        """Say whether any accepted way has this kind in it."""
        return any(kind in way for ways in (self.accept, *self.models.values()) for way in ways)

    def always_uses(self, kind: str) -> bool:
        """Say whether every accepted way has this kind in it."""
        return all(kind in way for ways in (self.accept, *self.models.values()) for way in ways)


def read_authentication(settings: Settings, directory: Path) -> Authentication:
    """Read the section; a path in it may be relative to `directory`. Without the section, keys are accepted."""
    accept = _read_ways(settings, "accept", settings.texts("accept", WAY, WAY_MEANING, default=("key",)))
    by_model = settings.section("models", "a mapping of model names to lists of ways", required=False)
    models = {
        name: _read_ways(by_model, name, by_model.texts(name, WAY, WAY_MEANING))
        for name in by_model.names(MODEL_NAME, MODEL_MEANING)
    }
    found = Authentication(
        accept=accept,
        models=models,
        oidc=_read_oidc(settings.section("oidc"), directory) if "oidc" in settings else None,
        mtls=_read_mtls(settings.section("mtls"), directory) if "mtls" in settings else None,
    )
    for kind, section in (("oidc", found.oidc), ("mtls", found.mtls)):
        if found.uses(kind) and section is None:
            settings.problem(kind, f"missing, but a way asks for {kind}; describe it here")
        if section is not None and not found.uses(kind):
            settings.problem(kind, f"no way asks for it; add {kind} to accept, or take the section out")
    return found


def _read_ways(settings: Settings, key: str, texts: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    ways = [tuple(kind for kind in KINDS if kind in text.split("+")) for text in texts]
    for text, way in zip(texts, ways, strict=True):
        if len(way) != len(text.split("+")):
            settings.problem(key, f"{text!r} names one kind twice; write it once")
    if len(set(ways)) != len(ways):
        settings.problem(key, "names the same way twice; take one out")
    return tuple(ways)


def _read_oidc(settings: Settings, directory: Path) -> Oidc:
    file = settings.text("jwks_file", PATH, "the path of a JSON Web Key Set", default=_NONE)
    url = settings.text("jwks_url", URL, "an address such as https://login.example/keys", default=f"https://{_NONE}")
    authority = settings.text("authority", PATH, "the path of a PEM file", default=_NONE)
    if ("jwks_file" in settings) == ("jwks_url" in settings):
        settings.problem("jwks_file", "write either this or jwks_url: where the issuer's public keys are")
    if "authority" in settings and "jwks_url" not in settings:
        settings.problem("authority", "is of no use without jwks_url; take it out")
    return Oidc(
        issuer=settings.text("issuer", r"[!-~]{1,1000}", "the issuer as its tokens name it (iss)"),
        audience=settings.text("audience", r"[!-~]{1,1000}", "the audience that tokens for this gateway name (aud)"),
        jwks_file=directory.absolute() / file if "jwks_file" in settings else None,
        jwks_url=url if "jwks_url" in settings else None,
        authority=directory.absolute() / authority if "authority" in settings else None,
        algorithms=settings.choices("algorithms", ALGORITHMS, default=("ES256", "RS256")),
        clock_skew_s=settings.integer("clock_skew_s", 1, 300, default=5),
        scope_claim=settings.text("scope_claim", r"[A-Za-z0-9_-]{1,64}", "a claim's name", default="scope"),
        scope_prefix=settings.text("scope_prefix", r"[!-~]{1,100}", "how our scopes begin", default="garrison/"),
    )


def _read_mtls(settings: Settings, directory: Path) -> Mtls:
    authority = settings.text("authority", PATH, "the path of a PEM file")
    revoked = settings.text("revoked", PATH, "the path of a PEM file", default=_NONE)
    return Mtls(
        authority=directory.absolute() / authority,
        revoked=directory.absolute() / revoked if "revoked" in settings else None,
    )
