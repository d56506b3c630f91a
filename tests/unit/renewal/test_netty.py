"""Netty comes from anywhere, and is taken only if it is what was written down."""

import contextlib
import hashlib
import http.client
import io
import tarfile
from pathlib import Path

import pytest

from garrison.errors import ConfigError
from garrison.torchserve.renewal import netty
from garrison.torchserve.renewal.netty import EPOLL_JAR, SHA256, Unreachable, collect_netty


def ignore(*_: object) -> None:
    """Take what is said, and the progress."""


@pytest.fixture
def directory(tmp_path, jars) -> Path:
    for name, data in jars.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


@pytest.fixture
def empty_cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/garrison" / f"netty-{netty.VERSION}"


def test_a_directory_is_a_source(directory, jars):
    assert collect_netty(str(directory), ignore, ignore) == jars


@pytest.mark.parametrize("name", [next(iter(SHA256)), EPOLL_JAR])
def test_one_changed_bit_is_refused(directory, name):
    data = bytearray((directory / name).read_bytes())
    data[-1] ^= 1
    (directory / name).write_bytes(data)
    with pytest.raises(ConfigError, match=rf"{name} of .*not netty's .*nothing was installed"):
        collect_netty(str(directory), ignore, ignore)


def test_a_missing_file_is_named(directory):
    (directory / EPOLL_JAR).unlink()
    with pytest.raises(ConfigError, match=f"{EPOLL_JAR}: cannot be read"):
        collect_netty(str(directory), ignore, ignore)


def test_the_cache_needs_no_source_and_is_not_believed(empty_cache, jars, monkeypatch):
    asked = []

    def answer(_: object) -> dict[str, bytes]:
        asked.append(1)
        return jars

    monkeypatch.setattr(netty, "_from_maven", answer)
    assert collect_netty(None, ignore, ignore) == jars
    assert collect_netty(None, ignore, ignore) == jars
    assert len(asked) == 1
    (empty_cache / EPOLL_JAR).write_bytes(b"evil")
    assert collect_netty(None, ignore, ignore) == jars
    assert len(asked) == 2
    assert (empty_cache / EPOLL_JAR).read_bytes() == jars[EPOLL_JAR]


@pytest.mark.usefixtures("empty_cache")
def test_pypi_is_asked_where_maven_central_is_out_of_reach(jars, monkeypatch):
    said = []
    monkeypatch.setattr(netty, "_from_maven", unreachable)
    monkeypatch.setattr(netty, "_from_pyspark", lambda progress: jars)
    assert collect_netty(None, said.append, ignore) == jars
    assert any("out of reach; taking it out of PyPI's pyspark instead" in line for line in said)


@pytest.mark.usefixtures("empty_cache")
@pytest.mark.parametrize(
    ("source", "part"),
    [("maven", "try --source pyspark, or --source DIR"), ("pyspark", "name it with --source: netty-buffer")],
)
def test_a_source_that_was_named_is_the_only_one(monkeypatch, source, part):
    monkeypatch.setattr(netty, "_from_maven", unreachable)
    monkeypatch.setattr(netty, "_from_pyspark", unreachable)
    with pytest.raises(ConfigError, match=part):
        collect_netty(source, ignore, ignore)


@pytest.mark.usefixtures("empty_cache")
def test_nothing_of_an_unknown_archive_is_used(tmp_path, jars, monkeypatch):
    """Netty's own files in it, but the archive is another: it is not the one that was looked at."""
    archive = tmp_path / "pyspark.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        for name, data in jars.items():
            (tmp_path / name).write_bytes(data)
            file.add(tmp_path / name, f"{netty.PYSPARK_FOLDER}{name}")
    serve_file(monkeypatch, archive)
    with pytest.raises(ConfigError, match=r"not the known file .*nothing of it is used"):
        collect_netty("pyspark", ignore, ignore)
    monkeypatch.setattr(netty, "PYSPARK_SHA256", hashlib.sha256(archive.read_bytes()).hexdigest())
    serve_file(monkeypatch, archive)
    assert collect_netty("pyspark", ignore, ignore) == jars


@pytest.mark.usefixtures("empty_cache")
@pytest.mark.parametrize("data", [b"", b"not an archive", b"\x1f\x8b\x08\x00" + b"\xff" * 40], ids=repr)
def test_what_is_no_archive_is_told(tmp_path, monkeypatch, data):
    archive = tmp_path / "pyspark.tar.gz"
    archive.write_bytes(data)
    serve_file(monkeypatch, archive)
    with pytest.raises(ConfigError, match=r"damaged|stopped answering"):
        collect_netty("pyspark", ignore, ignore)


def test_only_https_is_spoken(empty_cache, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(ConfigError, match="not an https address"):
        collect_netty("pyspark", ignore, ignore)
    assert not empty_cache.exists()


@pytest.mark.usefixtures("empty_cache")
def test_a_password_in_the_index_is_not_told(monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:hunter2@127.0.0.1:9/simple")
    with pytest.raises(ConfigError, match="names a user") as refusal:
        collect_netty("pyspark", ignore, ignore)
    assert "hunter2" not in str(refusal.value)


@pytest.mark.usefixtures("empty_cache")
@pytest.mark.parametrize("error", [TimeoutError("timed out"), ConnectionResetError(), http.client.IncompleteRead(b"")])
@pytest.mark.parametrize("source", ["maven", "pyspark"])
def test_an_answer_that_breaks_off_is_told(monkeypatch, source, error):
    class Breaking(io.BytesIO):
        def read(self, *_: object) -> bytes:
            raise error

    monkeypatch.setattr(netty.urllib.request, "urlopen", lambda *_, **__: Breaking())
    with pytest.raises(ConfigError, match=r"stopped answering .*; (try|where there is no network)"):
        collect_netty(source, ignore, ignore)


def unreachable(_: object) -> dict[str, bytes]:
    raise Unreachable("out of reach")


def serve_file(monkeypatch, archive: Path) -> None:
    """Let PyPI's answer be a file of this machine."""

    @contextlib.contextmanager
    def open_file(_: str):
        with archive.open("rb") as file:
            yield Answer(file)

    class Answer:
        def __init__(self, file) -> None:
            self.read, self.headers = file.read, {"content-length": str(archive.stat().st_size)}

    monkeypatch.setattr(netty, "_find_pyspark", lambda: "https://nowhere")
    monkeypatch.setattr(netty, "_open", open_file)
