"""HTTP/2 in front, HTTP/1.1 behind: what is one value in a frame can be several lines in text.

After Kettle, "HTTP/2: The Sequel is Always Worse", 2021; RFC 9113, 8.2 and 8.3, forbids all of it.
"""

from attacks.gateway.exchange import CLOSED
from attacks.gateway.rows.row import DIGITS, Row, ask, pseudo

FORGED = b"x-garrison-client: forged"
VALUES = {
    "CRLF": b"a\r\n" + FORGED,
    "LF": b"a\n" + FORGED,
    "CR": b"a\r" + FORGED,
    "NUL": b"a\0b",
    "CRLF CRLF": b"a\r\n\r\nGET /hidden HTTP/1.1\r\nhost: a",
}
NAMES = {
    "CRLF": b"a: b\r\nx-garrison-client",
    "LF": b"a: b\nx-garrison-client",
    "NUL": b"a\0",
    "colon": b"a:b",
    "space": b"a b",
    "empty": b"",
    "capitals": b"Transfer-Encoding",
}
HOP_BY_HOP = {
    "transfer-encoding": "chunked",
    "connection": "keep-alive",
    "keep-alive": "timeout=5",
    "proxy-connection": "keep-alive",
    "upgrade": "h2c",
    "te": "gzip",
}
LENGTHS = {
    "two": [("content-length", "1"), ("content-length", "2")],
    "text": [("content-length", "x")],
    "negative": [("content-length", "-1")],
    "a list": [("content-length", "1, 1")],
    "plus": [("content-length", "+1")],
}


PSEUDO = {
    "CRLF in the path": pseudo(path=DIGITS.encode() + b" HTTP/1.1\r\nexplain: True\r\nx: y"),
    "space in the path": pseudo(path=f"{DIGITS} HTTP/1.1"),
    "NUL in the path": pseudo(path=f"{DIGITS}\0"),
    "tab in the path": pseudo(path=f"{DIGITS}\t"),
    "CRLF in the method": pseudo(method=b"POST / HTTP/1.1\r\nx: y\r\n\r\nPOST"),
    "space in the method": pseudo(method="POST /models HTTP/1.1"),
    "CRLF in the authority": pseudo(authority=b"localhost\r\n" + FORGED),
    "CRLF in the scheme": pseudo(scheme=b"https\r\n" + FORGED),
    "a scheme that is a URL": pseudo(scheme="https://localhost/models?"),
    "no path": pseudo(path=None),
    "empty path": pseudo(path=""),
    "no method": pseudo(method=None),
    "empty method": pseudo(method=""),
    "no scheme": pseudo(scheme=None),
    "two paths": [*pseudo(), (":path", "/models")],
    "two methods": [*pseudo(), (":method", "DELETE")],
    "two authorities": [*pseudo(), (":authority", "evil.example")],
    "an unknown one": [*pseudo(), (":evil", "y")],
    "one of answers": [*pseudo(), (":status", "200")],
    "one behind a header": [*pseudo(path=None), ("x", "y"), (":path", DIGITS)],
    "a name in front of the authority": pseudo(authority="user@localhost"),
}


def list_rows() -> list[Row]:
    """List values, names, connection headers, lengths and pseudo-headers."""
    return [
        *(Row(f"value: {name}", ask(("x", value)), CLOSED, ask(("x", b"a b"))) for name, value in VALUES.items()),
        *(
            Row(f"name: {name}", ask((field.decode("latin-1"), "y")), CLOSED, ask(("a-b", "y")))
            for name, field in NAMES.items()
        ),
        *(
            Row(f"{name}: {value}", ask((name, value)), CLOSED, ask(("te", "trailers")))
            for name, value in HOP_BY_HOP.items()
        ),
        *(
            Row(f"content-length: {name}", ask(*fields), CLOSED, ask(("content-length", "1")))
            for name, fields in LENGTHS.items()
        ),
        *(
            Row(
                f"content-length: {name}",
                ask(("content-length", length)),
                "reset PROTOCOL_ERROR",
                ask(("content-length", "1")),
            )
            for name, length in {"more than there is": "9", "less than there is": "0"}.items()
        ),
        Row(
            "a host that is another", ask(("host", "evil.example")), 200, ask(("host", "localhost")), (b"evil.example",)
        ),
        *(Row(f"pseudo-header: {name}", ask(first=fields), CLOSED, ask()) for name, fields in PSEUDO.items()),
    ]
