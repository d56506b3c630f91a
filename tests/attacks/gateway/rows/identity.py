"""Headers by which somebody wants to be somebody else, in every spelling; each twin has the header that is nobody's.

A header that only has to be ignored is: the request goes through as its sender's, and without the header.
"""

from attacks.gateway.exchange import CLOSED, Http2
from attacks.gateway.rows.row import KEY, Row, Steps, ask, chunks, post, pseudo

FORGED = "forged-name"
IGNORED = {
    "as it is": [f"x-garrison-client: {FORGED}"],
    "capitals": [f"X-GARRISON-CLIENT: {FORGED}"],
    "mixed case": [f"x-GaRRisoN-cLiEnT: {FORGED}"],
    "twice": [f"x-garrison-client: {FORGED}", f"x-garrison-client: {FORGED}"],
    "twice, once as the truth": ["x-garrison-client: demo", f"x-garrison-client: {FORGED}"],
    "joined by a comma": [f"x-garrison-client: demo, {FORGED}"],
    "no space": [f"x-garrison-client:{FORGED}"],
    "tabs around": [f"x-garrison-client:\t{FORGED}\t"],
    "scopes": [f"x-garrison-scopes: {FORGED}:predict"],
    "anything of ours": [f"x-garrison-way: {FORGED}", f"x-garrison-reason: {FORGED}"],
    "Envoy's internal headers": [f"x-envoy-internal: {FORGED}", f"x-envoy-external-address: {FORGED}"],
    "Envoy's routing headers": [f"x-envoy-original-path: /{FORGED}", f"x-envoy-original-host: {FORGED}"],
    "Envoy's retries": [f"x-envoy-retry-on: 5xx,{FORGED}", "x-envoy-max-retries: 50"],
    "a client certificate": [f"x-forwarded-client-cert: By=spiffe://{FORGED};Hash=0;URI=spiffe://{FORGED}"],
    "addresses": [f"x-forwarded-for: 127.0.0.1, {FORGED}", f"forwarded: for={FORGED}", f"x-real-ip: {FORGED}"],
    "a host": [f"x-forwarded-host: {FORGED}", f"x-forwarded-proto: {FORGED}", f"x-host: {FORGED}"],
    "a request id": [f"x-request-id: {FORGED}"],
    "a login of other proxies": [f"x-remote-user: {FORGED}", f"x-authenticated-user: {FORGED}"],
    "an Authorization beside the key": [f"authorization: Bearer {FORGED}"],
    "a cookie": [f"cookie: client={FORGED}"],
    "what TorchServe obeys": [f"explain: {FORGED}", f"describe: {FORGED}"],
    "a hop-by-hop header of ours": ["connection: x-garrison-client"],
    "a hop-by-hop header among others": ["connection: keep-alive, x-garrison-client"],
    "folded": [f"x-garrison-client:\r\n {FORGED}"],
    "folded into another": [f"x: y\r\n x-garrison-client: {FORGED}"],
    "behind a bare CR": [f"x: y\rx-garrison-client: {FORGED}"],
}
KEPT_AS_A_VALUE = {
    "folded into what goes on": f"accept: y\r\n x-garrison-client: {FORGED}",
    "behind a bare CR in what goes on": f"accept: y\rx-garrison-client: {FORGED}",
}
MALFORMED = {
    "underscores": f"x_garrison_client: {FORGED}",
    "one underscore": f"x-garrison_client: {FORGED}",
    "space before the colon": f"x-garrison-client : {FORGED}",
    "tab before the colon": f"x-garrison-client\t: {FORGED}",
    "space inside": f"x-garrison -client: {FORGED}",
    "a NUL behind the name": f"x-garrison-client\0: {FORGED}",
    "a line feed behind the name": f"x-garrison-client\n: {FORGED}",
    "another alphabet": f"x-garrison-cl\xefent: {FORGED}",
    "no name": f": {FORGED}",
    "no colon": f"x-garrison-client {FORGED}",
    "behind a NUL": f"x: y\0x-garrison-client: {FORGED}",
}
NOBODYS = "x-other-client: demo"


def list_rows() -> list[Row]:
    """List what is ignored first, then what is no request, then trailers and HTTP/2."""
    absent = (FORGED.encode(), b"connection", b"x-api-key")
    trailer = f"x-garrison-client: {FORGED}\r\n".encode()
    return [
        *(Row(name, post(*lines), 200, post(NOBODYS), absent) for name, lines in IGNORED.items()),
        *(
            Row(
                name, post(line), 200, post("accept: y"), (b"\nx-garrison-client: f", b"\rx-garrison", b"\n x-garrison")
            )
            for name, line in KEPT_AS_A_VALUE.items()
        ),
        *(Row(name, post(line), 400, post(NOBODYS)) for name, line in MALFORMED.items()),
        Row("before the key", post(KEY, key=f"x-garrison-client: {FORGED}"), 200, post(KEY, key=NOBODYS), absent),
        Row("a key that is hop by hop", post("connection: x-api-key"), 401, post("connection: keep-alive")),
        Row(
            "in a trailer",
            post(framing="transfer-encoding: chunked", body=chunks(b"x", end=b"0\r\n" + trailer + b"\r\n")),
            200,
            post(framing="transfer-encoding: chunked", body=chunks(b"x")),
            absent,
        ),
        Row("HTTP/2: as it is", ask(("x-garrison-client", FORGED)), 200, ask(("x-other-client", "demo")), absent),
        Row("HTTP/2: capitals", ask(("X-Garrison-Client", FORGED)), CLOSED, ask(("x-other", "y"))),
        Row("HTTP/2: underscores", ask(("x_garrison_client", FORGED)), "reset INTERNAL_ERROR", ask(("x-other", "y"))),
        Row(
            "HTTP/2: in a trailer",
            _with_trailers(("x-garrison-client", FORGED)),
            200,
            _with_trailers(("x", "y")),
            absent,
        ),
    ]


def _with_trailers(*fields: tuple[str, str]) -> Steps:
    def steps(wire: Http2) -> None:
        wire.headers([*pseudo(), ("x-api-key", "<key>")], end=False)
        wire.data(b"x", end=False)
        wire.headers(fields)

    return steps
