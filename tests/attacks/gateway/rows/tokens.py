"""Tokens of an OIDC issuer that are old, forged, for somebody else or in the wrong place; the twins bring a good one.

These go to a gateway that accepts such tokens, client certificates, and for the model `faces` a certificate and a key.
"""

from attacks.gateway.rows.row import DIGITS, Row, ask, post

GOOD = "authorization: Bearer <token>"
UNAUTHENTICATED = (
    "expired token", "future token", "token without expiry", "token of another signer", "token of another issuer",
    "token of a longer issuer", "token of an issuer like ours", "token without an issuer", "token of two subjects",
    "token by hmac of the public PEM", "token by hmac of the public DER", "token by hmac of the public JWK",
    "token of no algorithm", "token that says ES256 of RSA", "token of another padding", "token of another curve",
)  # fmt: skip
FORBIDDEN = (
    "token for another audience", "token for a longer audience", "token without an audience", "token of nobody",
    "token without a subject", "token of a client's name", "token of a subject in another case",
    "token for another model", "token for another verb", "token of scopes without our prefix",
    "token of a longer scope", "token of all scopes", "token without scopes",
)  # fmt: skip
PLACES = {
    "no token": post(key=None),
    "token in the query": post(path=f"{DIGITS}?access_token=<token>", key=None),
    "token in the body": post(key=None, body=b"access_token=<token>"),
    "token in a cookie": post(key="cookie: access_token=<token>"),
    "token as a key": post(key="x-api-key: <token>"),
    "key as a token": post(key="authorization: Bearer <key>"),
    "key where none is enough": post(),
    "token for Basic authentication": post(key="authorization: Basic <token>"),
    "token in small letters": post(key="authorization: bearer <token>"),
    "token without Bearer": post(key="authorization: <token>"),
    "token of a proxy": post(key="proxy-authorization: Bearer <token>"),
    "two tokens": post("authorization: Bearer <neighbour's token>", key=GOOD),
    "two tokens in one line": post(key="authorization: Bearer <token>, Bearer <neighbour's token>"),
    "good token, then a bad one": post("authorization: Bearer <token of another signer>", key=GOOD),
    "bad token, then a good one": post(GOOD, key="authorization: Bearer <token of another signer>"),
    "bad key beside a good token": post("x-api-key: <another signer>", key=GOOD),
    "stolen key beside a good token": post("x-api-key: <stolen>", key=GOOD),
}


def list_rows() -> list[Row]:
    """List tokens first, then places."""
    twin = post(key=GOOD)
    return [
        *(Row(name, post(key=f"authorization: Bearer <{name}>"), 401, twin) for name in UNAUTHENTICATED),
        *(Row(name, post(key=f"authorization: Bearer <{name}>"), 403, twin) for name in FORBIDDEN),
        *(Row(name, attack, 401, twin) for name, attack in PLACES.items()),
        Row("key of another client beside a token", post("x-api-key: <neighbour>", key=GOOD), 403, twin),
        Row(
            "HTTP/2: token of another signer",
            ask(("authorization", "Bearer <token of another signer>"), key=None),
            401,
            ask(("authorization", "Bearer <RSA token>"), key=None),
        ),
    ]
