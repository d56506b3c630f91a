"""Slow on purpose: a connection that is kept busy with nothing (slowloris, slow body, slow read).

These go to a gateway with shorter timeouts, all at the same time; the twins do the same without the pauses.
"""

from hyperframe import frame

from attacks.gateway.exchange import CLOSED, Http2
from attacks.gateway.rows.row import DIGITS, KEY, Drip, Row, ask, post, pseudo

CHUNKED = "transfer-encoding: chunked"
HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"  # the beginning of a TLS handshake
GOOD = [*pseudo(), ("x-api-key", "<key>")]


def list_rows() -> list[Row]:
    """List headers, bodies, silence and HTTP/2."""
    first = f"POST {DIGITS} HTTP/1.1\r\nhost: localhost\r\n{KEY}\r\n".encode()
    whole = post(framing=CHUNKED, body=b"1\r\nx\r\n1\r\nx\r\n0\r\n\r\n")
    return [
        Row("headers, one by one", Drip(first, b"x: y\r\n"), 408, post("x: y")),
        Row("a header, byte by byte", Drip(first + b"x: ", b"y"), 408, post("x: y")),
        Row("headers without an end", Drip(first), 408, post()),
        Row("the request line, byte by byte", Drip(b"POST /", b"a"), 408, post()),
        Row("a body, byte by byte", Drip(first + b"content-length: 1000\r\n\r\n", b"x"), 408, post(body=bytes(1000))),
        Row("a body that does not come", Drip(first + b"content-length: 1000\r\n\r\n"), 408, post(body=bytes(1000))),
        Row("a body announced as 99 GB", Drip(first + b"content-length: 99999999999\r\n\r\n", b"x"), 408, post()),
        Row("chunks, one by one", Drip(first + f"{CHUNKED}\r\n\r\n".encode(), b"1\r\nx\r\n"), 408, whole),
        Row(
            "a chunk of 2^64 - 1 bytes",
            Drip(first + f"{CHUNKED}\r\n\r\nffffffffffffffff\r\n".encode(), b"x"),
            408,
            whole,
        ),
        Row(
            "an extension of a chunk, without an end",
            Drip(first + f"{CHUNKED}\r\n\r\n1;".encode(), b"a" * 1000),
            408,
            whole,
        ),
        Row("chunks that do not end", Drip(first + f"{CHUNKED}\r\n\r\n1\r\nx\r\n".encode()), 408, whole),
        Row("nothing", Drip(b""), CLOSED, post()),
        Row("nothing behind a request", post(), (200, CLOSED), post() + post(), twins=2),
        Row("no handshake", Drip(b"", tls=False), CLOSED, post()),
        Row("a handshake, byte by byte", Drip(HELLO, b"\0", tls=False), CLOSED, post()),
        Row("HTTP/2: nothing", lambda wire: None, CLOSED, ask()),
        Row("HTTP/2: headers without an end", begin_headers, 408, ask()),
        Row("HTTP/2: a body that does not come", lambda wire: wire.headers(GOOD, end=False), 408, ask()),
        Row("HTTP/2: an answer that is not read", ask_without_reading, "200, reset INTERNAL_ERROR", ask()),
    ]


def begin_headers(wire: Http2) -> None:
    wire.acknowledges = False  # nothing else may come between the frames of one block
    wire.send_frame(frame.HeadersFrame(1, b"\x82"))


def ask_without_reading(wire: Http2) -> None:
    """Ask, and let the answer have no room (a window of zero)."""
    wire.send_frame(frame.SettingsFrame(0, settings={4: 0}))
    ask()(wire)
