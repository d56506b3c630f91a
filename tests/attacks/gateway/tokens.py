"""Tokens of an OIDC issuer: one that is good, and every way in which another is not."""

import hmac
import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization

from attacks.gateway.forgeries import PUBLIC, encode, encode_json
from stack.issuers import AUDIENCE, ISSUER, MAKERS, Issuer


def forge_tokens(issuer: Issuer) -> dict[str, str]:
    """Return tokens by the names that rows use; `token` is good, and so is `RSA token`."""
    other = Issuer({"ES256": MAKERS["ES256"]()})
    return {
        "token": issuer.sign("demo-sub"),
        "RSA token": issuer.sign("demo-sub", alg="RS256"),
        "neighbour's token": issuer.sign("neighbour-sub"),
        **_not_valid(issuer, other),
        **_confused(issuer),
        **_for_something_else(issuer),
    }


def _not_valid(issuer: Issuer, other: Issuer) -> dict[str, str]:
    now = int(time.time())
    return {
        "expired token": issuer.sign("demo-sub", exp=now - 60),
        "future token": issuer.sign("demo-sub", nbf=now + 300),
        "token without expiry": issuer.sign("demo-sub", exp=None),
        "token of another signer": other.sign("demo-sub"),
        "token of another issuer": issuer.sign("demo-sub", iss="https://evil.example"),
        "token of a longer issuer": issuer.sign("demo-sub", iss=f"{ISSUER}.evil.example"),
        "token of an issuer like ours": issuer.sign("demo", iss="garrison", aud="garrison-gateway"),
        "token without an issuer": issuer.sign("demo-sub", iss=None),
        "token of two subjects": issuer.sign(["demo-sub", "neighbour-sub"]),  # type: ignore[arg-type]
    }


def _confused(issuer: Issuer) -> dict[str, str]:
    """Return tokens that say another algorithm than their key is for, or is accepted."""
    good = issuer.sign("demo-sub", alg="RS256")
    head: dict[str, Any] = jwt.get_unverified_header(good)
    signed = good.rpartition(".")[0]
    claims = signed.partition(".")[2]
    public = issuer.keys["RS256"].public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, PUBLIC)
    der = public.public_bytes(serialization.Encoding.DER, PUBLIC)
    jwk = json.dumps(issuer.public(named=False)["keys"][1]).encode()

    def hmac_signed(secret: bytes) -> str:
        text = f"{encode_json({**head, 'alg': 'HS256'})}.{claims}"
        return f"{text}.{encode(hmac.digest(secret, text.encode(), 'sha256'))}"

    return {
        "token by hmac of the public PEM": hmac_signed(pem),
        "token by hmac of the public DER": hmac_signed(der),
        "token by hmac of the public JWK": hmac_signed(jwk),
        "token of no algorithm": f"{encode_json({**head, 'alg': 'none'})}.{claims}.",
        "token that says ES256 of RSA": f"{encode_json({**head, 'alg': 'ES256'})}.{claims}.{good.rpartition('.')[2]}",
        "token of another padding": issuer.sign("demo-sub", alg="PS256"),
        "token of another curve": issuer.sign("demo-sub", alg="ES384"),
    }


def _for_something_else(issuer: Issuer) -> dict[str, str]:
    return {
        "token for another audience": issuer.sign("demo-sub", aud="another"),
        "token for a longer audience": issuer.sign("demo-sub", aud=f"{AUDIENCE}.evil.example"),
        "token without an audience": issuer.sign("demo-sub", aud=None),
        "token of nobody": issuer.sign("nobody"),
        "token without a subject": issuer.sign(None),  # type: ignore[arg-type]
        "token of a client's name": issuer.sign("demo"),
        "token of a subject in another case": issuer.sign("DEMO-SUB"),
        "token for another model": issuer.sign("demo-sub", "garrison/faces:predict"),
        "token for another verb": issuer.sign("demo-sub", "garrison/digits:explain"),
        "token of scopes without our prefix": issuer.sign("demo-sub", "digits:predict"),
        "token of a longer scope": issuer.sign("demo-sub", "xgarrison/digits:predict garrison/digits:predicts"),
        "token of all scopes": issuer.sign("demo-sub", "garrison/* garrison/*:* garrison/digits:*"),
        "token without scopes": issuer.sign("demo-sub", None),
    }
