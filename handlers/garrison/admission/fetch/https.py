"""Archives on web servers that the operator listed, through the standard library.

Certificates are always verified, with the system's authorities (`SSL_CERT_FILE` names others). Redirects are followed
to listed hosts only; proxies from the environment are not used. A version is pinned by its strong ETag; a server that
has none cannot be resumed, and the date of its last change is compared instead.
"""

import http.client
import re
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from urllib.parse import urljoin

from garrison import __version__
from garrison.admission.fetch.address import Address, parse_redirect
from garrison.admission.fetch.source import (
    CONNECT_S,
    IDLE_S,
    Body,
    Interrupted,
    Pinned,
    access_denied,
    changed,
    check_encoding,
    check_reply,
    failed,
    not_found,
)
from garrison.admission.settings import FetchSettings
from garrison.errors import ArtifactRefused, GarrisonError

MOST_REDIRECTS = 3
_REDIRECTS = (301, 302, 303, 307, 308)
_RETRIED = (408, 425, 429, 500, 502, 503, 504)
_STRONG_TAG = re.compile(r'"[\x21\x23-\x7e]*"')
_SIZE = re.compile(r"[0-9]{1,18}")
_FIRST_BYTE = re.compile(r"bytes 0-0/([0-9]{1,18})")
_HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": f"garrison/{__version__}"}


class HttpsSource:
    """The web servers that the operator listed."""

    def __init__(self, settings: FetchSettings) -> None:
        self._settings = settings
        self._context = ssl.create_default_context()

    def list_objects(self, directory: Address, most: int) -> Sequence[Address]:
        """Refuse: a web server does not list what it has."""
        raise failed(directory, f"a web server does not list up to {most} objects")

    def describe(self, address: Address) -> Pinned:
        """Pin the object's version, by asking for its first byte: a signed URL often allows nothing but GET."""
        reply = self._get(address, {"Range": "bytes=0-0"})
        try:
            _check_status(address, reply.status, not_found(address))
            check_encoding(address, reply.headers.get("Content-Encoding"))
            tag = reply.tag
            return Pinned(address, _read_size(address, reply), tag, tag, reply.headers.get("Last-Modified", ""))
        finally:
            reply.close()

    def open(self, pinned: Pinned, offset: int) -> Body:
        """Begin to read the pinned version at an offset."""
        address = pinned.address
        conditions = {"If-Match": pinned.tag} if pinned.tag else {}
        reply = self._get(address, conditions | ({"Range": f"bytes={offset}-"} if offset else {}))
        try:
            _check_status(address, reply.status, changed(address))
            check_encoding(address, reply.headers.get("Content-Encoding"))
            if not pinned.tag and reply.headers.get("Last-Modified", "") != pinned.modified:
                raise changed(address)
            reply.offset = check_reply(
                pinned, offset, tag=reply.tag, length=reply.length, content_range=reply.content_range
            )
        except (GarrisonError, Interrupted):
            reply.close()
            raise
        return reply

    def _get(self, address: Address, headers: dict[str, str]) -> "Reply":
        """Ask, and follow redirects; every one is held against the allow-list."""
        hop = address
        for _ in range(MOST_REDIRECTS + 1):
            reply = _ask(hop, headers, self._context)
            if reply.status not in _REDIRECTS:
                return reply
            reply.close()
            hop = parse_redirect(urljoin(_url_of(hop), reply.headers.get("Location", "")), self._settings)
        raise failed(address, f"the server redirects more than {MOST_REDIRECTS} times")


class Reply:
    """One answer of a web server, and the connection that it comes by."""

    def __init__(self, connection: http.client.HTTPSConnection, response: http.client.HTTPResponse) -> None:
        self.offset = 0
        self.status = response.status
        self.headers = response.headers
        self._socket = connection.sock
        self._connection = connection
        self._response = response

    @property
    def tag(self) -> str:
        """The strong ETag, or nothing."""
        tag = self.headers.get("ETag", "")
        return tag if _STRONG_TAG.fullmatch(tag) else ""

    @property
    def length(self) -> int | None:
        """How many bytes the server says will come; None if it does not say, or says two things."""
        lengths = set(self.headers.get_all("Content-Length", ()))
        if len(lengths) != 1 or "Transfer-Encoding" in self.headers:
            return None
        length = lengths.pop().strip()
        return int(length) if _SIZE.fullmatch(length) else None

    @property
    def content_range(self) -> str:
        """Which part of the object it is; empty where it is all of it."""
        return self.headers.get("Content-Range", "") if self.status == http.client.PARTIAL_CONTENT else ""

    def read(self, most: int) -> bytes:
        """Return the next bytes."""
        try:
            return self._response.read(most)
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise Interrupted(f"the connection was cut ({type(error).__name__})") from error

    def close(self) -> None:
        """Let go of the connection, also while another thread waits for it."""
        with suppress(OSError, AttributeError):
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
        self._response.close()
        self._connection.close()


def _ask(address: Address, headers: dict[str, str], context: ssl.SSLContext) -> Reply:
    host, _, port = address.place.partition(":")
    connection = http.client.HTTPSConnection(host, int(port or 443), timeout=CONNECT_S, context=context)
    try:
        connection.connect()
        connection.sock.settimeout(IDLE_S)
        kept = connection.sock
        connection.request("GET", _target_of(address), headers=_HEADERS | headers)
        response = connection.getresponse()
        connection.sock = kept  # `getresponse` forgets it when the server will close
        return Reply(connection, response)
    except ssl.SSLCertVerificationError as error:
        connection.close()
        raise failed(address, f"the server's certificate is not valid: {error.verify_message}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        connection.close()
        raise Interrupted(f"{address.place} cannot be asked ({type(error).__name__})") from error


def _target_of(address: Address) -> str:
    return f"/{address.key}" + (f"?{address.query}" if address.query else "")


def _url_of(address: Address) -> str:
    return f"https://{address.place}{_target_of(address)}"


def _check_status(address: Address, status: int, missing: GarrisonError) -> None:
    if status in (200, 206):
        return
    if status in (404, 410):
        raise missing
    if status in (412, 416):
        raise changed(address)
    if status in (401, 403):
        raise access_denied(address, "a signed URL may have run out, or the server wants another permission")
    if status in _RETRIED:
        raise Interrupted(f"the server answers {status}")
    raise failed(address, f"the server answers {status}")


def _read_size(address: Address, reply: Reply) -> int:
    if reply.status == http.client.PARTIAL_CONTENT:
        found = _FIRST_BYTE.fullmatch(reply.content_range)
        size = int(found[1]) if found else None
    else:
        size = reply.length
    if size is None:
        raise ArtifactRefused(
            "unknown_size",
            "The object's size is not known beforehand.",
            f"{address}: the server does not say how large it is; nothing is downloaded without an end",
        )
    return size
