"""What every kind of source offers, and what is the same for all of them.

A source pins the version of an object, tells its size, and reads it from any offset, always that very version. What a
server says is checked here: a reply that belongs to another version, or to other bytes than were asked for, is refused.
"""

import importlib
import ipaddress
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

from garrison.admission.fetch.address import Address
from garrison.errors import ArtifactRefused, ConfigError, Undecided

CONNECT_S = 10
IDLE_S = 30  # the longest silence on a connection
CHUNK_BYTES = 2**20

Result = TypeVar("Result")


@dataclass(frozen=True)
class Pinned:
    """One version of one object: what every further request must be answered with.

    `version` is what the service calls it (a version id, a generation, an ETag), empty where it has no name for it;
    `tag` is what requests are made conditional on, empty where nothing tells two versions apart: then a download that
    was interrupted begins anew. `modified` is the date that the server gave, a weaker sign of the same.
    """

    address: Address
    size: int
    version: str
    tag: str
    modified: str = ""


class Body(Protocol):
    """The bytes of an object from `offset` on, which is 0 where the server could not go on in the middle."""

    offset: int

    def read(self, most: int) -> bytes:
        """Return the next bytes, at most `most`, none at the end; raises `Interrupted` when the connection fails."""
        ...

    def close(self) -> None:
        """Let go of the connection; may be called while another thread reads."""
        ...


class Source(Protocol):
    """A place where objects are: a service's buckets, or web servers."""

    def list_objects(self, directory: Address, most: int) -> Sequence[Address]:
        """Return the objects below a directory, at most `most` + 1 of them."""
        ...

    def describe(self, address: Address) -> Pinned:
        """Pin the version of an object: the one that was asked for, or the current one."""
        ...

    def open(self, pinned: Pinned, offset: int) -> Body:
        """Begin to read that version; refuses when the object is another by now."""
        ...


class Interrupted(Exception):
    """Report that a connection failed in a way that another try may cure; never leaves this package."""


def call_within(seconds: float, action: Callable[..., Result], *arguments: Any) -> Result:
    """Call `action`, and give up on it after that long: no library's time limit covers every way to be slow.

    Raises:
        Interrupted: it took longer; the thread that it runs in is left to itself.
    """
    results: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()

    def run() -> None:
        try:
            results.put((True, action(*arguments)))
        except BaseException as error:  # noqa: BLE001 - raised again below, in the thread that asked
            results.put((False, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        succeeded, result = results.get(timeout=max(seconds, 0))
    except queue.Empty:
        raise Interrupted("it takes too long") from None
    if not succeeded:
        raise result
    return result  # type: ignore[no-any-return]  # what `action` returned, through a queue of anything


def check_reply(pinned: Pinned, offset: int, *, tag: str, length: int | None, content_range: str) -> int:
    """Hold the head of a reply against the pinned version, and return the offset at which its body begins.

    Raises:
        ArtifactRefused: `changed_while_fetching`, it is of another version or size.
    """
    if tag != pinned.tag:
        raise changed(pinned.address)
    begins = offset
    if content_range:
        if content_range != f"bytes {offset}-{pinned.size - 1}/{pinned.size}":
            raise changed(pinned.address)
    elif offset:
        begins = 0  # the server does not do ranges: all of it comes
    if length != pinned.size - begins:
        raise changed(pinned.address)
    return begins


def check_encoding(address: Address, encoding: str | None) -> None:
    """Refuse an object that a client would have to decode: its bytes are not those that were signed.

    Raises:
        ArtifactRefused: `encoded`.
    """
    if (encoding or "identity").strip().lower() not in ("identity", "aws-chunked"):
        raise ArtifactRefused(
            "encoded",
            "The object is stored in a compressed form.",
            f"{address}: it has a Content-Encoding, and nothing is unpacked here; upload the archive as it is",
        )


def check_endpoint(url: str, variable: str) -> None:
    """Refuse to send credentials and read models over a connection without TLS, but on this machine.

    Raises:
        ConfigError: the endpoint that the environment names is not https.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" and not _is_loopback(parts.hostname or ""):
        raise ConfigError(f"{variable}: {parts.hostname} would be asked without TLS; name an https:// endpoint")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def import_extra(module: str) -> Any:
    """Import a module of the `fetch` extra when it is needed, and no sooner.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = "google-cloud-storage" if module.startswith("google") else module.partition(".")[0]
        raise ConfigError(f"{package} is not installed; buckets need it: pip install 'garrison[fetch]'") from error


def changed(address: Address) -> ArtifactRefused:
    """Return the refusal of an object that became another during the download."""
    return ArtifactRefused(
        "changed_while_fetching",
        "The object changed while it was fetched.",
        f"{address}: it is not the object any more that the download began with; fetch again when nobody uploads",
    )


def not_found(address: Address) -> ArtifactRefused:
    """Return the refusal of an address at which there is nothing."""
    return ArtifactRefused(
        "not_found", "There is no such object.", f"{address}: there is no such object or version; look at its spelling"
    )


def access_denied(address: Address, advice: str) -> ArtifactRefused:
    """Return the refusal of an object that the service does not give to these credentials."""
    return ArtifactRefused("access_denied", "The object may not be read.", f"{address}: access denied; {advice}")


def failed(address: Address, what: str) -> Undecided:
    """Return what is said when it cannot be told whether the object is there and what it is."""
    return Undecided(f"{address}: not fetched: {what}")
