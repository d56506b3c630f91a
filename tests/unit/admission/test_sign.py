"""Signing and verifying: who counts, when, for which model, over which files; and agreement with model-signing."""

import contextlib
import hashlib
import json
import os
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from attacks.signed_models import FILES, NOW, Authority, Signed, make_signed, upstream, write_model, write_trust
from garrison.admission.sign import (
    CertificateSigner,
    KeySigner,
    ensure_development_key,
    generate_key,
    read_password,
    sign_directory,
    verify_directory,
)
from garrison.admission.sign.bundle import Bundle, _write_bundle, encode_signed, parse_bundle, parse_statement
from garrison.admission.sign.contents import list_files
from garrison.admission.sign.signing import PASSWORD_VARIABLE
from garrison.admission.sign.trust import Trust, load_trust
from garrison.admission.sign.verify import Verified
from garrison.errors import ArtifactRefused, ConfigError, Undecided
from garrison.record import digest_files

SECOND = timedelta(seconds=1)


def verify(signed: Signed, now: datetime = NOW) -> Verified:
    return verify_directory(signed.directory, signed.trust, now=now)


def refused(directory: Path, trust: Trust, now: datetime = NOW) -> str:
    with pytest.raises(ArtifactRefused) as caught:
        verify_directory(directory, trust, now=now)
    assert caught.value.public_message
    return caught.value.reason


def edit_statement(signed: Signed, change: Callable[[dict], None]) -> None:
    """Sign again, with the trusted key, what is in the signature after a change: what only that key's owner can do."""
    bundle = parse_bundle(signed.signature.read_bytes())
    statement = json.loads(bundle.payload)
    change(statement)
    payload = json.dumps(statement).encode()
    private = load_pem_private_key((signed.pem.parent / "release.key").read_bytes(), None)
    signature = private.sign(encode_signed(payload), ec.ECDSA(hashes.SHA256()))
    signed.signature.write_bytes(_write_bundle(Bundle(b"", "key", payload, signature, hint=bundle.hint)))


@pytest.fixture
def signed(tmp_path: Path) -> Signed:
    return make_signed(tmp_path)


# What is returned -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "signer"), [("key", "release"), ("certificate", "partner (CN=signer)")])
def test_a_signed_model_is_verified(tmp_path, mode, signer):
    signed = make_signed(tmp_path, mode)
    found = verify(signed)
    assert (found.signer, found.mode) == (signer, mode)
    assert found.signature_sha256 == hashlib.sha256(signed.signature.read_bytes()).hexdigest()
    assert {name: (one.size, one.sha256) for name, one in found.files.items()} == {
        name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in FILES.items()
    }
    assert found.digest == digest_files(found.files)


def test_progress_counts_every_byte(signed):
    heard: list[int] = []
    verify_directory(signed.directory, signed.trust, now=NOW, progress=heard.append)
    assert sum(heard) == sum(len(data) for data in FILES.values())


def test_large_files_are_never_in_memory(signed):
    with (signed.directory / "large.bin").open("wb") as file:
        file.truncate(64 * 2**20)
    sign_directory(signed.directory, KeySigner(signed.pem.with_suffix(".key")))
    tracemalloc.start()
    verify(signed)
    assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    tracemalloc.stop()


def test_files_that_may_lie_beside_are_not_looked_at(signed):
    (signed.directory / "admission.json").write_text("{}")
    assert refused(signed.directory, signed.trust) == "uncovered_file"
    found = verify_directory(signed.directory, signed.trust, now=NOW, beside={"admission.json"})
    assert "admission.json" not in found.files


def test_the_size_is_limited(signed):
    size = sum(len(data) for data in FILES.values())
    verify_directory(signed.directory, signed.trust, now=NOW, max_bytes=size)
    with pytest.raises(ArtifactRefused, match="too_large"):
        verify_directory(signed.directory, signed.trust, now=NOW, max_bytes=size - 1)


@pytest.mark.parametrize("name", ["model.sig", "contract.yaml", "labels.json", "MAR-INF"])
def test_what_cannot_be_read_is_undecided(signed, name, monkeypatch):
    """Tried by refusing to open it: the tests may run as root, whom no mode keeps out."""
    opened, scanned = os.open, os.scandir

    def refuse(path: object, *rest: object, **more: object) -> object:
        if str(path).endswith(name):
            raise PermissionError(13, "Permission denied", str(path))
        return (opened if rest else scanned)(path, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(Undecided, match="Permission denied"):
        verify(signed)


# Agreement with the command line of model-signing ---------------------------------------------------------------------


def test_upstream_verifies_our_signature_by_a_key(signed):
    result = upstream("verify", "key", signed.directory, "--signature", signed.signature, "--public_key", signed.pem)
    assert result.returncode == 0, result.stderr


def test_upstream_verifies_our_signature_by_a_certificate(tmp_path):
    signed = make_signed(tmp_path, "certificate")
    arguments = ("--signature", signed.signature, "--certificate_chain", signed.pem)
    result = upstream("verify", "certificate", signed.directory, *arguments)
    assert result.returncode == 0, result.stderr


def test_we_verify_upstreams_signature_by_a_key(signed):
    signed.signature.unlink()
    key = signed.pem.with_suffix(".key")
    assert (
        upstream("sign", "key", signed.directory, "--private_key", key, "--signature", signed.signature).returncode == 0
    )
    assert verify(signed).signer == "release"


@pytest.mark.parametrize("depth", [1, 2])
def test_we_verify_upstreams_signature_by_a_certificate(tmp_path, depth):
    directory, keys = write_model(tmp_path / "digits"), tmp_path / "keys"
    root = Authority(keys, "root")
    signer = (root if depth == 1 else Authority(keys, "intermediate", above=root)).certify("signer")
    chain = [part for path in signer.chain for part in ("--certificate_chain", path)]
    signature = directory / "model.sig"
    result = upstream(
        *("sign", "certificate", directory, "--signature", signature),
        *("--private_key", signer.key_path, "--signing_certificate", signer.path, *chain),
    )
    assert result.returncode == 0, result.stderr
    trust = write_trust(keys, {"partner": {"certificate_chain": root.pem.name}})
    assert verify_directory(directory, trust, now=NOW).signer == "partner (CN=signer)"


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_all_curves_of_model_signing(tmp_path, curve):
    directory = write_model(tmp_path / "digits")
    key = ec.generate_private_key(curve)
    private = tmp_path / "keys.key"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word")))
    private.chmod(0o600)
    (tmp_path / "trust").mkdir()
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "trust" / "own.pem").write_bytes(pem)
    (tmp_path / "trust" / "own.pem").chmod(0o644)
    sign_directory(directory, KeySigner(private, "word"))
    assert verify_directory(directory, write_trust(tmp_path / "trust", {"own": {"public_key": "own.pem"}}), now=NOW)
    # The hint is what `sha256sum own.pem` shows.
    assert parse_bundle((directory / "model.sig").read_bytes()).hint == hashlib.sha256(pem).hexdigest()


def test_a_statement_of_ours_leaves_out_the_signature_only(signed):
    statement = json.loads(parse_bundle(signed.signature.read_bytes()).payload)
    assert statement["predicate"]["serialization"]["ignore_paths"] == ["model.sig"]


# Who, when and for which model ----------------------------------------------------------------------------------------


def test_without_a_signature(signed):
    signed.signature.unlink()
    assert refused(signed.directory, signed.trust) == "unsigned"


def test_a_policy_without_keys_trusts_nobody_and_says_what_to_do(signed, tmp_path):
    trust = write_trust(tmp_path / "empty", {})
    with pytest.raises(ArtifactRefused, match="write a key into") as caught:
        verify_directory(signed.directory, trust, now=NOW)
    assert caught.value.reason == "untrusted"


@pytest.mark.parametrize("mode", ["key", "certificate"])
def test_a_stranger_is_not_trusted(tmp_path, mode):
    own, other = make_signed(tmp_path / "own", mode), make_signed(tmp_path / "other", mode)
    assert refused(other.directory, own.trust) == "untrusted"


@pytest.mark.parametrize(("mine", "theirs"), [("key", "certificate"), ("certificate", "key")])
def test_a_key_is_no_authority_and_an_authority_no_key(tmp_path, mine, theirs):
    own, other = make_signed(tmp_path / "own", mine), make_signed(tmp_path / "other", theirs)
    assert refused(other.directory, own.trust) == "untrusted"


def test_a_stranger_who_claims_to_be_the_trusted_key(signed, tmp_path):
    other = make_signed(tmp_path / "other")
    ours, theirs = (parse_bundle(one.signature.read_bytes()) for one in (signed, other))
    forged = Bundle(b"", "key", theirs.payload, theirs.signature, hint=ours.hint)
    signed.signature.write_bytes(_write_bundle(forged))
    assert refused(signed.directory, signed.trust) == "bad_signature"


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (datetime(2026, 1, 1, tzinfo=UTC) - SECOND, "not_yet_valid"),
        (datetime(2026, 1, 1, tzinfo=UTC), ""),
        (datetime(2027, 1, 1, tzinfo=UTC) - SECOND, ""),
        (datetime(2027, 1, 1, tzinfo=UTC), "expired_key"),
    ],
    ids=["before the first day", "first moment", "last moment", "the day after"],
)
def test_a_key_counts_from_its_first_day_until_its_last(signed, now, reason):
    if reason:
        assert refused(signed.directory, signed.trust, now) == reason
    else:
        assert verify(signed, now)


@pytest.mark.parametrize(
    ("days", "reason"),
    [((0, 10), ""), ((-10, 0), ""), ((1, 10), "not_yet_valid"), ((-10, -1), "expired_key")],
    ids=["its first second", "its last second", "before", "after"],
)
def test_a_certificate_has_its_own_dates_too(tmp_path, days, reason):
    directory, authority = write_model(tmp_path / "digits"), Authority(tmp_path / "keys")
    sign_directory(directory, authority.certify("signer", days=days).signer)
    trust = write_trust(tmp_path / "keys", {"partner": {"certificate_chain": authority.pem.name}})
    if reason:
        assert refused(directory, trust) == reason
    else:
        assert verify_directory(directory, trust, now=NOW)


@pytest.mark.parametrize(
    ("models", "model", "fits"),
    [
        (["digits"], "digits", True),
        (["fraud-*"], "fraud-2", True),
        (["*"], "digits", True),
        (["digit"], "digits", False),
        (["fraud-*"], "digits", False),
        (["digits"], "Digits", False),
    ],
    ids=str,
)
def test_a_key_signs_for_its_models_only(tmp_path, models, model, fits):
    signed = make_signed(tmp_path, model=model)
    trust = write_trust(tmp_path / "keys", {"release": {"public_key": "release.pem", "models": models}})
    if fits:
        assert verify_directory(signed.directory, trust, now=NOW)
    else:
        assert refused(signed.directory, trust) == "wrong_model"


@pytest.mark.parametrize("contract", [b"model: [digits]", b"- a list", b"\xff", b"model: digits\n#" + b"x" * 70_000])
def test_a_contract_that_names_no_model_is_signed_only_by_a_key_for_all(tmp_path, contract):
    signed = make_signed(tmp_path)
    (signed.directory / "contract.yaml").write_bytes(contract)
    sign_directory(signed.directory, KeySigner(tmp_path / "keys" / "release.key"))
    assert verify(signed)
    one = write_trust(tmp_path / "keys", {"release": {"public_key": "release.pem", "models": ["digits"]}})
    assert refused(signed.directory, one) == "wrong_model"


def test_the_models_name_is_the_contracts_not_the_directorys(tmp_path):
    signed = make_signed(tmp_path, model="other")
    renamed = signed.directory.rename(tmp_path / "digits")
    trust = write_trust(tmp_path / "keys", {"release": {"public_key": "release.pem", "models": ["digits"]}})
    assert refused(renamed, trust) == "wrong_model"


@pytest.mark.parametrize("how", ["name", "hash of the key", "hash in openssl's form"])
@pytest.mark.parametrize("mode", ["key", "certificate"])
def test_a_revoked_key(tmp_path, how, mode):
    signed = make_signed(tmp_path, mode)
    name, key = ("release", "public_key") if mode == "key" else ("partner", "certificate_chain")
    source = signed.trust.keys[0].source
    if how == "name":
        revoked = name
    elif mode == "key":
        revoked = source.hint
    else:
        revoked = source.certificates[0].fingerprint(hashes.SHA256()).hex()
    if how == "hash in openssl's form":
        revoked = ":".join(revoked[i : i + 2].upper() for i in range(0, 64, 2))
    trust = write_trust(tmp_path / "keys", {name: {key: signed.pem.name}}, revoked={"keys": [revoked]})
    assert refused(signed.directory, trust) == "revoked"


def test_a_revoked_certificate_of_one_signer(tmp_path):
    directory, authority = write_model(tmp_path / "digits"), Authority(tmp_path / "keys")
    bad, good = authority.certify("bad"), authority.certify("good")
    revoked = bad.certificate.fingerprint(hashes.SHA256()).hex()
    keys = {"partner": {"certificate_chain": authority.pem.name}}
    trust = write_trust(tmp_path / "keys", keys, revoked={"keys": [revoked]})
    sign_directory(directory, good.signer)
    assert verify_directory(directory, trust, now=NOW)
    sign_directory(directory, bad.signer)
    assert refused(directory, trust) == "revoked"


def test_a_revoked_model(signed):
    digest = verify(signed).digest
    keys = {"release": {"public_key": "release.pem"}}
    trust = write_trust(signed.pem.parent, keys, revoked={"models": [digest]})
    assert refused(signed.directory, trust) == "revoked"


# Certificates ---------------------------------------------------------------------------------------------------------


def test_a_subject_narrows_an_authority_to_one_signer(tmp_path):
    directory, authority = write_model(tmp_path / "digits"), Authority(tmp_path / "keys")
    trust = write_trust(
        tmp_path / "keys", {"partner": {"certificate_chain": authority.pem.name, "subject": "CN=release"}}
    )
    sign_directory(directory, authority.certify("release").signer)
    assert verify_directory(directory, trust, now=NOW)
    sign_directory(directory, authority.certify("intern").signer)
    with pytest.raises(ArtifactRefused, match="its subject is CN=intern, not CN=release") as caught:
        verify_directory(directory, trust, now=NOW)
    assert caught.value.reason == "untrusted"


@pytest.mark.parametrize(
    ("usage", "purposes", "fits"),
    [
        (True, (ExtendedKeyUsageOID.CODE_SIGNING,), True),
        (True, None, True),
        (None, (ExtendedKeyUsageOID.CODE_SIGNING,), True),
        (None, None, False),
        (False, (ExtendedKeyUsageOID.CODE_SIGNING,), False),
        (True, (ExtendedKeyUsageOID.SERVER_AUTH,), False),
    ],
    ids=["both", "usage only", "purpose only", "neither", "may not sign", "a web server's"],
)
def test_a_certificate_has_to_be_for_signing(tmp_path, usage, purposes, fits):
    directory, authority = write_model(tmp_path / "digits"), Authority(tmp_path / "keys")
    sign_directory(directory, authority.certify("signer", usage=usage, purposes=purposes).signer)
    trust = write_trust(tmp_path / "keys", {"partner": {"certificate_chain": authority.pem.name}})
    if fits:
        assert verify_directory(directory, trust, now=NOW)
    else:
        assert refused(directory, trust) == "untrusted"


def test_a_signer_is_no_authority(tmp_path):
    """Without the CA bit looked at, everybody with a certificate could certify others."""
    directory, keys = write_model(tmp_path / "digits"), tmp_path / "keys"
    root = Authority(keys, "root")
    bought = root.certify("bought")
    false = Authority(keys, "false")
    false._made = bought
    sign_directory(directory, false.certify("signer").signer)
    trust = write_trust(keys, {"partner": {"certificate_chain": root.pem.name}})
    assert refused(directory, trust) == "untrusted"


def test_an_intermediate_authority_alone_can_be_trusted(tmp_path):
    directory, keys = write_model(tmp_path / "digits"), tmp_path / "keys"
    root = Authority(keys, "root")
    one, two = Authority(keys, "one", above=root), Authority(keys, "two", above=root)
    trust = write_trust(keys, {"partner": {"certificate_chain": one.pem.name}})
    signer = one.certify("signer")
    sign_directory(directory, CertificateSigner(signer.key_path, signer.path, signer.chain[:1]))
    assert verify_directory(directory, trust, now=NOW)
    sign_directory(directory, two.certify("signer").signer)
    assert refused(directory, trust) == "untrusted"


def test_a_certificate_that_plays_no_part_is_refused(tmp_path):
    directory, keys = write_model(tmp_path / "digits"), tmp_path / "keys"
    authority, stranger = Authority(keys), Authority(keys, "stranger")
    signer = authority.certify("signer")
    sign_directory(directory, CertificateSigner(signer.key_path, signer.path, (*signer.chain, stranger.pem)))
    trust = write_trust(keys, {"partner": {"certificate_chain": authority.pem.name}})
    assert refused(directory, trust) == "untrusted"


def test_two_entries_of_one_authority_are_both_tried(tmp_path):
    signed = make_signed(tmp_path, "certificate")
    keys = {
        "early": {"certificate_chain": signed.pem.name, "valid_from": "2025-01-01", "valid_until": "2026-01-01"},
        "late": {"certificate_chain": signed.pem.name},
    }
    trust = write_trust(tmp_path / "keys", keys)
    assert verify_directory(signed.directory, trust, now=NOW).signer == "late (CN=signer)"


# What a statement may say ---------------------------------------------------------------------------------------------


def _set(*path: str | int, value: object) -> Callable[[dict], None]:
    def change(statement: dict) -> None:
        inner = statement
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_set("predicate", "serialization", "ignore_paths", value=["labels.json"]), "ignored_paths"),
        (_set("predicate", "serialization", "ignore_paths", value=["."]), "ignored_paths"),
        (_set("predicate", "serialization", "ignore_paths", value=["MAR-INF"]), "ignored_paths"),
        (_set("predicate", "serialization", "hash_type", value="blake2b"), "unsupported_signature"),
        (_set("predicate", "serialization", "method", value="shards"), "unsupported_signature"),
        (_set("predicate", "serialization", value=None), "unsupported_signature"),
        (_set("predicate", "resources", 0, "algorithm", value="md5"), "unsupported_signature"),
        (_set("predicate", "resources", 0, "name", value="labels.json"), "unsupported_signature"),
        (_set("predicate", "resources", value=[]), "unsupported_signature"),
        (_set("predicateType", value="https://model_signing/Digests/v0.1"), "unsupported_signature"),
        (_set("_type", value="https://in-toto.io/Statement/v0.1"), "unsupported_signature"),
        (_set("subject", value=[]), "unsupported_signature"),
        (_set("subject", 0, "digest", "sha256", value="0" * 64), "unsupported_signature"),
        (_set("predicate", "resources", 0, "name", value="../outside"), "uncovered_file"),
    ],
    ids=[
        *("a file left out", "everything left out", "a directory left out", "another hash", "shards", "no method"),
        *("a file by MD5", "a file twice", "no files", "release 0.2", "another statement", "no subject"),
        *("another digest over all", "a path out of the model"),
    ],
)
def test_what_a_trusted_signer_may_not_say(signed, change, reason):
    edit_statement(signed, change)
    assert refused(signed.directory, signed.trust) == reason


def test_what_an_upstream_signer_leaves_out_by_default_is_accepted_while_there_is_none(signed):
    default = ["model.sig", ".git", ".gitattributes", ".github", ".gitignore"]
    edit_statement(signed, _set("predicate", "serialization", "ignore_paths", value=default))
    assert verify(signed)
    (signed.directory / ".gitignore").write_text("*")
    assert refused(signed.directory, signed.trust) == "uncovered_file"


def test_a_dot_file_is_refused_though_it_is_signed_for(signed):
    (signed.directory / ".hidden").write_text("")
    key = signed.pem.with_suffix(".key")
    assert (
        upstream("sign", "key", signed.directory, "--private_key", key, "--signature", signed.signature).returncode == 0
    )
    assert refused(signed.directory, signed.trust) == "unsafe_name"


@given(st.binary(max_size=400) | st.text(max_size=200).map(str.encode))
def test_any_bytes_for_a_signature_are_refused(raw):
    with pytest.raises(ArtifactRefused):
        parse_bundle(raw)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def replace_part(tree: Any, data: st.DataObject, value: Any) -> None:
    """Put a value in the place of a random part."""
    node = tree
    while True:
        key = data.draw(st.sampled_from(range(len(node)) if isinstance(node, list) else sorted(node)))
        if not isinstance(node[key], dict | list) or not node[key] or data.draw(st.booleans()):
            break
        node = node[key]
    node[key] = value


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
@given(data=st.data(), value=JSON)
def test_any_changed_part_of_a_signature_is_refused(signed, data, value):
    raw = signed.signature.read_bytes()
    tree = json.loads(raw)
    replace_part(tree, data, value)
    edited = json.dumps(tree, separators=(",", ":")).encode()
    assume(edited != raw)
    signed.signature.write_bytes(edited)
    try:
        assert refused(signed.directory, signed.trust) in ("bad_signature", "untrusted")
    finally:
        signed.signature.write_bytes(raw)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(data=st.data(), value=JSON)
def test_any_statement_is_either_read_or_refused(signed, data, value):
    tree = json.loads(parse_bundle(signed.signature.read_bytes()).payload)
    replace_part(tree, data, value)
    with contextlib.suppress(ArtifactRefused):
        files = parse_statement(json.dumps(tree).encode()).files
        assert all(isinstance(name, str) for name in files)


# Signing --------------------------------------------------------------------------------------------------------------


def test_signing_again_replaces_the_signature(signed):
    before = signed.signature.read_bytes()
    sign_directory(signed.directory, KeySigner(signed.pem.with_suffix(".key")))
    assert signed.signature.read_bytes() != before
    assert verify(signed)


@pytest.mark.parametrize("name", [".git/config", ".hidden", "a\nb"])
def test_what_cannot_be_signed_for(signed, name):
    path = signed.directory / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("")
    with pytest.raises(ArtifactRefused, match="unsafe_name"):
        sign_directory(signed.directory, KeySigner(signed.pem.with_suffix(".key")))


def test_links_are_not_signed_for(signed):
    (signed.directory / "link").symlink_to("labels.json")
    with pytest.raises(ArtifactRefused, match="not_a_file"):
        sign_directory(signed.directory, KeySigner(signed.pem.with_suffix(".key")))


def test_an_empty_directory_has_nothing_to_sign(signed, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="holds no files"):
        sign_directory(tmp_path / "empty", KeySigner(signed.pem.with_suffix(".key")))


def test_a_private_key_that_others_can_read_does_not_sign(signed):
    key = signed.pem.with_suffix(".key")
    key.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        sign_directory(signed.directory, KeySigner(key))


@pytest.mark.parametrize("password", [None, "wrong", ""])
def test_an_encrypted_key_needs_its_password(tmp_path, password):
    directory = write_model(tmp_path / "digits")
    key = tmp_path / "own.key"
    private = ec.generate_private_key(ec.SECP256R1())
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"right")))
    key.chmod(0o600)
    before = sorted(directory.rglob("*"))
    with pytest.raises(ConfigError, match="cannot sign"):
        sign_directory(directory, KeySigner(key, password))
    assert sorted(directory.rglob("*")) == before


def test_a_key_that_is_none_and_one_that_is_missing(tmp_path):
    directory = write_model(tmp_path / "digits")
    (tmp_path / "none.key").write_text("hello")
    (tmp_path / "none.key").chmod(0o600)
    with pytest.raises(ConfigError, match="is no private key"):
        sign_directory(directory, KeySigner(tmp_path / "none.key"))
    heading = "-----BEGIN PRIVATE KEY-----\nhello\n"
    (tmp_path / "none.key").write_text(heading)
    with pytest.raises(ConfigError, match="cannot sign"):
        sign_directory(directory, KeySigner(tmp_path / "none.key"))
    with pytest.raises(ConfigError, match="cannot be read"):
        sign_directory(directory, KeySigner(tmp_path / "missing.key"))


def test_a_certificate_of_another_key_does_not_sign(tmp_path):
    directory, authority = write_model(tmp_path / "digits"), Authority(tmp_path / "keys")
    one, two = authority.certify("one"), authority.certify("two")
    with pytest.raises(ConfigError, match="does not match"):
        sign_directory(directory, CertificateSigner(one.key_path, two.path, one.chain))


def test_passwords_come_from_a_private_file_or_the_environment(tmp_path, monkeypatch):
    file = tmp_path / "password"
    file.write_text("word\n")
    file.chmod(0o600)
    assert read_password(file) == "word"
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_password(file)
    monkeypatch.delenv(PASSWORD_VARIABLE, raising=False)
    assert read_password(None) is None
    monkeypatch.setenv(PASSWORD_VARIABLE, "other")
    assert read_password(None) == "other"


# Keys -----------------------------------------------------------------------------------------------------------------


def test_a_generated_key_is_private_and_never_replaced(tmp_path):
    private, public = generate_key(tmp_path, "release")
    assert (private.stat().st_mode & 0o777, public.stat().st_mode & 0o777) == (0o600, 0o644)
    for path in (private, public):
        with pytest.raises(ConfigError, match="exists already"):
            generate_key(tmp_path, "release")
        path.unlink()


def test_a_development_key_is_made_once_with_a_policy_that_trusts_it(tmp_path):
    private = ensure_development_key(tmp_path / "development")
    before = private.read_bytes()
    assert ensure_development_key(tmp_path / "development").read_bytes() == before
    directory = write_model(tmp_path / "digits")
    sign_directory(directory, KeySigner(private))
    trust = load_trust(private.parent)
    assert trust.unsafe_development
    assert verify_directory(directory, trust, now=datetime.now(UTC)).signer == "development"
    assert {path.stat().st_mode & 0o077 for path in (private, private.parent)} == {0}


def test_a_development_key_that_was_half_made_is_made_again(tmp_path):
    private = ensure_development_key(tmp_path / "development")
    private.unlink()  # it is written last
    ensure_development_key(tmp_path / "development")
    directory = write_model(tmp_path / "digits")
    sign_directory(directory, KeySigner(private))
    assert verify_directory(directory, load_trust(private.parent), now=datetime.now(UTC))


def test_production_does_not_trust_a_development_key(tmp_path):
    private = ensure_development_key(tmp_path / "development")
    trust = tmp_path / "trust"
    trust.mkdir(mode=0o700)
    (trust / "own.pem").write_bytes((private.parent / "development.pem").read_bytes())
    (trust / "own.pem").chmod(0o644)
    with pytest.raises(ConfigError, match="is a development key"):
        write_trust(trust, {"own": {"public_key": "own.pem"}})
    assert write_trust(trust, {"own": {"public_key": "own.pem"}}, unsafe_development=True).keys


def test_upstream_signs_with_a_development_key(tmp_path):
    private = ensure_development_key(tmp_path / "development")
    directory = write_model(tmp_path / "digits")
    signature, public = directory / "model.sig", private.parent / "development.pem"
    assert upstream("sign", "key", directory, "--private_key", private, "--signature", signature).returncode == 0
    assert upstream("verify", "key", directory, "--signature", signature, "--public_key", public).returncode == 0


# Listing --------------------------------------------------------------------------------------------------------------


def test_the_list_has_every_file_and_every_empty_directory(tmp_path):
    write_model(tmp_path / "digits")
    (tmp_path / "digits" / "assets" / "none").mkdir(parents=True)
    assert list_files(tmp_path / "digits", {"labels.json"}).keys() == FILES.keys() - {"labels.json"} | {"assets/none/"}


def test_directories_are_followed_so_far_only(tmp_path):
    deepest = tmp_path.joinpath("model", *(["a"] * 16))
    deepest.mkdir(parents=True)
    (deepest / "file").write_text("")
    assert list_files(tmp_path / "model", frozenset())
    (deepest / "a").mkdir()
    with pytest.raises(ArtifactRefused, match="not_a_file"):
        list_files(tmp_path / "model", frozenset())
