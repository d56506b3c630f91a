"""Objects in S3, or in a service that speaks its protocol (`AWS_ENDPOINT_URL`), through boto3.

Every request after the first names the version id, where the bucket has versions, and the ETag. Credentials are found
as boto3 finds them: environment, profile, or the role of the machine (`AWS_EC2_METADATA_DISABLED=true` turns that off).
Proxies from the environment are not used.
"""

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
    check_reply,
    failed,
    import_extra,
    not_found,
)
from garrison.errors import ArtifactRefused, ConfigError, GarrisonError

_RETRIED = (408, 429, 500, 502, 503, 504)
_NO_CREDENTIALS = (
    "no usable AWS credentials were found; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
    "or run on a machine that has a role"
)
Result = TypeVar("Result")


class S3Source:
    """The buckets of one S3 service. Objects without server-side encryption are refused unless told otherwise."""

    def __init__(self, *, unsafe_allow_unencrypted: bool = False) -> None:
        self._unsafe_allow_unencrypted = unsafe_allow_unencrypted
        self._errors = import_extra("botocore.exceptions")
        self._client = _connect(import_extra("boto3"), import_extra("botocore.config").Config, self._errors)

    def list_objects(self, directory: Address, most: int) -> Sequence[Address]:
        """Return the objects below a directory, at most `most` + 1 of them; empty "folders" are left out."""

        def listed() -> list[Address]:
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=directory.place, Prefix=directory.key, PaginationConfig={"PageSize": min(most + 1, 1000)}
            )
            entries = (entry for page in islice(pages, most + 1) for entry in page.get("Contents", ()))
            objects = (entry for entry in entries if entry["Size"] or not entry["Key"].endswith("/"))
            return [Address("s3", directory.place, entry["Key"]) for entry in islice(objects, most + 1)]

        return self._ask(directory, not_found, listed)

    def describe(self, address: Address) -> Pinned:
        """Pin the version of an object, by a HEAD request."""
        named = {"VersionId": address.version} if address.version else {}
        head = self._ask(
            address, not_found, lambda: self._client.head_object(Bucket=address.place, Key=address.key, **named)
        )
        check_encoding(address, head.get("ContentEncoding"))
        self._check_encrypted(address, head)
        version = head.get("VersionId", "")
        if address.version not in ("", version):
            raise not_found(address)
        if "ContentLength" not in head:
            raise failed(address, "the service does not tell its size")
        return Pinned(address, head["ContentLength"], version, head.get("ETag", ""))

    def open(self, pinned: Pinned, offset: int) -> Body:
        """Begin to read the pinned version at an offset."""
        address = pinned.address
        wanted = {"IfMatch": pinned.tag, "VersionId": pinned.version, "Range": f"bytes={offset}-" if offset else ""}
        asked = {"Bucket": address.place, "Key": address.key} | {name: value for name, value in wanted.items() if value}
        reply = self._ask(address, changed, lambda: self._client.get_object(**asked))
        body = S3Body(reply["Body"], offset, self._errors)
        try:
            body.offset = check_reply(
                pinned,
                offset,
                tag=reply.get("ETag", ""),
                length=reply.get("ContentLength"),
                content_range=reply.get("ContentRange", ""),
            )
        except GarrisonError:
            body.close()
            raise
        return body

    def _check_encrypted(self, address: Address, head: dict[str, Any]) -> None:
        encrypted = head.get("ServerSideEncryption") or head.get("SSECustomerAlgorithm")
        if not encrypted and not self._unsafe_allow_unencrypted:
            raise ArtifactRefused(
                "unencrypted",
                "The object is stored without encryption.",
                f"{address}: stored without server-side encryption; turn on the bucket's default encryption and upload "
                "it again, or set fetch.unsafe_allow_unencrypted in admission.yaml",
            )

    def _ask(
        self, address: Address, missing: Callable[[Address], GarrisonError], request: Callable[[], Result]
    ) -> Result:
        """Make a request; `missing` makes the refusal for when the object, or this version of it, is not there."""
        errors = self._errors
        try:
            return request()
        except errors.ClientError as error:
            raise _translate(address, missing, error.response) from error
        except (errors.NoCredentialsError, errors.PartialCredentialsError, errors.CredentialRetrievalError) as error:
            raise ConfigError(f"{address}: {_NO_CREDENTIALS}") from error
        except errors.SSLError as error:
            raise failed(address, "the service's certificate is not valid") from error
        except (errors.HTTPClientError, errors.ConnectionError) as error:
            raise Interrupted(f"the connection failed ({type(error).__name__})") from error
        except errors.BotoCoreError as error:
            raise failed(address, f"boto3 cannot ask for it ({type(error).__name__})") from error


class S3Body:
    """A stream of boto3's."""

    def __init__(self, stream: Any, offset: int, errors: Any) -> None:
        self.offset = offset
        self._stream = stream
        self._errors = errors

    def read(self, most: int) -> bytes:
        """Return the next bytes."""
        try:
            return bytes(self._stream.read(most))
        except (self._errors.BotoCoreError, OSError, ValueError) as error:
            raise Interrupted(f"the connection was cut ({type(error).__name__})") from error

    def close(self) -> None:
        """Let go of the connection."""
        self._stream.close()


def _connect(boto3: Any, config: Any, errors: Any) -> Any:
    try:
        client = boto3.session.Session().client(
            "s3",
            config=config(
                connect_timeout=CONNECT_S,
                read_timeout=IDLE_S,
                retries={"total_max_attempts": 1},  # `transfer` retries, within its own time
                proxies={},
                response_checksum_validation="when_required",  # only whole objects have one; the signature covers more
            ),
        )
    except errors.PartialCredentialsError as error:
        raise ConfigError(_NO_CREDENTIALS) from error
    except errors.BotoCoreError as error:
        raise ConfigError(f"boto3 cannot be used as the environment sets it up ({error})") from error
    except ValueError as error:  # which would show an endpoint with what is in it
        raise ConfigError("boto3 cannot be used as the environment sets it up; look at AWS_ENDPOINT_URL") from error
    check_endpoint(client.meta.endpoint_url, "AWS_ENDPOINT_URL")
    return client


def _translate(
    address: Address, missing: Callable[[Address], GarrisonError], response: dict[str, Any]
) -> GarrisonError | Interrupted:
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = response.get("Error", {}).get("Code", "")
    if status in (404, 405) or (status == 400 and address.version):  # 405: a deletion; 400: never was a version
        return missing(address)
    if status in (412, 416):
        return changed(address)
    if status in (401, 403):
        return access_denied(address, "the credentials lack s3:GetObject (or s3:ListBucket), or it is not there")
    if status in _RETRIED:
        return Interrupted(f"the service answers {status}")
    if status in (301, 307, 400):
        return failed(address, f"the service answers {status}; look at AWS_REGION")
    return failed(address, f"the service answers {status} ({code if code.isalnum() else 'no known code'})")
