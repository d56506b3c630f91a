"""Keys that are old, forged, for somebody else or in the wrong place; each twin brings a good one in the right place.

RFC 8725 (JSON Web Token Best Current Practices) has most of them; CVE-2015-9235 (algorithm confusion), CVE-2018-0114
(`jwk`), CVE-2022-21449 (signatures of zeros).
"""

from attacks.gateway.rows.row import DIGITS, Row, ask, post

UNAUTHENTICATED = (
    "stolen", "stolen, written anew", "no id", "id as a number", "expired", "expired long ago", "future", "no expiry",
    "expiry as text", "expiry below zero", "ten years", "for ever", "for ever and a second", "none", "None", "nOnE",
    "empty algorithm", "signature cut off", "two parts", "signature of zeros", "signature of the order",
    "signature in DER", "signature cut short", "another signer", "hmac of the public PEM", "hmac of the public DER",
    "hmac of the public JWK", "hmac 512 of the public PEM", "hmac of nothing", "kid of a file", "kid of a query",
    "kid of a command", "kid of another", "no kid", "jwk", "jku", "x5u", "x5c", "rsa", "es384", "altered",
    "list of names", "another issuer", "no issuer", "five parts", "as an object", "claims that are no JSON",
    "claims that are a list", "deep claims",
)  # fmt: skip
FORBIDDEN = (
    "another audience", "no audience", "longer audience", "nobody", "longer name", "any name",
    "scopes as text", "scopes as a mapping", "no scopes", "any scope", "longer scopes", "other verb",
    "other model", "unlisted",
)  # fmt: skip
PLACES = {
    "no key": post(key=None),
    "empty key": post(key="x-api-key: "),
    "key in the query": post(path=f"{DIGITS}?x-api-key=<key>", key=None),
    "key in the query as a token": post(path=f"{DIGITS}?access_token=<key>", key=None),
    "key in the path": post(path=f"{DIGITS}/<key>", key=None),
    "key in Authorization": post(key="authorization: Bearer <key>"),
    "key for Basic authentication": post(key="authorization: Basic <key>"),
    "key in a cookie": post(key="cookie: x-api-key=<key>"),
    "key in a header of a similar name": post(key="x-apikey: <key>"),
    "key as a Bearer": post(key="x-api-key: Bearer <expired>"),
    "key in the body": post(key=None, body=b"x-api-key=<key>"),
    "key in a trailer": post(
        key=None, framing="transfer-encoding: chunked", body=b"1\r\nx\r\n0\r\nx-api-key: <key>\r\n\r\n"
    ),
    "good key, then a bad one": post("x-api-key: <another signer>"),
    "bad key, then a good one": post("x-api-key: <key>", key="x-api-key: <another signer>"),
    "two keys in one line": post(key="x-api-key: <key>, <another signer>"),
}


def list_rows() -> list[Row]:
    """List keys first, then places."""
    return [
        *(Row(name, post(key=f"x-api-key: <{name}>"), 401, post()) for name in UNAUTHENTICATED),
        *(Row(name, post(key=f"x-api-key: <{name}>"), 403, post()) for name in FORBIDDEN),
        *(Row(name, attack, 401, post()) for name, attack in PLACES.items()),
        Row("good key for a model that its client may not use", post(key="x-api-key: <faces>"), 403, post()),
        Row("HTTP/2: no key", ask(key=None), 401, ask()),
        Row("HTTP/2: another signer", ask(key="<another signer>"), 401, ask()),
        Row("HTTP/2: key of another model", ask(key="<other model>"), 403, ask()),
    ]
