"""What a row of the table is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from attacks.gateway.exchange import Fields, Http2, Verdict

DIGITS = "/predictions/digits"
KEY = "x-api-key: <key>"
Steps = Callable[[Http2], int | None]  # over HTTP/2; returns the stream that is answered, where that is not 1


@dataclass(frozen=True)
class Drip:
    """Bytes that come at once over HTTP/1.1, then one piece after the other for as long as they are taken."""

    start: bytes
    piece: bytes = b""
    tls: bool = True


@dataclass(frozen=True)
class Presented:
    """Bytes over HTTP/1.1, on a connection that shows a client certificate, by the name of its file."""

    data: bytes
    certificate: str


Attempt = bytes | Drip | Presented | Steps


@dataclass(frozen=True)
class Row:
    """An attack, the only verdict that will do, and its benign twin, which is answered with 200.

    The server behind the gateway sees nothing of an attack that is refused; where one goes through without what made it
    one, `absent` is what the server must not see.
    """

    name: str
    attack: Attempt
    verdict: Verdict | tuple[Verdict, ...]  # several for several requests on one connection
    twin: Attempt
    absent: Sequence[bytes] = ()
    twins: int = 1  # requests in the twin

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        return self.verdict if isinstance(self.verdict, tuple) else (self.verdict,)

    @property
    def arriving(self) -> int:
        """How many of the attack's requests are good ones, and reach the server."""
        return sum(str(verdict).startswith("200") for verdict in self.verdicts)

    @property
    def ends_connection(self) -> bool:
        """Say whether the verdict is in most cases that the connection ends."""
        return self.is_http2 or len(self.verdicts) > 1

    @property
    def is_http2(self) -> bool:
        return not isinstance(self.attack, bytes | Drip | Presented)


def post(
    *lines: str | bytes,
    path: str | bytes = DIGITS,
    method: str | bytes = "POST",
    key: str | None = KEY,
    body: bytes = b"x",
    framing: str | bytes | None = "",
    version: str = "HTTP/1.1",
    host: str | None = "localhost",
) -> bytes:
    """Write a request: nothing but what differs from a good one has to be said.

    `framing` is the line that says how long the body is, `None` for no such line.
    """
    first = b" ".join(to_bytes(part) for part in (method, path, version))
    length = f"content-length: {len(body)}" if framing == "" else framing
    named = [line for line in (host and f"host: {host}", key, length) if line is not None]
    return b"\r\n".join([first, *map(to_bytes, named), *map(to_bytes, lines), b"", b""]) + body


def chunks(*sizes_and_data: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    """Write a body in chunks, each given as its bytes."""
    return b"".join(b"%x\r\n%b\r\n" % (len(data), data) for data in sizes_and_data) + end


def pseudo(**changes: str | bytes | None) -> list[tuple[str, str | bytes]]:
    """Write the pseudo-headers of a good request, less those that are None."""
    usual = {"method": "POST", "path": DIGITS, "scheme": "https", "authority": "localhost", **changes}
    return [(f":{name}", value) for name, value in usual.items() if value is not None]


def ask(
    *fields: tuple[str, str | bytes],
    key: str | None = "<key>",
    body: bytes = b"x",
    first: Fields | None = None,
    **changes: str | bytes | None,
) -> Steps:
    """Write the same over HTTP/2, in one stream; `first` are the pseudo-headers, or `changes` to good ones."""
    named = [("x-api-key", key)] if key is not None else []

    def steps(wire: Http2) -> None:
        wire.headers([*(pseudo(**changes) if first is None else first), *named, *fields], end=not body)
        if body:
            wire.data(body)

    return steps


def to_bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")
