"""Hostile requests, each built here once: the attack tests send them, and so does `scripts/demo`.

An attack names its threat (the file in this folder that tells its story), what has to come back, and how it is tried
against a running gateway.
"""

import base64
import gzip
import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image
from stack.running import DIGITS, Answer, Target

BURST = 40


@dataclass(frozen=True)
class Attack:
    """One hostile request, and the only answer that will do."""

    name: str
    threat: str
    status: int
    reason: str
    attempt: Callable[[Target], Answer]


def sample_digit(digit: int = 7) -> bytes:
    """Return a real digit, as a client sends it."""
    return next(DIGITS.glob(f"samples/{digit}.*")).read_bytes()


def png_bomb(width: int = 10_000, height: int = 8_000) -> bytes:
    """Return a valid RGB PNG whose pixels take `width * height * 3` bytes and whose file takes a thousandth of that."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    deflate = zlib.compressobj(6)
    row = bytes(1 + width * 3)
    pixels = b"".join(deflate.compress(row) for _ in range(height)) + deflate.flush()
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def truncated_jpeg() -> bytes:
    """Return the first two thirds of a JPEG."""
    stream = io.BytesIO()
    Image.linear_gradient("L").save(stream, "JPEG")
    return stream.getvalue()[: len(stream.getvalue()) * 2 // 3]


def tiff() -> bytes:
    """Return a small TIFF: a real image, in a format that the contract does not name."""
    stream = io.BytesIO()
    Image.linear_gradient("L").save(stream, "TIFF")
    return stream.getvalue()


def svg() -> bytes:
    """Return an SVG that reads a local file in a careless renderer."""
    return (
        b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
        b'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"><text>&x;</text></svg>'
    )


def gif_script() -> bytes:
    """Return bytes that are an image to a decoder and a program to a browser."""
    stream = io.BytesIO()
    Image.new("P", (0x2A2F, 1)).save(stream, "GIF")  # the width's two bytes read /*
    return stream.getvalue() + b"*/=1;alert(document.cookie)//"


def _send(body: bytes = b"", content_type: str = "application/octet-stream", **options: object) -> Callable[..., Answer]:
    headers = {"content-type": content_type, **options.pop("headers", {})}  # type: ignore[dict-item]  # a test's shorthand
    return lambda target: target.send(body=body, headers=headers, **options)


def _burst(target: Target) -> Answer:
    """Send many good requests over one connection, and return the last answer."""
    connection = target.connect()
    for _ in range(BURST - 1):
        target.send(body=sample_digit(), key="hasty", connection=connection)
    answer = target.send(body=sample_digit(), key="hasty", connection=connection)
    connection.close()
    return answer


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def list_attacks() -> list[Attack]:
    """Build the catalogue; takes a second, for the bomb is real."""
    digit, json_digit = sample_digit(), b'{"data": "%s"}' % base64.b64encode(sample_digit())
    return [
        Attack("no key", "stolen_access", 401, "unauthenticated", _send(digit, key=None)),
        Attack("key with a forged signature", "stolen_access", 401, "unauthenticated", _send(digit, key="forged")),
        Attack("expired key", "stolen_access", 401, "unauthenticated", _send(digit, key="expired")),
        Attack("key for another model", "stolen_access", 403, "forbidden", _send(digit, key="neighbour")),
        Attack("good key of an unlisted client", "stolen_access", 403, "forbidden", _send(digit, key="stranger")),
        Attack("80-megapixel PNG bomb", "image_bombs", 413, "too_many_pixels", _send(png_bomb(), "image/png")),
        Attack("20 MB body", "image_bombs", 413, "too_many_bytes", _send(bytes(20_000_000))),
        Attack("gzip bomb as content-encoding", "image_bombs", 415, "unsupported_media_type",
               _send(gzip.compress(bytes(10_000_000)), headers={"content-encoding": "gzip"})),
        Attack("truncated JPEG", "disguised_files", 400, "broken_image", _send(truncated_jpeg(), "image/jpeg")),
        Attack("TIFF renamed .png", "disguised_files", 415, "format_not_allowed", _send(tiff(), "image/png")),
        Attack("SVG with an external entity", "disguised_files", 415, "unknown_format", _send(svg(), "image/svg+xml")),
        Attack("polyglot GIF/JavaScript", "disguised_files", 415, "format_not_allowed", _send(gif_script(), "image/gif")),
        Attack("form body for the server's parser", "disguised_files", 415, "unsupported_media_type",
               _send(b"a&" * 1000, "application/x-www-form-urlencoded")),
        Attack("deeply nested JSON", "disguised_files", 413, "json_too_deep",
               _send(b'{"data":' + b"[" * 50_000, "application/json")),
        Attack("POST /models (register a model)", "management_paths", 404, "not_found",
               _send(path="/models?url=http://127.0.0.1:9/evil.mar")),
        Attack("POST /workflows (runs code in stock)", "management_paths", 404, "not_found",
               _send(path="/workflows?url=http://127.0.0.1:9/evil.war")),
        Attack("GET /predictions%2Fdigits", "management_paths", 400, "bad_request",
               _send(method="GET", path="/predictions%2Fdigits")),
        Attack("OPTIONS / (lists the API in stock)", "management_paths", 404, "not_found", _send(method="OPTIONS", path="/")),
        Attack("header explain: True", "smuggled_headers", 200, "", _send(digit, headers={"explain": "True"})),
        Attack("header describe: True", "smuggled_headers", 200, "", _send(json_digit, headers={"describe": "True"})),
        Attack(f"burst of {BURST} requests, 10 allowed", "flooding", 429, "rate_limited", _burst),
    ]
