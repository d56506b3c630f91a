"""Ask for one page over HTTP: an address and a path enter, bytes leave, at a bounded cost and without redirects."""

import http
import http.client
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from garrison.errors import ConfigError, Undecided

MAX_PAGE_BYTES = 32 * 2**20
TIMEOUT_S = 10
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Site:
    """Where pages are: a host with a port, and a path before all others."""

    scheme: str
    host: str
    port: int
    prefix: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.prefix}"


@dataclass(frozen=True)
class Reply:
    """What was answered: an HTTP status and a body."""

    status: int
    body: bytes


def read_site(url: str, option: str) -> Site:
    """Return the site of a URL that somebody wrote behind `option`.

    Raises:
        ConfigError: it is no such URL.
    """
    advice = f"{option}: {url!r} is no address; write http://HOST:PORT"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(advice) from error
    if parts.scheme not in _PORTS or not parts.hostname or parts.query or parts.fragment or not url.isprintable():
        raise ConfigError(advice)
    if parts.username is not None:
        raise ConfigError(f"{option}: a name or password in an address is seen by everyone; write it without")
    return Site(parts.scheme, parts.hostname, port or _PORTS[parts.scheme], parts.path.rstrip("/"))


def ask(site: Site, path: str, query: dict[str, str] | None = None) -> Reply:
    """Ask for a page.

    Raises:
        Undecided: nobody answers there, or with more than `MAX_PAGE_BYTES`.
    """
    target = f"{site.prefix}{path}" + (f"?{urlencode(query)}" if query else "")
    kind = http.client.HTTPSConnection if site.scheme == "https" else http.client.HTTPConnection
    connection = kind(site.host, site.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", target)
        answer = connection.getresponse()
        body = answer.read(MAX_PAGE_BYTES + 1)
    except (OSError, http.client.HTTPException) as error:
        raise Undecided(f"nothing answers at {site}{path} ({_say(error)})") from error
    finally:
        connection.close()
    if len(body) > MAX_PAGE_BYTES:
        raise Undecided(f"{site}{path}: more than {MAX_PAGE_BYTES // 2**20} MiB")
    return Reply(answer.status, body)


def _say(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
