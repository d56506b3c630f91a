"""An OIDC issuer for tests: signs tokens, and publishes its public keys, in a file or from an HTTPS server."""

import http.server
import json
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

ISSUER, AUDIENCE = "https://login.example", "garrison"
SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
MAKERS: dict[str, Callable[[], SigningKey]] = {
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "RS256": lambda: rsa.generate_private_key(65_537, 2048),
    "PS256": lambda: rsa.generate_private_key(65_537, 2048),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}


@dataclass
class Issuer:
    """Signing keys by the algorithm they are for, and what is published of them."""

    keys: dict[str, SigningKey] = field(default_factory=lambda: {"ES256": MAKERS["ES256"]()})

    def rotate(self) -> None:
        """Take new keys, and publish the new ones only."""
        self.keys = {algorithm: MAKERS[algorithm]() for algorithm in self.keys}

    def public(self, *, named: bool = True) -> dict[str, Any]:
        """Return the JSON Web Key Set; `named` says whether the keys name their algorithm."""
        return {"keys": [self._public(algorithm, key, named) for algorithm, key in self.keys.items()]}

    def sign(
        self, subject: str = "a1b2", scope: Any = "garrison/digits:predict", *, alg: str = "ES256", **claims: Any
    ) -> str:
        """Sign a token; a claim given as None is left out."""
        now = datetime.now(UTC)
        given = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": subject,
            "scope": scope,
            "iat": now,
            "exp": now + timedelta(hours=1),
            "jti": "t1",
            **claims,
        }
        chosen = {name: value for name, value in given.items() if value is not None}
        key = self.keys[alg if alg in self.keys else alg.replace("PS", "RS")]
        return jwt.encode(chosen, key, algorithm=alg, headers={"kid": self._kid(key)})

    def _public(self, algorithm: str, key: SigningKey, named: bool) -> dict[str, Any]:
        implementation = get_default_algorithms()[algorithm]
        jwk = implementation.to_jwk(key.public_key(), as_dict=True)  # type: ignore[attr-defined]
        jwk.pop("key_ops", None)
        return {**jwk, "kid": self._kid(key), "use": "sig", **({"alg": algorithm} if named else {})}

    def _kid(self, key: SigningKey) -> str:
        return f"key-{id(key)}"


class KeyServer(http.server.ThreadingHTTPServer):
    """Publishes an issuer's keys over HTTPS; `certificate` is a PEM file with the server's certificate and key."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, issuer: Issuer, certificate: Path, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), KeyHandler)
        self.issuer, self.fetches, self.broken = issuer, 0, False
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
        self.tls = tls
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def finish_request(self, request: Any, client_address: Any) -> None:
        with self.tls.wrap_socket(request, server_side=True) as wrapped:
            super().finish_request(wrapped, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: that who asks does not like the certificate is what is tried."""

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


class KeyHandler(http.server.BaseHTTPRequestHandler):
    server: KeyServer

    def do_GET(self) -> None:
        self.server.fetches += 1
        body = json.dumps(self.server.issuer.public()).encode()
        self.send_response(500 if self.server.broken else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass
