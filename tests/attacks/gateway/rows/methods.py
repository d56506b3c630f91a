"""Methods that mean something else, say something else, or open something else."""

from attacks.gateway.rows.row import DIGITS, Row, ask, post

NOWHERE = (
    "GET", "HEAD", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "MKCOL", "COPY", "MOVE", "LOCK", "PURGE", "LINK",
)  # fmt: skip
UNKNOWN = ("TRACK", "DEBUG", "QUERY", "post", "Post", "POSTX", "M-SEARCH", "XXXX")  # to Envoy
NAMES = ("x-http-method-override", "x-http-method", "x-method-override")
MALFORMED = {
    "a space": "PO ST",
    "a NUL": "PO\0ST",
    "a separator": "PO(ST)",
    "empty": "",
    "a colon": "POST:",
    "beyond ASCII": "P\xd6ST",
}


def list_rows() -> list[Row]:
    """List methods that are nowhere, then those that hide in a header, then what is none."""
    return [
        *(Row(name, post(method=name, body=b""), 404, post()) for name in NOWHERE),
        *(Row(name, post(method=name, body=b""), 400, post()) for name in UNKNOWN),
        *(Row(name, post(f"{name}: DELETE"), 200, post("x-other: y"), (b"delete",)) for name in NAMES),
        *(
            Row(f"GET, {name}", post(f"{name}: POST", method="GET", body=b""), 404, post("x-other: y"))
            for name in NAMES
        ),
        *(Row(f"not a method: {name}", post(method=method), 400, post()) for name, method in MALFORMED.items()),
        Row("CONNECT", post(method="CONNECT", path="localhost:8081", body=b""), 404, post()),
        Row("CONNECT with a path", post(method="CONNECT", path=DIGITS, body=b""), 400, post()),
        Row("OPTIONS for everything", post(method="OPTIONS", path="*", body=b""), 404, post()),
        Row(
            "OPTIONS of another origin",
            post(
                "origin: https://evil.example",
                "access-control-request-method: POST",
                method="OPTIONS",
                key=None,
                body=b"",
            ),
            401,
            post("origin: https://evil.example"),
        ),
        Row("HTTP/2: TRACE", ask(method="TRACE", body=b""), 404, ask()),
        Row(
            "HTTP/2: CONNECT",
            ask(first=[(":method", "CONNECT"), (":authority", "localhost:8081")], body=b""),
            404,
            ask(),
        ),
    ]
