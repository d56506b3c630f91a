"""What callers are verified with: which files are read, what of them is used, and what stops the rendering."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from garrison.errors import ConfigError
from garrison.gateway import keys
from garrison.gateway.settings import GatewaySettings, load_gateway
from garrison.gateway.verification import load_verification, verification_files
from stack.authorities import Authority, make_authority
from stack.issuers import MAKERS, Issuer

OIDC = "oidc: {issuer: i, audience: a, %s}"


def settings(directory: Path, accept: str, *sections: str) -> GatewaySettings:
    path = directory / "gateway.yaml"
    path.write_text("\n  ".join(["authentication:", f"accept: [{accept}]", *sections]) + "\n")
    return load_gateway(path)


# Keys -----------------------------------------------------------------------------------------------------------------


def test_public_keys_and_revocations_are_read_where_keys_are_accepted(tmp_path: Path) -> None:
    keys.init_keys(tmp_path / "keys")
    found = load_verification(settings(tmp_path, "key"), tmp_path)
    assert (found.jwks, found.revoked_keys) == (keys.public_jwks(tmp_path / "keys"), ())
    (tmp_path / "keys" / "revoked.json").unlink()
    with pytest.raises(ConfigError, match=r"revoked\.json"):
        load_verification(settings(tmp_path, "key"), tmp_path)


def test_where_no_way_needs_keys_there_need_be_none(tmp_path: Path) -> None:
    (tmp_path / "clients.pem").write_bytes(make_authority("clients").pem())
    found = load_verification(settings(tmp_path, "mtls", "mtls: {authority: clients.pem}"), tmp_path)
    assert found.jwks == {"keys": []} and found.clients is not None


def test_what_has_to_be_watched_is_what_is_read(tmp_path: Path) -> None:
    parts = (OIDC % "jwks_file: issuer.json", "mtls: {authority: clients.pem, revoked: crl.pem}")
    files = verification_files(settings(tmp_path, "key, oidc, mtls", *parts), tmp_path)
    names = ["keys/jwks.json", "keys/revoked.json", "issuer.json", "clients.pem", "crl.pem"]
    assert files == tuple(tmp_path / name for name in names)
    assert verification_files(settings(tmp_path, "key"), tmp_path) == files[:2]


# The issuer's keys ----------------------------------------------------------------------------------------------------


def load_issuer(directory: Path, published: Any, algorithms: str = "ES256, RS256") -> Any:
    (directory / "issuer.json").write_text(published if isinstance(published, str) else json.dumps(published))
    section = OIDC % f"jwks_file: issuer.json, algorithms: [{algorithms}]"
    return load_verification(settings(directory, "oidc", section), directory).oidc_jwks


@pytest.mark.parametrize("named", [True, False], ids=["named", "not named"])
def test_only_keys_for_the_accepted_algorithms_are_used(tmp_path: Path, named: bool) -> None:
    issuer = Issuer({algorithm: make() for algorithm, make in MAKERS.items()})
    published = issuer.public(named=named)
    used = load_issuer(tmp_path, published, "ES256, EdDSA")
    wanted = [key for key in published["keys"] if key["kty"] == "OKP" or key.get("crv") == "P-256"]
    assert used == {"keys": wanted} and len(wanted) == 2


@pytest.mark.parametrize("change", [{"use": "enc"}, {"key_ops": ["encrypt"]}, {"alg": "HS256"}], ids=str)
def test_keys_for_something_else_are_not_used(tmp_path: Path, change: dict[str, Any]) -> None:
    (key,) = Issuer().public()["keys"]
    with pytest.raises(ConfigError, match="holds no key for ES256, RS256"):
        load_issuer(tmp_path, {"keys": [{**key, **change}]})


BROKEN: dict[str, Callable[[dict[str, Any]], Any]] = {
    "not JSON": lambda key: "{",
    "no set": lambda key: [key],
    "no keys": lambda key: {"keys": {}},
    "a key that is none": lambda key: {"keys": ["x"]},
    "a key without a type": lambda key: {"keys": [{"kid": "x"}]},
    "a private key": lambda key: {"keys": [{**key, "d": "AAAA"}]},
    "a shared secret": lambda key: {"keys": [key, {"kty": "oct", "k": "AAAA"}]},
    "a point that is on no curve": lambda key: {"keys": [{**key, "x": key["y"]}]},
    "half a key": lambda key: {"keys": [{name: value for name, value in key.items() if name != "x"}]},
    "a short key": lambda key: {"keys": [short_key()]},
    "nothing": lambda key: {"keys": []},
}


def short_key() -> dict[str, Any]:
    public = rsa.generate_private_key(65_537, 1024).public_key()  # noqa: S505 - it is the one that is refused
    return {**RSAAlgorithm.to_jwk(public, as_dict=True), "kid": "short", "alg": "RS256"}


@pytest.mark.parametrize("spoil", BROKEN.values(), ids=BROKEN)
def test_a_set_of_keys_that_is_none_stops_the_rendering(tmp_path: Path, spoil: Callable[[dict[str, Any]], Any]) -> None:
    (key,) = Issuer().public()["keys"]
    with pytest.raises(ConfigError, match=r"issuer\.json"):
        load_issuer(tmp_path, spoil(key))


def test_a_set_that_others_can_write_stops_it(tmp_path: Path) -> None:
    (tmp_path / "issuer.json").touch()
    (tmp_path / "issuer.json").chmod(0o666)
    with pytest.raises(ConfigError, match="chmod go-w"):
        load_issuer(tmp_path, Issuer().public())


def test_a_server_with_keys_is_certified_by_the_named_authority_or_the_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pem = make_authority("issuer's").pem()
    (tmp_path / "authority.pem").write_bytes(pem)
    where = 'jwks_url: "https://login.example/keys"'
    named = settings(tmp_path, "oidc", OIDC % f"{where}, authority: authority.pem")
    assert load_verification(named, tmp_path).oidc_authority == pem.decode()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))  # where the system says that its own are
    assert load_verification(settings(tmp_path, "oidc", OIDC % where), tmp_path).oidc_authority == pem.decode()
    (tmp_path / "authority.pem").write_text("no certificate")
    with pytest.raises(ConfigError, match=r"authority\.pem: holds no certificate"):
        load_verification(named, tmp_path)


# Client certificates --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def root() -> Authority:
    return make_authority("clients")


def load_clients(directory: Path, authorities: bytes, revoked: bytes | None = None) -> Any:
    (directory / "clients.pem").write_bytes(authorities)
    more = ""
    if revoked is not None:
        (directory / "crl.pem").write_bytes(revoked)
        more = ", revoked: crl.pem"
    section = f"mtls: {{authority: clients.pem{more}}}"
    return load_verification(settings(directory, "mtls", section), directory).clients


def test_authorities_and_the_numbers_that_they_revoked(tmp_path: Path, root: Authority) -> None:
    gone = root.issue(tmp_path / "gone.pem", "a.example", serial=0x0A0B0C)
    found = load_clients(tmp_path, root.pem(), root.revoke(gone))
    assert (found.certificates, found.revoked) == (root.pem().decode(), ("a0b0c",))
    assert found.covers_chain


def test_a_chain_is_covered_if_each_authority_has_its_list(tmp_path: Path, root: Authority) -> None:
    lower = root.below("lower")
    both = root.pem() + lower.pem()
    assert not load_clients(tmp_path, both, lower.revoke()).covers_chain
    assert load_clients(tmp_path, both, lower.revoke() + root.revoke()).covers_chain


def test_an_authority_that_is_none_or_has_expired_stops_the_rendering(tmp_path: Path, root: Authority) -> None:
    root.issue(tmp_path / "plain.pem", "a.example")
    for data, said in ((b"x", "no certificate"), ((tmp_path / "plain.pem").read_bytes(), "no certificate authority")):
        with pytest.raises(ConfigError, match=said):
            load_clients(tmp_path, data)
    (tmp_path / "clients.pem").unlink()
    with pytest.raises(ConfigError, match=r"authentication\.mtls\.authority"):
        load_verification(settings(tmp_path, "mtls", "mtls: {authority: clients.pem}"), tmp_path)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda root: b"", "holds no list"),
        (lambda root: root.pem(), "holds no list"),
        (lambda root: root.revoke()[:200] + b"\n-----END X509 CRL-----\n", "is damaged"),
        (lambda root: make_authority("clients").revoke(), "was signed by none of"),
        (lambda root: make_authority("other").revoke(), "was signed by none of"),
        (lambda root: root.revoke(ends=-timedelta(hours=1)), "fetch the next one"),
    ],
    ids=["nothing", "no list", "damaged", "of the same name", "of another authority", "out of date"],
)
def test_a_list_that_is_none_or_out_of_date_stops_the_rendering(
    tmp_path: Path, root: Authority, make: Callable[[Authority], bytes], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        load_clients(tmp_path, root.pem(), make(root))
