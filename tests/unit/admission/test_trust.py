"""The policy file: what it may say, and that everything that is wrong with it is told at once."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attacks.signed_models import Authority
from garrison.admission.sign import generate_key
from garrison.admission.sign.trust import Authority as TrustedAuthority
from garrison.admission.sign.trust import Identity, PublicKey, Trust, load_trust
from garrison.errors import ConfigError

DAYS = {"valid_from": "2026-01-01", "valid_until": "2027-01-01"}
KEY = {"public_key": "release.pem", "models": ["digits"], **DAYS}


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Trust]:
    """Write a trust.yaml beside a key and an authority's certificate, and read it."""
    generate_key(tmp_path / "trust", "release")
    Authority(tmp_path / "trust", "partner-ca")

    def write(text: str | dict) -> Trust:
        path = tmp_path / "trust" / "trust.yaml"
        path.write_text(text if isinstance(text, str) else json.dumps(text))  # JSON is YAML, without aliases
        path.chmod(0o644)
        return load_trust(tmp_path / "trust")

    return write


def problems(load: Callable[..., Trust], text: str | dict) -> str:
    with pytest.raises(ConfigError) as caught:
        load(text)
    return str(caught.value)


def test_the_shipped_policy_trusts_nobody(repository, tmp_path):
    copy = tmp_path / "trust"
    copy.mkdir(mode=0o755)
    (copy / "trust.yaml").write_bytes((repository / "config/trust/trust.yaml").read_bytes())
    (copy / "trust.yaml").chmod(0o644)
    trust = load_trust(copy)
    assert (trust.keys, trust.revoked_keys, trust.unsafe_development) == ((), frozenset(), False)


def test_the_examples_in_the_shipped_policy_are_good(repository, load):
    text = (repository / "config/trust/trust.yaml").read_text()
    example = "keys:\n" + "\n".join(line[1:] for line in text.splitlines() if line.startswith("#   "))
    kinds = {key.name: type(key.source) for key in load(example).keys}
    assert kinds == {"release-2026": PublicKey, "partner": TrustedAuthority, "ci": Identity}


@pytest.fixture(autouse=True)
def _example_key(request, tmp_path):
    if "examples" in request.node.name:
        request.getfixturevalue("load")
        generate_key(tmp_path / "trust", "release-2026")


def test_the_three_kinds(load):
    trust = load(
        {
            "keys": {
                "release": KEY,
                "partner": {"certificate_chain": "partner-ca.pem", "models": ["partner-*"], "subject": "CN=x", **DAYS},
                "ci": {"identity": "a@b.c", "identity_provider": "https://id.example", "models": ["*"], **DAYS},
            }
        }
    )
    ci, partner, release = sorted(trust.keys, key=lambda key: key.name)
    assert isinstance(release.source, PublicKey)
    assert isinstance(partner.source, TrustedAuthority)
    assert partner.source.subject == "CN=x"
    assert ci.source == Identity("a@b.c", "https://id.example", None)
    assert release.models == ("digits",)


@pytest.mark.parametrize("day", ["2026-01-01", '"2026-01-01"'], ids=["plain", "in quotes"])
def test_days_begin_at_midnight_utc(load, day):
    until = "2026-01-02"
    text = f"keys: {{release: {{public_key: release.pem, models: [a], valid_from: {day}, valid_until: {until}}}}}"
    assert load(text).keys[0].valid_from == datetime(2026, 1, 1, tzinfo=UTC)
    assert load(text).keys[0].valid_until == datetime(2026, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize("text", ["keys: {}", "unsafe_development: false", "revoked: {keys: [], models: []}"])
def test_a_policy_may_be_empty(load, text):
    assert load(text).keys == ()


def test_revoking_needs_no_key_that_is_still_there(load):
    assert load({"revoked": {"keys": ["ab" * 32]}}).revoked_keys == {"ab" * 32}
    openssl = ":".join(["AB"] * 32)
    assert load({"revoked": {"keys": [openssl]}}).revoked_keys == {"ab" * 32}


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"key": {}}, "key: unknown key"),
        ({"keys": {"release": {**KEY, "model": "digits"}}}, "keys.release.model: unknown key"),
        ({"keys": {"Release": KEY}}, "'Release' is not a name such as release-2026"),
        ({"keys": {"release": {"models": ["*"], **DAYS}}}, "name exactly one of"),
        (
            {"keys": {"release": {**KEY, "identity": "a", "identity_provider": "https://a.b"}}},
            "keys.release: name exactly one of",
        ),
        ({"keys": {"release": {**KEY, "models": []}}}, "keys.release.models: [] is not"),
        ({"keys": {"release": {**KEY, "models": ["a/b"]}}}, "keys.release.models: ['a/b'] is not"),
        ({"keys": {"release": {k: v for k, v in KEY.items() if k != "models"}}}, "keys.release.models: missing"),
        ({"keys": {"release": {k: v for k, v in KEY.items() if k != "valid_until"}}}, "valid_until: missing"),
        ({"keys": {"release": {**KEY, "valid_until": "2026-01-01"}}}, "valid_until: must be after valid_from"),
        ({"keys": {"release": {**KEY, "valid_from": "2026-02-30"}}}, "'2026-02-30' is not a day"),
        ({"keys": {"release": {**KEY, "valid_from": "tomorrow"}}}, "'tomorrow' is not a day"),
        ({"keys": {"release": {**KEY, "valid_from": 2026}}}, "2026 is not a day"),
        ({"keys": {"release": {**KEY, "public_key": "missing.pem"}}}, "missing.pem: cannot be read"),
        ({"keys": {"release": {**KEY, "public_key": "../release.pem"}}}, "is not the name of a PEM file"),
        ({"keys": {"release": {**KEY, "public_key": "trust.yaml"}}}, "holds no public key"),
        ({"keys": {"release": {**KEY, "public_key": "release.key"}}}, "holds a private key"),
        ({"keys": {"release": {**KEY, "public_key": "partner-ca.pem"}}}, "holds no public key"),
        ({"keys": {"p": {"certificate_chain": "release.pem", "models": ["a"], **DAYS}}}, "holds no certificates"),
        ({"keys": {"ci": {"identity": "a@b.c", "models": ["a"], **DAYS}}}, "identity_provider: missing"),
        (
            {"keys": {"ci": {"identity": "a", "identity_provider": "http://a.b", "models": ["a"], **DAYS}}},
            "is not the provider's https address",
        ),
        ({"keys": {"one": KEY, "two": KEY}}, "two entries hold the same public key"),
        ({"keys": {"release": KEY}, "revoked": {"keys": ["relaese"]}}, "'relaese' is no name under keys"),
        ({"revoked": {"models": ["abc"]}}, "revoked.models: ['abc'] is not"),
        ({"revoked": {"signatures": []}}, "revoked.signatures: unknown key"),
        ({"unsafe_development": "yes"}, "'yes' is not true or false"),
    ],
    ids=[
        *("unknown", "unknown below", "a name", "no kind", "two kinds", "no models", "bad models", "models missing"),
        *("no end", "ends first", "no such day", "no day", "a year", "no such file", "another directory", "no PEM"),
        *("private key", "certificate for a key", "key for a certificate", "no provider", "http", "twice", "misspelt"),
        *("no digest", "what there is not", "no flag"),
    ],
)
def test_what_is_wrong_is_told(load, values, told):
    assert told in problems(load, values)


def test_all_problems_are_told_at_once(load):
    text = problems(
        load,
        {
            "keys": {"release": {**KEY, "public_key": "missing.pem", "models": []}, "other": {}},
            "revoked": {"keys": ["nobody"]},
            "more": 1,
        },
    )
    for told in ("missing.pem", "release.models", "other.valid_from", "'nobody'", "more: unknown key"):
        assert told in text


@pytest.mark.parametrize(
    "key",
    [rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256K1())],
    ids=["RSA", "secp256k1"],
)
def test_keys_that_no_signature_can_be_from(load, tmp_path, key):
    path = tmp_path / "trust" / "other.pem"
    path.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    path.chmod(0o644)
    assert "is not an elliptic-curve key" in problems(load, {"keys": {"other": {**KEY, "public_key": "other.pem"}}})


@pytest.mark.parametrize("name", ["trust.yaml", "release.pem", "."])
@pytest.mark.parametrize("mode", [0o020, 0o002], ids=["group", "others"])
def test_what_others_can_write_is_not_trusted(load, tmp_path, name, mode):
    load({"keys": {"release": KEY}})
    path = tmp_path / "trust" / name
    path.chmod(path.stat().st_mode | mode)
    with pytest.raises(ConfigError, match="other users can write to it"):
        load_trust(tmp_path / "trust")


def test_a_missing_directory_is_told(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_trust(tmp_path / "nowhere")
