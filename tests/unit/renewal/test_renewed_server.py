"""The renewed server's directory: nothing else is started, and nothing that was changed."""

import os
import stat
import zipfile

import pytest

from garrison.errors import ConfigError
from garrison.torchserve.renewal.__main__ import main
from garrison.torchserve.renewal.jar import JAR
from garrison.torchserve.renewal.netty import SHA256
from garrison.torchserve.renewal.server import FRONTEND, find_renewed, write_renewed


@pytest.fixture
def renewed(home, jars):
    """A renewed server that a test may change."""
    return write_renewed(home, jars)


def test_it_can_be_found_once_it_is_written(home, renewed):
    assert find_renewed(home) == renewed
    assert {stat.S_IMODE(path.stat().st_mode) for path in renewed.class_path} == {0o644}
    assert os.access(renewed.program, os.X_OK)


def test_two_are_the_same(renewed, jars):
    names = [path.name for path in renewed.directory.iterdir()]
    before = [(renewed.directory / name).read_bytes() for name in names]
    again = write_renewed(renewed.directory.parents[2], jars)
    assert [(again.directory / name).read_bytes() for name in names] == before


def test_the_library_is_there_and_the_jar_that_would_unpack_one_is_not(renewed):
    assert [path.name for path in renewed.directory.glob("*.so")] == ["libnetty_transport_native_epoll_x86_64.so"]
    for jar in renewed.class_path:
        assert [name for name in zipfile.ZipFile(jar).namelist() if name.endswith((".so", ".jnilib", ".dll"))] == []


@pytest.mark.parametrize(
    "name", [JAR, next(iter(SHA256)), "libnetty_transport_native_epoll_x86_64.so", "worker-python"]
)
def test_a_changed_or_missing_file_is_refused(home, renewed, name):
    path = renewed.directory / name
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(ConfigError, match=rf"{name}: .*run scripts/renew-server"):
        find_renewed(home)
    path.unlink()
    with pytest.raises(ConfigError, match=rf"{name}: cannot be read .*run scripts/renew-server"):
        find_renewed(home)


def test_what_does_not_belong_there_goes(home, renewed, jars):
    (renewed.directory / "evil.jar").write_bytes(b"")
    assert "evil.jar" not in [path.name for path in renewed.class_path]
    write_renewed(home, jars)
    assert not (renewed.directory / "evil.jar").exists()


def test_an_installation_without_torchserve_s_jar_is_told(home, jars):
    (home / FRONTEND / JAR).unlink()
    with pytest.raises(ConfigError, match=r"model-server\.jar: cannot be read"):
        write_renewed(home, jars)


def test_this_installation_needs_nothing(capsys):
    assert main([]) == 0
    assert capsys.readouterr().out == "TorchServe's server is renewed already.\n"


def test_a_wrong_source_is_one_sentence(capsys, tmp_path):
    assert main(["--force", "--source", str(tmp_path)]) == 78
    assert capsys.readouterr().err.count("\n") == 1
