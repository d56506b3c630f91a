"""Several requests in one breath: what stands behind a refused one is not answered as something that it isn't.

A gateway that answers before it has read a body must not take the rest of that body for the next request.
"""

from attacks.gateway.exchange import CLOSED
from attacks.gateway.rows.row import Row, post

LIMIT = 64 * 1024


def list_rows() -> list[Row]:
    """List what hides behind a refusal, what hides in a body, and what follows a good request."""
    good, two = post(), post() + post()
    management = post(path="/models", method="GET", body=b"")
    return [
        Row("behind one without a key", post(key=None) + good, (401, CLOSED), two, twins=2),
        Row("behind one to nowhere", post(path="/models") + good, (404, CLOSED), two, twins=2),
        Row("behind one that is none", post("x: \0") + good, (400, CLOSED), two, twins=2),
        Row(
            "behind one of two lengths",
            post("content-length: 9", framing="content-length: 1") + good,
            (400, CLOSED),
            two,
            twins=2,
        ),
        Row(
            "behind one that is too large",
            post(body=bytes(LIMIT + 1) + good),
            (413, CLOSED),
            post(body=bytes(100) + good),
        ),
        Row("in the body of one without a key", post(key=None, body=good), (401, CLOSED), post(body=good)),
        Row("in the body of a GET", post(method="GET", body=management), (404, CLOSED), post(body=management)),
        Row(
            "in the body of an upgrade",
            post("upgrade: websocket", "connection: upgrade", body=good),
            (403, CLOSED),
            post(body=good),
        ),
        Row("behind a good one: no key", good + post(key=None), (200, 401), two, twins=2),
        Row("behind a good one: management", good + management, (200, 404), two, twins=2),
        Row("behind a good one: nothing", good + b"nonsense\r\n\r\n", (200, 400, CLOSED), two, twins=2),
        Row(
            "behind the last chunk",
            post(framing="transfer-encoding: chunked", body=b"1\r\nx\r\n0\r\n\r\nnonsense\r\n\r\n"),
            (200, 400),
            two,
            twins=2,
        ),
        Row("behind a goodbye", post("connection: close") + good, (200, CLOSED), two, twins=2),
        Row("an expectation without a key", post("expect: 100-continue", key=None), (100, 401), post("accept: */*")),
        Row("an expectation of nonsense", post("expect: 200-ok"), (200,), post("accept: */*"), (b"expect",)),
        Row("another model's answer", post() + post(path="/predictions/faces"), (200, 403), two, twins=2),
    ]
