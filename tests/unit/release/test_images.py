"""How a saved image is read: its files as the layers add up, what differs between two, and what none may hold."""

import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from garrison.gateway.certificates import ensure_certificate
from release.comparison import Difference, compare_entries, compare_settings, digest_contents
from release.layers import Image
from release.secrets import find_secrets

Layer = Mapping[str, bytes | str | None]
PRIVATE = (
    ec.generate_private_key(ec.SECP256R1())
    .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
)  # fmt: skip


def add(archive: tarfile.TarFile, name: str, data: bytes | str | None, **attributes: Any) -> None:
    """Add a file (bytes), a symbolic link (text) or a directory (None)."""
    member = tarfile.TarInfo(name)
    member.type = {bytes: tarfile.REGTYPE, str: tarfile.SYMTYPE}.get(type(data), tarfile.DIRTYPE)
    member.mode, member.mtime = attributes.get("mode", 0o644), attributes.get("mtime", 0)
    member.size = len(data) if isinstance(data, bytes) else 0
    member.linkname = data if isinstance(data, str) else ""
    archive.addfile(member, io.BytesIO(data) if isinstance(data, bytes) else None)


def write_tar(members: Layer, **attributes: Any) -> bytes:
    """Return a tar of these members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in members.items():
            add(archive, name, data, **attributes)
    return buffer.getvalue()


@pytest.fixture
def save() -> Callable[..., Image]:
    """Return an image as `docker save` writes one, from its layers and settings."""

    def save(*layers: Layer, settings: Mapping[str, Any] | None = None, **attributes: Any) -> Image:
        names = [f"{number}/layer.tar" for number in range(len(layers))]
        members = {name: write_tar(layer, **attributes) for name, layer in zip(names, layers, strict=True)}
        members["config.json"] = json.dumps(settings or {}).encode()
        members["manifest.json"] = json.dumps([{"Config": "config.json", "Layers": names}]).encode()
        return Image("made", tarfile.open(fileobj=io.BytesIO(write_tar(members))))

    return save


@pytest.mark.parametrize(
    ("layers", "paths"),
    [
        ([{"a": b"1"}, {"b/c": b"2"}], ["/a", "/b/c"]),
        ([{"a": b"1"}, {".wh.a": b""}], []),
        ([{"a/b": b"1", "a/c/d": b"1", "ab": b"1"}, {".wh.a": b""}], ["/ab"]),
        ([{"a/b": b"1", "a/c": b"1"}, {"a/.wh..wh..opq": b"", "a/d": b"2"}], ["/a/d"]),
        ([{"a": b"1"}, {".wh.a": b""}, {"./a": b"3"}], ["/a"]),
    ],
    ids=["both layers", "removed", "a directory removed", "a directory replaced", "there again"],
)
def test_layers_add_up(save, layers, paths):
    assert sorted(save(*layers).entries()) == paths


def test_a_later_layer_replaces_a_file(save):
    replaced, plain = save({"a": b"1"}, {"a": b"2"}).entries(), save({"a": b"2"}).entries()
    assert replaced == plain


def test_equal_images_do_not_differ(save):
    assert compare_entries(save({"a": b"1"}, mtime=1).entries(), save({"a": b"1"}, mtime=2).entries()) == []


@pytest.mark.parametrize(
    ("other", "how"),
    [
        ({"a": b"1", "l": "a"}, "only in A"),
        ({"a": b"1", "l": "a", "d": None, "e": b""}, "only in B"),
        ({"a": b"2", "l": "a", "d": None}, "content "),
        ({"a": b"1", "l": "b", "d": None}, "content a, b"),
        ({"a": None, "l": "a", "d": None}, "kind file, directory"),
    ],
    ids=["one fewer", "one more", "another content", "a link elsewhere", "another kind"],
)
def test_a_difference_is_told_by_its_path(save, other, how):
    image = save({"a": b"1", "l": "a", "d": None})
    [difference] = compare_entries(image.entries(), save(other).entries())
    assert how in difference.how
    assert digest_contents(image.entries(), {}) != digest_contents(save(other).entries(), {})


def test_another_mode_is_a_difference(save):
    first, second = save({"a": b""}).entries(), save({"a": b""}, mode=0o4755).entries()
    assert compare_entries(first, second) == [Difference("/a", "mode 644, 4755")]


def test_how_an_image_is_run_is_compared_and_its_labels_are_not():
    first = {"config": {"User": "1", "Labels": {"a": "1"}}, "created": "2026"}
    second = {"config": {"User": "0", "Labels": {"a": "2"}}, "created": "2027"}
    assert compare_settings(first, second) == [Difference("User", "'1', '0'")]


@pytest.fixture
def certificate(tmp_path: Path) -> bytes:
    """A certificate that nobody ships, such as that of a proxy."""
    ensure_certificate(tmp_path / "certificates")
    return (tmp_path / "certificates" / "ca.pem").read_bytes()


SECRETS = {
    "a private key": ({"app/x.py": b"KEY = '''" + PRIVATE + b"'''"}, "private key"),
    "a GitHub token": ({"x": b"token ghp_" + b"a1" * 18}, "GitHub token, ghp"),
    "an AWS key": ({"x": b"id=AKIA" + b"ABCDEFGH12345678"}, "AWS key"),
    "pip's credentials": ({"etc/pip.conf": b"[global]\nindex-url = https://x/"}, "a file for credentials"),
    "a netrc": ({"root/.netrc": b"machine x"}, "a file for credentials"),
    "a mirror": (
        {"etc/apt/sources.list": b"deb http://mirror.corp.example/debian x"},
        "not public: mirror.corp.example",
    ),
    "a wheel from elsewhere": ({"s/x.dist-info/direct_url.json": b'{"url": "https://wheels.corp/x"}'}, "wheels.corp"),
    "a word of the machine": ({"x": b"built on machine-7"}, "a word of the machine that built it: machine-7"),
}


@pytest.mark.parametrize(("layer", "what"), SECRETS.values(), ids=SECRETS)
def test_a_secret_is_found(save, layer, what):
    [finding] = find_secrets(save(layer), ["machine-7"])
    assert what in finding.what and finding.where.startswith("layer 1, /")


def test_a_secret_that_a_later_layer_removed_is_found(save):
    [finding] = find_secrets(save({"x": PRIVATE}, {".wh.x": b""}))
    assert finding.where == "layer 1, /x"


def test_a_certificate_that_no_package_ships_is_found(save, certificate):
    shipped = {"s/site-packages/certifi/cacert.pem": certificate, "etc/ssl/certs/ca-certificates.crt": certificate}
    assert find_secrets(save(shipped)) == []
    [finding] = find_secrets(save({"etc/ssl/certs/ca-certificates.crt": certificate}))
    assert finding.what == "a certificate that no package ships"


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"config": {"Env": ["DATABASE_PASSWORD=x"]}}, "environment, DATABASE_PASSWORD"),
        ({"config": {"Env": ["https_proxy=http://p"]}}, "environment, https_proxy"),
        ({"history": [{"created_by": "RUN pip --index-url https://me:pw@pypi.corp/"}]}, "settings and history"),
        ({"config": {"Labels": {"by": "machine-7"}}}, "settings and history"),
    ],
)
def test_settings_and_history_are_looked_into(save, settings, where):
    [finding] = find_secrets(save({}, settings=settings), ["machine-7"])
    assert finding.where == where


@pytest.mark.parametrize(
    "layer",
    [
        {"x.py": b"-----BEGIN PRIVATE KEY-----"},
        {"x.py": b"-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----"},
        {"x.json": b"AKIAIOSFODNN7EXAMPLE"},
        {"etc/apt/sources.list": b"deb http://deb.debian.org/debian bookworm main"},
        {"etc/ssl/certs/ca-certificates.crt": b""},
        {"etc/pip.conf": b"\n"},
    ],
    ids=["a marker", "an example", "an example key", "Debian's own", "an empty bundle", "an empty file"],
)
def test_what_is_no_secret_is_not_found(save, layer):
    assert find_secrets(save(layer)) == []
