"""Where a model is: a text that a person typed, or that a server redirects to, enters; a checked `Address` leaves.

Only what the operator listed is allowed, only over TLS, and nothing that two programs could read in different ways.
Whether a listed host or bucket can be trusted is the operator's decision; what comes from there is admitted or not.
"""

import re
import unicodedata
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from garrison.admission.settings import BUCKET, HOST_NAME, FetchSettings
from garrison.errors import ArtifactRefused

MAX_CHARACTERS = 2048
MAX_NAME_BYTES = 200  # 255 is what file systems take; the draft's name is a little longer
ARCHIVE_SUFFIX = ".mar"
VERSION = r"[A-Za-z0-9._-]{1,1024}"
GENERATION = r"[0-9]{1,19}"
_DEFAULT_PORT = ":443"
_PATH_CHARACTERS = "/%:@!$&'()*+,;=~"


@dataclass(frozen=True)
class Address:
    """One object, or with a `key` that ends with a slash all objects below it.

    `place` is the bucket, or the host with its port; `key` is the object's key, or the path in a URL as it is sent;
    `version` is the one that was asked for, empty for the current one. `query` may hold a secret and is never shown.
    """

    scheme: str
    place: str
    key: str
    version: str = ""
    query: str = ""

    def __str__(self) -> str:
        """Return the address as it may be shown, logged and stored."""
        return f"{self.scheme}://{self.place}/{self.key}" + (f"#{self.version}" if self.version else "")

    @property
    def is_directory(self) -> bool:
        """Whether it names all objects below it."""
        return self.key.endswith("/")

    @property
    def name(self) -> str:
        """The last part of the key: the file's or directory's name."""
        key = unquote(self.key) if self.scheme == "https" else self.key
        return key.removesuffix("/").rpartition("/")[2]


def parse_address(text: str, settings: FetchSettings) -> Address:
    """Read the address of a model, and hold it against the allow-list.

    Raises:
        ArtifactRefused: `bad_address`, it cannot be read, or only in more than one way; `not_allowed`, the operator
            did not list its host or bucket, or it is not over TLS.
    """
    if not text.isprintable() or len(text) > MAX_CHARACTERS or "\\" in text:
        raise _bad(text, "holds a backslash or control characters, or is over 2048 characters long")
    scheme = text.partition("://")[0].lower()
    if scheme in ("s3", "gs"):
        address = _parse_bucket(text, scheme, settings)
    elif scheme == "https":
        address = _parse_https(text, settings)
    elif scheme == "http":
        raise _not_allowed(text, "a plain http:// address can be read and changed on the way; use https://")
    else:
        raise _bad(text, "is not an address of the kind s3://bucket/key, gs://bucket/object or https://host/path")
    _check_name(text, address)
    return address


def parse_redirect(text: str, settings: FetchSettings) -> Address:
    """Read where a web server redirects to: any path on a listed host.

    Raises:
        ArtifactRefused: as for `parse_address`.
    """
    if not text.isprintable() or len(text) > MAX_CHARACTERS or "\\" in text:
        raise _bad(text, "is redirected to, and cannot be read")
    if not text.lower().startswith("https://"):
        raise _not_allowed(text, "is redirected to, and is not https://")
    return _parse_https(text, settings)


def show_address(text: str) -> str:
    """Return any text as an address that may be shown: without user, password, query and control characters."""
    scheme, mark, rest = text[:MAX_CHARACTERS].partition("?")[0].rpartition("://")
    if not scheme.lower().endswith(("s3", "gs")):
        rest = rest.partition("#")[0]
    before, at, after = rest.rpartition("@")
    shown = scheme + mark + ("..." if before else "") + at + after
    return "".join(letter if letter.isprintable() else "?" for letter in shown)[:200]


def _parse_bucket(text: str, scheme: str, settings: FetchSettings) -> Address:
    bucket, _, rest = text.partition("://")[2].partition("/")
    key, marked, version = rest.partition("#")
    if not re.fullmatch(BUCKET, f"{scheme}://{bucket}"):
        raise _bad(text, f"does not name a bucket; write {scheme}://bucket/models/digits.mar")
    if f"{scheme}://{bucket}" not in settings.buckets:
        raise _not_allowed(text, f"{scheme}://{bucket} is not in fetch.buckets of admission.yaml")
    if "?" in rest:
        raise _bad(text, f"holds a question mark; a version is named as in {scheme}://{bucket}/digits.mar#VERSION")
    if marked and not re.fullmatch(VERSION if scheme == "s3" else GENERATION, version):
        raise _bad(text, "has no usable version after the #; an S3 version id or a generation's number stands there")
    if marked and key.endswith("/"):
        raise _bad(text, "names a version of a directory; only a single object has one")
    _check_segments(text, key)
    return Address(scheme, bucket, key, version)


def _parse_https(text: str, settings: FetchSettings) -> Address:
    try:
        parts = urlsplit(text)
        _ = parts.port  # which raises where there cannot be such a port
    except ValueError as error:
        raise _bad(text, "is not a URL") from error
    if "@" in parts.netloc:
        raise _not_allowed(text, "a user or password in the address would end in logs; take it out")
    host = parts.netloc.lower().removesuffix(_DEFAULT_PORT)
    if not re.fullmatch(HOST_NAME, host):
        raise _bad(text, "does not name a host; write https://models.example.com/digits.mar")
    if host not in {listed.removesuffix(_DEFAULT_PORT) for listed in settings.hosts}:
        raise _not_allowed(text, f"{host} is not in fetch.hosts of admission.yaml")
    if "#" in text:
        raise _bad(text, "holds a #; versions can be named for s3:// and gs:// only")
    path = quote(parts.path, safe=_PATH_CHARACTERS).removeprefix("/")
    _check_segments(text, unquote(path, errors="surrogateescape"), slashes=parts.path.count("/") - 1)
    return Address("https", host, path, query=quote(parts.query, safe=_PATH_CHARACTERS + "?"))


def _check_segments(text: str, key: str, slashes: int | None = None) -> None:
    """Refuse what a server or a proxy could take for another place; `slashes` is how many there are undecoded."""
    segments = key.removesuffix("/").split("/")
    if not key or "" in segments or "." in segments or ".." in segments:
        raise _bad(text, "has an empty part, `.` or `..` in its path; name the object itself")
    if not key.isprintable() or "\\" in key or (slashes is not None and key.count("/") != slashes):
        raise _bad(text, "hides a slash, a backslash or control characters in its path; name the object itself")


def _check_name(text: str, address: Address) -> None:
    name = address.name
    if address.is_directory and address.scheme == "https":
        raise _bad(text, "is a directory, which a web server cannot list; name a .mar archive")
    if not address.is_directory and not name.endswith(ARCHIVE_SUFFIX):
        raise _bad(text, "is not a .mar archive; for a packed model's directory in a bucket, end with a slash")
    if name.startswith((".", "-", "~")) or len(name.encode()) > MAX_NAME_BYTES:
        raise _bad(text, "has a last part that cannot be a file's name here; rename the object")
    if unicodedata.normalize("NFC", name) != name:
        raise _bad(text, "has letters in its last part that are not composed as Unicode wants (NFC); rename the object")


def _bad(text: str, what: str) -> ArtifactRefused:
    return ArtifactRefused("bad_address", "This is not where a model can be.", f"{show_address(text)}: {what}")


def _not_allowed(text: str, what: str) -> ArtifactRefused:
    return ArtifactRefused(
        "not_allowed", "Models may not be fetched from there.", f"{show_address(text)}: not allowed: {what}"
    )
