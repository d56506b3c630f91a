"""Keys: one that is good, and every way in which another is not.

Each forgery changes one thing about a key that is good, so that nothing else can be what it is refused for.
"""

import base64
import hmac
import json
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from garrison.gateway import keys
from garrison.gateway.clients import make_scopes
from garrison.gateway.ledger import Revoked, write_revoked

ORDER_P256 = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
HOUR_S = 3600
PUBLIC = serialization.PublicFormat.SubjectPublicKeyInfo


class Forge:
    """Everything that is known about keys: the signing key, a good key's header and claims."""

    def __init__(self, directory: Path) -> None:
        pem = (directory / keys.PRIVATE_FILE).read_bytes()
        loaded = serialization.load_pem_private_key(pem, None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)
        self.private = loaded
        self.directory = directory
        self.good = self.issue("demo", "digits")
        self.head: dict[str, Any] = jwt.get_unverified_header(self.good)
        self.claims: dict[str, Any] = jwt.decode(self.good, options={"verify_signature": False})
        self.jwk = keys.public_jwks(directory)["keys"][0]

    def issue(self, client: str, *models: str, verbs: Sequence[str] = ("predict",), ago_s: float = 0) -> str:
        """Issue a key as `garrison keys issue` does."""
        began, scopes = datetime.now(UTC) - timedelta(seconds=ago_s), make_scopes(models, verbs)
        return keys.issue_key(self.directory, client, scopes, timedelta(seconds=HOUR_S), now=began).token

    def revoke(self, token: str) -> str:
        """Say that a key counts no more, as somebody does from whom it was stolen."""
        claims = jwt.decode(token, options={"verify_signature": False})
        ends, now = datetime.fromtimestamp(claims["exp"], UTC), datetime.now(UTC)
        one = Revoked(claims["jti"], claims["sub"], ends, now, "stolen")
        write_revoked(self.directory, [*keys.revoked_keys(self.directory), one])
        return token

    def sign(self, head: dict[str, Any] | None = None, private: Any = None, **claims: Any) -> str:
        """Sign with ES256, by the right key unless another is given; a claim given as None is left out."""
        return self.sign_text(json.dumps(self.change(claims)), head, private)

    def sign_text(self, claims: str, head: dict[str, Any] | None = None, private: Any = None) -> str:
        signed = f"{encode_json({**self.head, **(head or {})})}.{encode(claims.encode())}"
        der = (private or self.private).sign(signed.encode(), ec.ECDSA(hashes.SHA256()))
        return f"{signed}.{encode(raw_signature(*decode_dss_signature(der)))}"

    def change(self, claims: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in {**self.claims, **claims}.items() if value is not None}

    def unsigned(self, algorithm: str) -> str:
        return f"{encode_json({**self.head, 'alg': algorithm})}.{encode_json(self.claims)}."

    def hmac_signed(self, secret: bytes, algorithm: str = "HS256", **head: Any) -> str:
        signed = f"{encode_json({**self.head, 'alg': algorithm, **head})}.{encode_json(self.claims)}"
        return f"{signed}.{encode(hmac.digest(secret, signed.encode(), f'sha{algorithm[2:]}'))}"

    def public(self, encoding: serialization.Encoding) -> bytes:
        return self.private.public_key().public_bytes(encoding, PUBLIC)

    def resigned(self, change: Callable[[int, int], bytes]) -> str:
        """Write a good key's signature in another way."""
        signed, _, signature = self.good.rpartition(".")
        raw = base64.urlsafe_b64decode(signature + "==")
        return f"{signed}.{encode(change(int.from_bytes(raw[:32]), int.from_bytes(raw[32:])))}"


def forge_keys(directory: Path) -> dict[str, str]:
    """Return keys by the names that rows use; `key` and `neighbour` are good, and so is `other model`, elsewhere."""
    forge = Forge(directory)
    return {
        "key": forge.good,
        "neighbour": forge.issue("neighbour", "digits", "faces"),
        "other model": forge.issue("neighbour", "faces"),
        "faces": forge.issue("demo", "faces"),
        "unlisted": forge.issue("mallory", "digits"),
        "other verb": forge.issue("demo", "digits", verbs=["explain", "describe"]),
        "stolen": forge.revoke(forge.issue("demo", "digits")),
        "stolen, written anew": forge.revoke(forge.issue("demo", "digits")).replace(".", "=.", 1),
        **_out_of_date(forge),
        **_without_a_signature(forge),
        **_by_another_key(forge),
        **_of_other_claims(forge),
        **_of_another_form(forge),
    }


def _out_of_date(forge: Forge) -> dict[str, str]:
    now = int(time.time())
    return {
        "expired": forge.issue("demo", "digits", ago_s=HOUR_S + 30),
        "expired long ago": forge.sign(iat=1, nbf=1, exp=2),
        "future": forge.sign(nbf=now + 300),
        "no expiry": forge.sign(exp=None),
        "expiry as text": forge.sign(exp=str(now + HOUR_S)),
        "expiry below zero": forge.sign(exp=-1),
        "ten years": forge.sign(exp=now + 10 * 365 * 24 * HOUR_S),
        "for ever": forge.sign(exp=2**62),
        "for ever and a second": forge.sign(exp=2**63 - 1),
    }


def _without_a_signature(forge: Forge) -> dict[str, str]:
    head, claims, _ = forge.good.split(".")
    return {
        "none": forge.unsigned("none"),
        "None": forge.unsigned("None"),
        "nOnE": forge.unsigned("nOnE"),
        "empty algorithm": forge.unsigned(""),
        "signature cut off": f"{head}.{claims}.",
        "two parts": f"{head}.{claims}",
        "signature of zeros": forge.resigned(lambda r, s: bytes(64)),  # CVE-2022-21449
        "signature of the order": forge.resigned(lambda r, s: raw_signature(ORDER_P256, ORDER_P256)),
        "signature in DER": forge.resigned(encode_dss_signature),
        "signature cut short": forge.resigned(lambda r, s: raw_signature(r, s)[:-1]),
    }


def _by_another_key(forge: Forge) -> dict[str, str]:
    own = ec.generate_private_key(ec.SECP256R1())
    own_jwk = {**jwt.algorithms.ECAlgorithm.to_jwk(own.public_key(), as_dict=True), "kid": "mine", "alg": "ES256"}
    own_rsa = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem, der = forge.public(serialization.Encoding.PEM), forge.public(serialization.Encoding.DER)
    certificate = base64.b64encode(own.public_key().public_bytes(serialization.Encoding.DER, PUBLIC)).decode()
    return {
        "another signer": forge.sign(private=own),
        "hmac of the public PEM": forge.hmac_signed(pem),
        "hmac of the public DER": forge.hmac_signed(der),
        "hmac of the public JWK": forge.hmac_signed(json.dumps(forge.jwk).encode()),
        "hmac 512 of the public PEM": forge.hmac_signed(pem, "HS512"),
        "hmac of nothing": forge.hmac_signed(b""),
        "kid of a file": forge.hmac_signed(b"", kid="../../../../../../dev/null"),
        "kid of a query": forge.hmac_signed(b"x", kid="none' UNION SELECT 'x"),
        "kid of a command": forge.sign({"kid": "| cp /dev/null key"}, own),
        "kid of another": forge.sign({"kid": "mine"}, own),
        "no kid": forge.sign({"kid": None}, own),
        "jwk": forge.sign({"jwk": own_jwk, "kid": "mine"}, own),
        "jku": forge.sign({"jku": "https://localhost/jwks.json", "kid": "mine"}, own),
        "x5u": forge.sign({"x5u": "https://localhost/own.pem", "kid": "mine"}, own),
        "x5c": forge.sign({"x5c": [certificate]}, own),
        "rsa": jwt.encode(forge.claims, own_rsa, algorithm="RS256", headers={"kid": forge.head["kid"]}),
        "es384": jwt.encode(
            forge.claims, ec.generate_private_key(ec.SECP384R1()), algorithm="ES384", headers={"kid": forge.head["kid"]}
        ),
    }


def _of_other_claims(forge: Forge) -> dict[str, str]:
    head, _, signature = forge.issue("neighbour", "faces").split(".")
    return {
        "altered": f"{head}.{encode_json(forge.claims)}.{signature}",
        "another issuer": forge.sign(iss="other"),
        "no issuer": forge.sign(iss=None),
        "another audience": forge.sign(aud="other"),
        "no audience": forge.sign(aud=None),
        "longer audience": forge.sign(aud="garrison-gateway.evil.example"),
        "nobody": forge.sign(sub=None),
        "longer name": forge.sign(sub="demo2"),
        "list of names": forge.sign(sub=["demo", "neighbour"]),
        "any name": forge.sign(sub="*"),
        "scopes as text": forge.sign(scopes="digits:predict"),
        "scopes as a mapping": forge.sign(scopes={"digits:predict": True}),
        "no scopes": forge.sign(scopes=None),
        "any scope": forge.sign(scopes=["*", "*:*", "digits:*", "digits", "digits:"]),
        "longer scopes": forge.sign(scopes=["xdigits:predict", "digits:predictx", "digits:predict digits"]),
        "no id": forge.sign(jti=None),
        "id as a number": forge.sign(jti=0),
    }


def _of_another_form(forge: Forge) -> dict[str, str]:
    head, claims, signature = forge.good.split(".")
    return {
        "five parts": f"{head}.{claims}.{signature}.{claims}.{signature}",
        "as an object": json.dumps({"protected": head, "payload": claims, "signature": signature}),
        "claims that are no JSON": forge.sign_text("demo"),
        "claims that are a list": forge.sign_text(json.dumps([forge.claims])),
        "deep claims": forge.sign_text("[" * 500 + "]" * 500),
    }


def raw_signature(r: int, s: int) -> bytes:
    return r.to_bytes(32) + s.to_bytes(32)


def encode_json(value: dict[str, Any]) -> str:
    return encode(json.dumps({name: part for name, part in value.items() if part is not None}).encode())


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
