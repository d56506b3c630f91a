"""The public keys of an OIDC issuer: from a file that is read here, or from a server that Envoy asks.

Envoy fetches them before it takes requests, and again every five minutes. While it has none, every token of the issuer
is refused. While the issuer cannot be reached, those that it had last count on: its outage is not ours, and a token
signed with a key that was withdrawn since then still ends by itself.
"""

import ipaddress
import json
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509

from garrison.errors import ConfigError
from garrison.files import check_unchanged_by_others, read_file
from garrison.gateway.authentication import Oidc

CLUSTER = "issuer"
ALGORITHMS_OF = {  # which algorithms (alg) a key may be for that names none: by its type (kty) and curve (crv)
    ("RSA", None): ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
LEAST_RSA_BITS = 2048
CACHE_S = 300
FETCH_TIMEOUT_S, CONNECT_TIMEOUT_S, RETRY_S = 5, 2, 5
MOST_FETCHES = 64  # at once; a flood of tokens while there are no keys yet must not become one at the issuer
MOST_ANSWER_BYTES = 2**20
_MOST_BYTES = 2**20
_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"


def load_issuer_keys(path: Path, algorithms: Sequence[str]) -> dict[str, Any]:
    """Read an issuer's JSON Web Key Set; only keys for the accepted algorithms are left in it.

    Raises:
        ConfigError: the file is missing or damaged, others can write to it, it holds a private key or a key that is too
            short, or no key in it is for one of the algorithms.
    """
    try:
        keys = json.loads(read_file(path, _MOST_BYTES))["keys"]
        kept = [key for key in keys if _is_accepted(key, algorithms)]
    except OSError as error:
        advice = "see authentication.oidc.jwks_file in gateway.yaml"
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); {advice}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{path}: is no JSON Web Key Set; fetch it from the issuer anew") from error
    check_unchanged_by_others(path)
    if any("d" in key or "k" in key for key in keys):
        raise ConfigError(f"{path}: holds a private key; write down the issuer's public keys only")
    if not kept:
        raise ConfigError(f"{path}: holds no key for {', '.join(algorithms)}; see authentication.oidc.algorithms")
    _check_keys(path, kept)
    return {"keys": kept}


def load_issuer_authority(path: Path | None) -> str:
    """Return, in PEM, who may certify the server with the issuer's keys: a file's, or whoever this system trusts.

    Raises:
        ConfigError: the file is missing or holds no certificate, or the system has no list of authorities.
    """
    if path is None:
        found = ssl.get_default_verify_paths()
        path = Path(found.cafile or found.openssl_cafile)
    try:
        data = read_file(path, 4 * _MOST_BYTES)
        x509.load_pem_x509_certificates(data)
    except OSError as error:
        advice = "name a PEM file as authentication.oidc.authority in gateway.yaml"
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); {advice}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: holds no certificate in PEM; see authentication.oidc.authority") from error
    check_unchanged_by_others(path)
    return data.decode("ascii", "replace")


def render_remote_keys(url: str) -> dict[str, Any]:
    """Render where Envoy fetches the keys from, and how often."""
    return {
        "http_uri": {"uri": url, "cluster": CLUSTER, "timeout": f"{FETCH_TIMEOUT_S}s"},
        "cache_duration": f"{CACHE_S}s",
        # Not at a request's cost, and before the first: the listener waits for the first answer, or failure.
        "async_fetch": {"fast_listener": False, "failed_refetch_duration": f"{RETRY_S}s"},
    }


def render_issuer_cluster(oidc: Oidc, authority: str) -> dict[str, Any]:
    """Render the server with the issuer's keys: TLS to exactly that name, certified by `authority`."""
    parts = urlsplit(oidc.jwks_url or "")
    host, port = parts.hostname or "", parts.port or 443
    is_address = _is_address(host)
    name = {"san_type": "IP_ADDRESS" if is_address else "DNS", "matcher": {"exact": host}}
    common = {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
        "validation_context": {"trusted_ca": {"inline_string": authority}, "match_typed_subject_alt_names": [name]},
    }
    tls = {"@type": _TLS, "common_tls_context": common, **({} if is_address else {"sni": host})}
    address = {"socket_address": {"address": host, "port_value": port}}
    room = {"max_connections": MOST_FETCHES, "max_pending_requests": MOST_FETCHES, "max_requests": MOST_FETCHES}
    return {
        "name": CLUSTER,
        "type": "STATIC" if is_address else "LOGICAL_DNS",
        "dns_lookup_family": "ALL",  # tries one address after the other
        "connect_timeout": f"{CONNECT_TIMEOUT_S}s",
        "per_connection_buffer_limit_bytes": MOST_ANSWER_BYTES,
        "load_assignment": {
            "cluster_name": CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
        "circuit_breakers": {"thresholds": [{**room, "max_retries": 1}]},
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
    }


def _is_accepted(key: dict[str, Any], algorithms: Sequence[str]) -> bool:
    if key.get("use", "sig") != "sig" or "verify" not in key.get("key_ops", ["verify"]):
        return False
    named = key.get("alg")
    possible = (named,) if named is not None else ALGORITHMS_OF.get((key["kty"], key.get("crv")), ())
    return any(algorithm in algorithms for algorithm in possible)


def _check_keys(path: Path, keys: Sequence[dict[str, Any]]) -> None:
    import jwt
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    for key in keys:
        try:
            public = jwt.PyJWK(key).key
        except jwt.PyJWTError as error:
            raise ConfigError(f"{path}: key {key.get('kid')!r} is damaged ({error}); fetch the file anew") from error
        if isinstance(public, RSAPublicKey) and public.key_size < LEAST_RSA_BITS:
            raise ConfigError(
                f"{path}: key {key.get('kid')!r} has fewer than {LEAST_RSA_BITS} bits; ask for longer ones"
            )


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
