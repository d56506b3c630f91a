"""What no image may hold: keys, tokens, credentials, certificates and addresses of the machine that built it.

An image enters, findings leave. Every layer is looked at, also what a later layer removed, and so are the settings and
the history. It looks for known forms: a password that looks like any other word is not found.
"""

import json
import re
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from release.layers import Image, LayerFile

PUBLIC_HOSTS = frozenset(
    {"deb.debian.org", "security.debian.org", "download.pytorch.org", "files.pythonhosted.org", "pypi.org"}
)
GITHUB = ("ghp", "gho", "ghu", "ghs", "ghr")
# A literal that is looked for first, because that is fast, and the form that it has to have.
FORMS: Mapping[str, tuple[bytes, re.Pattern[bytes]]] = {
    "private key": (
        b"PRIVATE KEY-----",
        re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+(?:[A-Za-z-]+: .*\s+)*[A-Za-z0-9+/=\s]{60,}-----END"),
    ),
    **{
        f"GitHub token, {kind}": (f"{kind}_".encode(), re.compile(rb"\bgh[pousr]_[A-Za-z0-9]{36}\b")) for kind in GITHUB
    },
    "GitHub token, fine-grained": (b"github_pat_", re.compile(rb"\bgithub_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}\b")),
    "GitLab token": (b"glpat-", re.compile(rb"\bglpat-[A-Za-z0-9_-]{20,}\b")),
    "AWS key": (b"AKIA", re.compile(rb"\bAKIA(?![A-Z0-9]{9}EXAMPLE)[A-Z0-9]{16}\b")),
    "PyPI token": (b"pypi-AgE", re.compile(rb"\bpypi-AgE[A-Za-z0-9_-]{50,}")),
    "Slack token": (b"xox", re.compile(rb"\bxox[abprs]-[0-9A-Za-z-]{20,}")),
    "JSON Web Token": (b"eyJ", re.compile(rb"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{40,}")),
}
CREDENTIAL_FILES = re.compile(
    r"(^|/)(\.netrc|\.pypirc|\.npmrc|\.git-credentials|\.pgpass|\.docker/config\.json|\.aws/credentials|\.ssh/.*"
    r"|\.git/config|id_(rsa|dsa|ecdsa|ed25519)|pip\.conf|pip\.ini|\.env)$"
)
DESCRIPTION = re.compile(r"\.dist-info/METADATA$")  # a package's public description: examples of tokens and keys
SOURCES = re.compile(r"(^|/)(sources\.list|sources\.list\.d/.*|apt\.conf|apt\.conf\.d/.*|direct_url\.json)$")
URL = re.compile(rb"\b(?:https?|ftp)://[^\s\"'<>\[\])]+")
CREDENTIALS_IN_URL = re.compile(rb"\b[a-z][a-z0-9+.-]*://[^/\s:@\"'{}<>$]+:[^/\s:@\"'{}<>$]+@[a-z0-9]")
CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
SHIPPED_CERTIFICATES = re.compile(r"(^|/)(usr/share/ca-certificates/.*\.crt|site-packages/.*)$")
SECRET_NAMES = re.compile(r"(?i)(password|passwd|secret|token|api_?key|credential|_proxy$|^proxy)")


@dataclass(frozen=True)
class Finding:
    """What was found, and where: a layer and a path, or a setting."""

    where: str
    what: str


def find_secrets(image: Image, foreign: Sequence[str] = ()) -> list[Finding]:
    """Return everything in an image that should not be there.

    `foreign` are words of the machine that builds, such as the host of its package mirror.
    """
    words = [word.encode() for word in foreign if word]
    findings = list(_look_into_settings(image, words))
    shipped: set[bytes] = set()
    others: list[tuple[str, bytes]] = []
    for file in image.files():
        data = file.data.read()
        findings.extend(_look_into_file(file, data, words))
        if b"BEGIN CERTIFICATE" in data:
            certificates = _read_certificates(data)
            if SHIPPED_CERTIFICATES.search(file.path):
                shipped.update(certificates)
            else:
                others.extend((_place(file), one) for one in certificates)
    places = sorted({place for place, certificate in others if certificate not in shipped})
    findings += [Finding(place, "a certificate that no package ships") for place in places]
    return findings


def _look_into_file(file: LayerFile, data: bytes, words: Sequence[bytes]) -> Iterator[Finding]:
    place = _place(file)
    if CREDENTIAL_FILES.search(file.path) and data.strip():
        yield Finding(place, "a file for credentials")
    if not DESCRIPTION.search(file.path):
        yield from (Finding(place, what) for what in _find_forms(data))
    yield from (
        Finding(place, f"a word of the machine that built it: {word.decode()}") for word in words if word in data
    )
    if SOURCES.search(file.path):
        hosts = {urlsplit(url.decode(errors="replace")).hostname or "" for url in URL.findall(data)}
        yield from (Finding(place, f"a source that is not public: {host}") for host in sorted(hosts - PUBLIC_HOSTS))


def _look_into_settings(image: Image, words: Sequence[bytes]) -> Iterator[Finding]:
    settings = image.settings.get("config") or {}
    for variable in settings.get("Env") or []:
        name = variable.partition("=")[0]
        if SECRET_NAMES.search(name):
            yield Finding(f"environment, {name}", "a variable for secrets or proxies")
    text = json.dumps([settings, image.settings.get("history", [])]).encode()
    yield from (Finding("settings and history", what) for what in _find_forms(text))
    if CREDENTIALS_IN_URL.search(text):
        yield Finding("settings and history", "credentials in an address")
    for word in words:
        if word in text:
            yield Finding("settings and history", f"a word of the machine that built it: {word.decode()}")


def _find_forms(data: bytes) -> Iterator[str]:
    return (what for what, (literal, form) in FORMS.items() if literal in data and form.search(data))


def _read_certificates(data: bytes) -> list[bytes]:
    """Return the DER bytes of the certificates in a text; a library's code or test vectors hold none that parse."""
    found = []
    for text in CERTIFICATE.findall(data.decode("latin-1")):
        try:
            found.append(ssl.PEM_cert_to_DER_cert(text))
        except ValueError:
            continue
    return found


def _place(file: LayerFile) -> str:
    return f"layer {file.layer}, {file.path}"
