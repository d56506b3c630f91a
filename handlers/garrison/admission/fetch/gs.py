"""Objects in Google Cloud Storage, through google-cloud-storage.

Every request after the first names the object's generation. An object is read in pieces, each of which is asked for.
Credentials are found as Google's libraries find them: `GOOGLE_APPLICATION_CREDENTIALS`, gcloud's, or the machine's
service account; only reading is asked for. Proxies from the environment are not used.
"""

import os
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, TypeVar

from garrison.admission.fetch.address import Address
from garrison.admission.fetch.source import (
    CONNECT_S,
    IDLE_S,
    Body,
    Interrupted,
    Pinned,
    access_denied,
    changed,
    check_encoding,
    check_endpoint,
    failed,
    import_extra,
    not_found,
)
from garrison.errors import ConfigError, GarrisonError

PIECE_BYTES = 8 * 2**20
_SCOPE = "https://www.googleapis.com/auth/devstorage.read_only"
_LIMITS = {"timeout": (CONNECT_S, IDLE_S), "retry": None}  # `transfer` retries, within its own time
_RETRIED = (408, 429, 500, 502, 503, 504)
_NO_REQUESTS_OF_ITS_OWN = "DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA"  # for the bucket, which nobody needs
_NO_CREDENTIALS = (
    "no usable Google credentials were found; run `gcloud auth application-default login`, set "
    "GOOGLE_APPLICATION_CREDENTIALS, or run on a machine that has a service account"
)
Result = TypeVar("Result")


class GsSource:
    """The buckets of Google Cloud Storage, which encrypts every object at rest."""

    def __init__(self) -> None:
        self._errors = import_extra("google.api_core.exceptions")
        self._auth_errors = import_extra("google.auth.exceptions")
        self._requests = import_extra("requests")
        self._urllib3 = import_extra("urllib3")
        self._client = _connect(self._requests, self._auth_errors)

    def list_objects(self, directory: Address, most: int) -> Sequence[Address]:
        """Return the objects below a directory, at most `most` + 1 of them; empty "folders" are left out."""

        def listed() -> list[Address]:
            entries = self._client.list_blobs(
                directory.place, prefix=directory.key, max_results=2 * most + 2, page_size=1000, **_LIMITS
            )
            names = (entry.name for entry in entries if entry.size or not entry.name.endswith("/"))
            return [Address("gs", directory.place, name) for name in islice(names, most + 1)]

        return self._ask(directory, not_found, listed)

    def describe(self, address: Address) -> Pinned:
        """Pin the generation of an object, by its metadata."""

        def described() -> tuple[str | None, int, int]:
            blob = self._blob(address, address.version)
            blob.reload(**_LIMITS)
            return blob.content_encoding, int(blob.size), int(blob.generation)

        encoding, size, generation = self._ask(address, not_found, described)
        check_encoding(address, encoding)
        return Pinned(address, size, str(generation), str(generation))

    def open(self, pinned: Pinned, offset: int) -> Body:
        """Begin to read the pinned generation at an offset; nothing is asked for yet."""
        return GsBody(self, pinned, offset)

    def read_piece(self, pinned: Pinned, offset: int) -> bytes:
        """Return the next bytes of the pinned generation, at most `PIECE_BYTES`."""
        wanted = min(PIECE_BYTES, pinned.size - offset)
        if wanted <= 0:
            return b""
        piece = _Piece(pinned.address, wanted)
        blob = self._blob(pinned.address, pinned.version)
        download = {"start": offset, "end": offset + wanted - 1, "raw_download": True, "checksum": None}
        match = {"if_generation_match": int(pinned.version)}
        self._ask(pinned.address, changed, lambda: blob.download_to_file(piece, **download, **match, **_LIMITS))
        return bytes(piece.data)

    def _blob(self, address: Address, generation: str) -> Any:
        bucket = self._client.bucket(address.place)
        return bucket.blob(address.key, generation=int(generation) if generation else None)

    def _ask(
        self, address: Address, missing: Callable[[Address], GarrisonError], request: Callable[[], Result]
    ) -> Result:
        """Make a request; `missing` makes the refusal for when the object, or this generation of it, is not there."""
        try:
            return request()
        except self._errors.GoogleAPICallError as error:
            raise _translate(address, missing, int(error.code or 0)) from error
        except self._auth_errors.TransportError as error:
            raise Interrupted("the connection to Google's sign-in failed") from error
        except self._auth_errors.GoogleAuthError as error:
            raise ConfigError(f"{address}: {_NO_CREDENTIALS}") from error
        except (self._requests.exceptions.InvalidJSONError, ValueError, TypeError, AttributeError) as error:
            raise failed(address, "the service's answer cannot be read") from error
        except self._requests.exceptions.SSLError as error:
            raise failed(address, "the service's certificate is not valid") from error
        except self._requests.exceptions.TooManyRedirects as error:
            raise failed(address, "the service redirects elsewhere, which is not followed") from error
        except (self._requests.exceptions.RequestException, self._urllib3.exceptions.HTTPError, OSError) as error:
            raise Interrupted(f"the connection failed ({type(error).__name__})") from error


class GsBody:
    """An object that is asked for piece by piece."""

    def __init__(self, source: GsSource, pinned: Pinned, offset: int) -> None:
        self.offset = offset
        self._source = source
        self._pinned = pinned
        self._next = offset
        self._piece = b""

    def read(self, most: int) -> bytes:
        """Return the next bytes."""
        if not self._piece:
            self._piece = self._source.read_piece(self._pinned, self._next)
            self._next += len(self._piece)
        chunk, self._piece = self._piece[:most], self._piece[most:]
        return chunk

    def close(self) -> None:
        """Do nothing: every piece is a request of its own."""


class _Piece:
    """A file that takes so many bytes of an object and no more."""

    def __init__(self, address: Address, size: int) -> None:
        self.data = bytearray()
        self._address = address
        self._size = size

    def write(self, chunk: bytes) -> int:
        """Take a chunk of the answer."""
        if len(self.data) + len(chunk) > self._size:
            raise changed(self._address)
        self.data += chunk
        return len(chunk)


def _connect(requests: Any, auth_errors: Any) -> Any:
    storage = import_extra("google.cloud.storage")
    transport = import_extra("google.auth.transport.requests")
    if emulator := os.environ.get("STORAGE_EMULATOR_HOST", ""):
        check_endpoint(emulator, "STORAGE_EMULATOR_HOST")
    os.environ.setdefault(_NO_REQUESTS_OF_ITS_OWN, "true")
    try:
        credentials = _find_credentials(anonymous=bool(emulator))
    except (auth_errors.GoogleAuthError, OSError, ValueError) as error:
        raise ConfigError(_NO_CREDENTIALS) from error
    sign_in = requests.Session()
    sign_in.trust_env = False
    session = transport.AuthorizedSession(credentials, auth_request=transport.Request(sign_in))
    session.trust_env = False  # neither proxies nor ~/.netrc
    session.max_redirects = 0
    return storage.Client(project=None, credentials=credentials, _http=session)


def _find_credentials(*, anonymous: bool) -> Any:
    if anonymous:
        return import_extra("google.auth.credentials").AnonymousCredentials()
    return import_extra("google.auth").default(scopes=[_SCOPE])[0]


def _translate(
    address: Address, missing: Callable[[Address], GarrisonError], status: int
) -> GarrisonError | Interrupted:
    if status == 404:
        return missing(address)
    if status in (412, 416):
        return changed(address)
    if status in (401, 403):
        return access_denied(address, "the credentials lack storage.objects.get (or .list), or it is not there")
    if status in _RETRIED:
        return Interrupted(f"the service answers {status}")
    return failed(address, f"the service answers {status}")
