"""A signed model, or its signature, that somebody changed on the way.

Whoever can write where models lie changes one weight and the model errs for one class only; adds a file that the signer
never saw; or takes the signature of a good model for a bad one. A signature that leaves anything out, or that can be
read in two ways, lets that pass: model-signing accepts whatever lies in `.git` or where the signer said "ignore", and
takes several forms of one bundle. Here every bit of every file and of the signature counts, and nothing may lie beside.
"""

import base64
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from attacks.signed_models import FILES, NOW, Authority, Signed, make_signed, upstream, write_model, write_trust
from attacks.tampering import flip_bits, unnoticed
from garrison.admission.sign import KeySigner, generate_key, sign_directory, verify_directory
from garrison.errors import ArtifactRefused

FLIPS, SEED = 150, 4  # the campaign flips 1,000


def refused(signed: Signed) -> str:
    with pytest.raises(ArtifactRefused) as caught:
        verify_directory(signed.directory, signed.trust, now=NOW)
    return caught.value.reason


@pytest.fixture
def signed(tmp_path: Path) -> Signed:
    return make_signed(tmp_path)


# Single bits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["key", "certificate"])
def test_every_flipped_bit_is_noticed(tmp_path, mode):
    signed = make_signed(tmp_path, mode)
    wrong, reasons = unnoticed(flip_bits(signed, FLIPS, SEED))
    assert wrong == []
    assert sum(reasons.values()) == FLIPS
    assert verify_directory(signed.directory, signed.trust, now=NOW)  # every bit was put back


def test_every_flipped_bit_of_upstreams_signature_is_noticed(signed):
    key = signed.pem.with_suffix(".key")
    arguments = ("--private_key", key, "--signature", signed.signature)
    assert upstream("sign", "key", signed.directory, *arguments).returncode == 0
    assert unnoticed(flip_bits(signed, FLIPS, SEED))[0] == []


# Files ----------------------------------------------------------------------------------------------------------------


def _swap(directory: Path) -> None:
    one, two = directory / "labels.json", directory / "contract.yaml"
    data = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(data)


def _link(directory: Path) -> None:
    path = directory / "labels.json"
    path.rename(directory.parent / "labels.json")
    path.symlink_to(directory.parent / "labels.json")


def _link_directory(directory: Path) -> None:
    path = directory / "MAR-INF"
    path.rename(directory.parent / "MAR-INF")
    path.symlink_to(directory.parent / "MAR-INF")


def _link_signature(directory: Path) -> None:
    path = directory / "model.sig"
    path.rename(directory.parent / "model.sig")
    path.symlink_to(directory.parent / "model.sig")


def _pipe(directory: Path) -> None:
    (directory / "labels.json").unlink()
    os.mkfifo(directory / "labels.json")


def _write(name: str, data: bytes = b"") -> Callable[[Path], None]:
    def write(directory: Path) -> None:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    return write


CHANGES = {
    "a file is gone": (lambda directory: (directory / "labels.json").unlink(), {"tampered"}),
    "the contract is gone": (lambda directory: (directory / "contract.yaml").unlink(), {"tampered"}),
    "a directory is gone": (lambda directory: shutil.rmtree(directory / "MAR-INF"), {"tampered"}),
    "a file is empty": (_write("model.safetensors"), {"tampered"}),
    "a file is longer": (_write("labels.json", FILES["labels.json"] + b" "), {"tampered"}),
    "another contract": (_write("contract.yaml", b"model: digits\n"), {"tampered"}),
    "two files are exchanged": (_swap, {"tampered"}),
    "a file has another name": (
        lambda directory: (directory / "labels.json").rename(directory / "LABELS.json"),
        {"uncovered_file"},
    ),
    "a file more": (_write("handler.py", b"import os"), {"uncovered_file"}),
    "a file more, empty": (_write("empty"), {"uncovered_file"}),
    "a file more, below": (_write("MAR-INF/more.json"), {"uncovered_file"}),
    "an empty directory more": (lambda directory: (directory / "assets").mkdir(), {"uncovered_file"}),
    ".git": (_write(".git/hooks/post-checkout", b"#!/bin/sh"), {"uncovered_file"}),
    ".git, empty": (lambda directory: (directory / ".git").mkdir(), {"uncovered_file"}),
    ".github": (_write(".github/handler.py"), {"uncovered_file"}),
    ".gitattributes": (_write(".gitattributes"), {"uncovered_file"}),
    "a dot file": (_write(".hidden"), {"uncovered_file"}),
    "a name that is no text": (
        lambda directory: (directory / os.fsdecode(b"\xff.json")).write_bytes(b""),
        {"uncovered_file"},
    ),
    "a second signature": (
        lambda directory: shutil.copy(directory / "model.sig", directory / "model.sig.bak"),
        {"uncovered_file"},
    ),
    "a signature below": (_write("MAR-INF/model.sig"), {"uncovered_file"}),
    "a link to the same bytes": (_link, {"not_a_file"}),
    "a link to the same directory": (_link_directory, {"not_a_file"}),
    "a link to the same signature": (_link_signature, {"not_a_file"}),
    "a pipe": (_pipe, {"not_a_file"}),
    "no signature": (lambda directory: (directory / "model.sig").unlink(), {"unsigned"}),
    "an empty signature": (_write("model.sig"), {"bad_signature"}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changed_files_are_refused(signed, name):
    change, reasons = CHANGES[name]
    change(signed.directory)
    assert refused(signed) in reasons


def test_upstream_accepts_what_lies_in_git(signed):
    """The gap that is closed here."""
    _write(".git/hooks/post-checkout", b"#!/bin/sh")(signed.directory)
    arguments = ("--signature", signed.signature, "--public_key", signed.pem)
    assert upstream("verify", "key", signed.directory, *arguments).returncode == 0


# Signatures -----------------------------------------------------------------------------------------------------------


def test_signatures_of_two_models_are_exchanged(tmp_path):
    private, _ = generate_key(tmp_path / "keys", "release")
    trust = write_trust(tmp_path / "keys", {"release": {"public_key": "release.pem"}})
    models = []
    for name in ("digits", "other"):
        directory = write_model(tmp_path / name, name)
        sign_directory(directory, KeySigner(private))
        models.append(Signed(directory, trust, tmp_path / "keys" / "release.pem"))
    first, second = models
    data = first.signature.read_bytes()
    first.signature.write_bytes(second.signature.read_bytes())
    second.signature.write_bytes(data)
    assert [refused(one) for one in models] == ["tampered", "tampered"]


def _edit(change: Callable[[dict], object]) -> Callable[[bytes], bytes]:
    def edit(raw: bytes) -> bytes:
        values = json.loads(raw)
        change(values)
        return json.dumps(values, separators=(",", ":")).encode()

    return edit


def _edit_statement(change: Callable[[dict], object]) -> Callable[[bytes], bytes]:
    def edit(values: dict) -> None:
        statement = json.loads(base64.b64decode(values["dsseEnvelope"]["payload"]))
        change(statement)
        values["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()

    return _edit(edit)


def _edit_material(change: Callable[[dict], object]) -> Callable[[bytes], bytes]:
    return _edit(lambda values: change(values["verificationMaterial"]))


def _malleate(values: dict) -> None:
    """Write the signature's numbers with a leading zero: another DER of the same numbers."""
    signature = values["dsseEnvelope"]["signatures"][0]
    der = base64.b64decode(signature["sig"])
    length = der[3]
    body = bytes([2, length + 1, 0]) + der[4:]
    signature["sig"] = base64.b64encode(bytes([0x30, len(body)]) + body).decode()


def _loosen_base64(raw: bytes) -> bytes:
    """Set the bits of the last base64 digit that decode to nothing."""
    values = json.loads(raw)
    signature = values["dsseEnvelope"]["signatures"][0]
    text = signature["sig"] if signature["sig"].endswith("=") else values["dsseEnvelope"]["payload"]
    if not text.endswith("="):
        return raw + b"\n"
    place = len(text.rstrip("=")) - 1
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    loose = text[:place] + alphabet[alphabet.index(text[place]) + 1] + text[place + 1 :]
    return raw.replace(text.encode(), loose.encode())


FORGERIES = {
    "another hash": _edit_statement(lambda s: s["predicate"]["serialization"].update(hash_type="blake2b")),
    "a path to ignore": _edit_statement(lambda s: s["predicate"]["serialization"].update(ignore_paths=["handler.py"])),
    "a file less": _edit_statement(lambda s: s["predicate"]["resources"].pop()),
    "two signatures": _edit(lambda v: v["dsseEnvelope"]["signatures"].append(v["dsseEnvelope"]["signatures"][0])),
    "no signature": _edit(lambda v: v["dsseEnvelope"]["signatures"].clear()),
    "a message, not an envelope": _edit(lambda v: v.update(messageSignature=v.pop("dsseEnvelope"))),
    "both": _edit(lambda v: v.update(messageSignature={})),
    "another release": _edit(lambda v: v.update(mediaType="application/vnd.dev.sigstore.bundle+json;version=0.1")),
    "another payload type": _edit(lambda v: v["dsseEnvelope"].update(payloadType="text/plain")),
    "an unknown key": _edit(lambda v: v.update(more=1)),
    "a name for the key": _edit(lambda v: v["dsseEnvelope"]["signatures"][0].update(keyid="x")),
    "no hint": _edit_material(lambda m: m.update(publicKey={})),
    "an empty hint, as old releases have": _edit_material(lambda m: m.update(publicKey={"hint": ""})),
    "a log entry": _edit_material(lambda m: m.update(tlogEntries=[{}])),
    "no log entries": _edit_material(lambda m: m.pop("tlogEntries")),
    "key and certificates": _edit_material(lambda m: m.update(x509CertificateChain={"certificates": []})),
    "no key": _edit_material(lambda m: m.pop("publicKey")),
    "a Sigstore bundle": _edit_material(lambda m: m.update(certificate=m.pop("publicKey"))),
    "another order": lambda raw: json.dumps(json.loads(raw), separators=(",", ":"), sort_keys=True).encode(),
    "spaces": lambda raw: json.dumps(json.loads(raw)).encode(),
    "a line's end": lambda raw: raw + b"\n",
    "a byte order mark": lambda raw: b"\xef\xbb\xbf" + raw,
    "an escape": lambda raw: raw.replace(b"mediaType", b"media\\u0054ype"),
    "a repeated key": lambda raw: raw.replace(b"{", b'{"mediaType":"x",', 1),
    "loose base64": _loosen_base64,
    "loose DER": _edit(_malleate),
    "too large": lambda raw: raw + b" " * 9 * 2**20,
    "deeply nested": lambda raw: b"[" * 100_000,
    "a huge number": lambda raw: b'{"mediaType":' + b"9" * 10_000 + b"}",
}  # fmt: skip


@pytest.mark.parametrize("name", FORGERIES)
def test_edited_signatures_are_refused(signed, name):
    raw = signed.signature.read_bytes()
    edited = FORGERIES[name](raw)
    assert edited != raw
    signed.signature.write_bytes(edited)
    assert refused(signed) == "bad_signature"


def test_files_that_a_signer_left_out_are_refused(signed):
    (signed.directory / "extra.bin").write_bytes(b"anything")
    key = signed.pem.with_suffix(".key")
    result = upstream(
        *("sign", "key", signed.directory, "--private_key", key, "--signature", signed.signature),
        *("--ignore-paths", signed.directory / "extra.bin"),
    )
    assert result.returncode == 0, result.stderr
    assert refused(signed) == "ignored_paths"
    (signed.directory / "extra.bin").unlink()
    assert refused(signed) == "ignored_paths"


# Keys -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "more", "reason"),
    [
        ({}, {"revoked": {"keys": ["release"]}}, "revoked"),
        ({"valid_from": "2025-01-01", "valid_until": "2026-01-01"}, {}, "expired_key"),
        ({"valid_from": "2027-01-01", "valid_until": "2028-01-01"}, {}, "not_yet_valid"),
        ({"models": ["fraud-*"]}, {}, "wrong_model"),
    ],
    ids=["revoked", "expired", "not yet valid", "for another model"],
)
def test_a_key_that_does_not_count_for_this_model_now(signed, key, more, reason):
    trust = write_trust(signed.pem.parent, {"release": {"public_key": signed.pem.name, **key}}, **more)
    assert refused(Signed(signed.directory, trust, signed.pem)) == reason


def test_upstream_takes_a_certificate_that_has_expired(tmp_path):
    """Another gap that is closed here."""
    directory, authority = write_model(tmp_path / "digits"), Authority(tmp_path / "keys")
    sign_directory(directory, authority.certify("signer", days=(-100, -50)).signer)
    trust = write_trust(tmp_path / "keys", {"partner": {"certificate_chain": authority.pem.name}})
    signed = Signed(directory, trust, authority.pem)
    arguments = ("--signature", signed.signature, "--certificate_chain", signed.pem)
    assert upstream("verify", "certificate", directory, *arguments).returncode == 0
    assert refused(signed) == "expired_key"
