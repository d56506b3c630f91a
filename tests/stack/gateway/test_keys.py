"""Who may not pass: every key that is not one of ours, in force, and for this model."""

import base64
import hmac
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from garrison.gateway.tokens import CLOCK_SKEW_S
from stack.gateways import (
    DIGITS,
    Gateway,
    Place,
    Seen,
    assert_refused,
    good_claims,
    signed_by_another,
)


def unsigned(place: Place) -> str:
    return jwt.encode(numeric_claims(), None, algorithm="none")


def signed_with_the_public_key(place: Place) -> str:
    """Algorithm confusion: the public key, which anyone may know, used as an HMAC secret."""
    pem = serialization.load_pem_private_key((place.directory / "keys" / "signing.pem").read_bytes(), None)
    public = pem.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    signed = f"{encode({'alg': 'HS256', 'typ': 'JWT'})}.{encode(numeric_claims())}"
    return f"{signed}.{encode_bytes(hmac.digest(public, signed.encode(), 'sha256'))}"


def altered(place: Place) -> str:
    head, _, signature = place.key("narrow", ("faces",)).split(".")
    return f"{head}.{encode(numeric_claims())}.{signature}"


def numeric_claims() -> dict[str, Any]:
    return {k: int(v.timestamp()) if isinstance(v, datetime) else v for k, v in good_claims().items()}


def encode(part: dict[str, Any]) -> str:
    return encode_bytes(json.dumps(part).encode())


def encode_bytes(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


BAD_KEYS: dict[str, Callable[[Place], str]] = {
    "empty": lambda place: "",
    "garbage": lambda place: "not-a-key",
    "three dots": lambda place: "a.b.c",
    "expired": lambda place: place.key(now=datetime.now(UTC) - timedelta(hours=1, seconds=30)),
    "not yet valid": lambda place: place.sign(nbf=datetime.now(UTC) + timedelta(minutes=5)),
    "without expiry": lambda place: place.sign(exp=None),
    "for ten years": lambda place: place.sign(exp=datetime.now(UTC) + timedelta(days=3650)),
    "another issuer": lambda place: place.sign(iss="other"),
    "another signer": signed_by_another,
    "algorithm none": unsigned,
    "algorithm confusion": signed_with_the_public_key,
    "altered claims": altered,
    "without an id": lambda place: place.sign(jti=None),
    "with a number as its id": lambda place: place.sign(jti=7),
}


@pytest.mark.parametrize("make", BAD_KEYS.values(), ids=BAD_KEYS.keys())
def test_bad_keys_are_refused(gateway: Gateway, place: Place, seen: list[Seen], make: Callable[[Place], str]) -> None:
    reply = gateway.send("POST", DIGITS, {"x-api-key": make(place)}, b"x")
    assert_refused(reply, 401, seen)
    assert "www-authenticate" not in reply.headers  # Envoy's would repeat the request's host and path


@pytest.mark.parametrize("path", [DIGITS, "/predictions/nosuch", "/predictions/", f"{DIGITS}?x=1", f"{DIGITS}/extra"])
def test_without_a_key_nothing_tells_whether_a_model_exists(gateway: Gateway, seen: list[Seen], path: str) -> None:
    assert_refused(gateway.send("POST", path), 401, seen)


@pytest.mark.parametrize("header", ["authorization: Bearer {}", "cookie: x-api-key={}", "x-api-key2: {}"])
def test_keys_elsewhere_are_not_looked_for(gateway: Gateway, place: Place, seen: list[Seen], header: str) -> None:
    assert_refused(gateway.send("POST", DIGITS, [header.format(place.key())]), 401, seen)


def test_a_good_and_a_bad_key_together_are_refused(gateway: Gateway, place: Place, seen: list[Seen]) -> None:
    both = [f"x-api-key: {place.key()}", f"x-api-key: {signed_by_another(place)}"]
    assert_refused(gateway.send("POST", DIGITS, both), 401, seen)
    assert_refused(gateway.send("POST", DIGITS, both[::-1]), 401, seen)


FORBIDDEN: dict[str, Callable[[Place], str]] = {
    "another audience": lambda place: place.sign(aud="other"),
    "without audience": lambda place: place.sign(aud=None),
    "key for another model": lambda place: place.key("both", ("faces",)),
    "client not listed": lambda place: place.key("mallory"),
    "client listed for another model": lambda place: place.key("narrow", ("digits",)),
    "scopes as one string": lambda place: place.sign(scopes="digits:predict"),
    "no scopes": lambda place: place.sign(scopes=None),
    "scopes in a mapping": lambda place: place.sign(scopes={"digits:predict": "digits:predict"}),
    "a model without a verb": lambda place: place.sign(scopes=["digits", "digits:"]),
    "another verb": lambda place: place.sign(scopes=["digits:explain", "digits:describe"]),
    "models, as keys had them once": lambda place: place.sign(scopes=None, models=["digits"]),
    "name that contains a listed one": lambda place: place.sign(sub="demo2"),
    "model that contains the name": lambda place: place.sign(
        scopes=["digits2:predict", "xdigits:predict", "*:predict", "*"]
    ),
}


@pytest.mark.parametrize("make", FORBIDDEN.values(), ids=FORBIDDEN.keys())
def test_valid_keys_are_good_for_what_they_say_only(
    gateway: Gateway, place: Place, seen: list[Seen], make: Callable[[Place], str]
) -> None:
    assert_refused(gateway.send("POST", DIGITS, {"x-api-key": make(place)}, b"x"), 403, seen)


def test_a_client_taken_out_learns_no_models(gateway: Gateway, place: Place, seen: list[Seen]) -> None:
    assert_refused(gateway.send("POST", "/predictions/nosuch", {"x-api-key": place.key("mallory")}, b"x"), 403, seen)


@pytest.mark.parametrize(
    "names",
    [
        ["x-garrison-client"],
        ["X-Garrison-Client"],
        ["x-garrison-client"] * 2,
        ["x-garrison-scopes", "X-GARRISON-Reason"],
    ],
    ids=str,
)
def test_identity_headers_from_outside_do_not_survive(
    gateway: Gateway, place: Place, seen: list[Seen], names: list[str]
) -> None:
    spoof = [f"{name}: both" for name in names]
    assert gateway.send("POST", DIGITS, [*spoof, f"x-api-key: {place.key()}", *spoof], b"x").status == 200
    ours = [(name, value) for name, value in seen[0].headers if name.startswith("x-garrison")]
    assert ours == [("x-garrison-client", "demo")]
    gateway.send("GET", "/healthz", spoof)
    assert not [name for name, _ in place.readiness.seen[0].headers if name.startswith("x-garrison")]


def test_identity_headers_with_underscores_are_refused(gateway: Gateway, place: Place, seen: list[Seen]) -> None:
    reply = gateway.send("POST", DIGITS, {"X_Garrison_Client": "both", "x-api-key": place.key()}, b"x")
    assert_refused(reply, 400, seen)


def test_a_key_that_was_good_a_moment_ago_expires_all_the_same(
    gateway: Gateway, place: Place, seen: list[Seen]
) -> None:
    """The gateway remembers keys that it has verified; it must not remember them for longer than they are valid."""
    key = {"x-api-key": place.key(now=datetime.now(UTC) - timedelta(hours=1) + timedelta(seconds=3))}
    assert gateway.send("POST", DIGITS, key).status == 200
    time.sleep(3 + CLOCK_SKEW_S + 1)
    seen.clear()
    assert_refused(gateway.send("POST", DIGITS, key), 401, seen)
