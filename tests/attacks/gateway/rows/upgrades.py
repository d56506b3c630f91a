"""Ways out of HTTP: once a connection is something else, nobody checks what is said on it."""

from attacks.gateway.exchange import CLOSED, PREFACE
from attacks.gateway.rows.row import DIGITS, Row, ask, post

WEBSOCKET = (
    "upgrade: websocket",
    "connection: Upgrade",
    "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
    "sec-websocket-version: 13",
)
H2C = ("upgrade: h2c", "connection: Upgrade, HTTP2-Settings", "http2-settings: AAMAAABkAARAAAAAAAIAAAAA")


def list_rows() -> list[Row]:
    """List HTTP/1.1, then HTTP/2."""
    plain = post("connection: keep-alive")
    extended = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "https"),
        (":path", DIGITS),
        (":authority", "localhost"),
    ]
    return [
        Row("WebSocket", post(*WEBSOCKET, method="GET", body=b"", framing=None), 404, plain),
        Row("WebSocket by POST", post(*WEBSOCKET), 403, plain),
        Row("WebSocket in capitals", post("UPGRADE: WEBSOCKET", "CONNECTION: UPGRADE"), 403, plain),
        Row("h2c", post(*H2C), 200, plain, (b"upgrade", b"http2-settings")),
        Row("h2c without its settings", post("upgrade: h2c", "connection: Upgrade"), 200, plain, (b"upgrade",)),
        Row("h2c for a server that splits lists", post("upgrade: h2c, websocket", "connection: Upgrade"), 403, plain),
        Row("HTTP/2 without asking", PREFACE + bytes(9), 400, plain),
        Row("TLS once more", post("upgrade: TLS/1.0", "connection: Upgrade"), 403, plain),
        Row("an unknown protocol", post("upgrade: evil/1", "connection: Upgrade"), 403, plain),
        Row("HTTP/2: WebSocket", ask(first=extended), CLOSED, ask()),
        Row("HTTP/2: an upgrade", ask(("upgrade", "websocket"), ("connection", "upgrade")), CLOSED, ask()),
    ]
