"""Archives and directories become private copies: complete, bounded, and never through a link."""

import os
import shutil
import stat
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from attacks.artifacts.tiny_model import make_files, write_model
from garrison.admission import unpack
from garrison.admission.pack import write_archive
from garrison.admission.rules.members import open_directory, open_member, read_member, write_member
from garrison.admission.unpack import copy_model, unpack_archive
from garrison.errors import ArtifactRefused, ConfigError, GarrisonError, Undecided
from packing import LIMITS


@pytest.fixture
def model(tmp_path) -> Path:
    """A packed model's directory."""
    return write_model(tmp_path / "model", make_files())


@pytest.fixture
def archive(tmp_path, model) -> Path:
    """The same as a .mar."""
    return write_archive(model, tmp_path / "model.mar")


def read_all(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def bring(source: Path, target: Path, limits=LIMITS) -> Path:
    (copy_model if source.is_dir() else unpack_archive)(source, target, limits)
    return target


@pytest.fixture(params=["model", "archive"])
def source(request) -> Path:
    """A model as a directory, and as an archive."""
    return request.getfixturevalue(request.param)


def test_every_file_arrives_as_it_was(tmp_path, source):
    assert read_all(bring(source, tmp_path / "copy")) == make_files()


def test_nobody_else_can_enter_or_change_the_copy(tmp_path, source):
    old = os.umask(0)
    try:
        copy = bring(source, tmp_path / "copy")
    finally:
        os.umask(old)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (copy, *copy.rglob("*"))} == {0o700, 0o600}


def test_what_is_there_is_not_touched(tmp_path, source):
    (tmp_path / "copy").mkdir()
    with pytest.raises(ConfigError, match=r"copy: cannot be made \(File exists\); give a new one"):
        bring(source, tmp_path / "copy")
    assert list((tmp_path / "copy").iterdir()) == []


@pytest.mark.parametrize("limit", ["max_bytes", "max_files"])
def test_at_the_limit_it_is_accepted_and_beyond_not(tmp_path, source, limit):
    most = len(make_files()) if limit == "max_files" else sum(map(len, make_files().values()))
    bring(source, tmp_path / "copy", replace(LIMITS, **{limit: most}))
    with pytest.raises(ArtifactRefused) as caught:
        bring(source, tmp_path / "again", replace(LIMITS, **{limit: most - 1}))
    assert caught.value.reason == f"too_many_{limit.removeprefix('max_')}"
    assert not (tmp_path / "again").exists()


def test_a_deflated_archive_is_unpacked(tmp_path, model):
    with zipfile.ZipFile(tmp_path / "deflated.mar", "w", zipfile.ZIP_DEFLATED) as written:
        for name, data in make_files().items():
            written.writestr(name, data)
    assert read_all(bring(tmp_path / "deflated.mar", tmp_path / "copy")) == make_files()


def test_a_damaged_archive_leaves_nothing(tmp_path, archive):
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 1
    archive.write_bytes(data)
    with pytest.raises(ArtifactRefused):
        unpack_archive(archive, tmp_path / "copy", LIMITS)
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("name", ["gone.mar", "."])
def test_what_cannot_be_read_is_named(tmp_path, name):
    with pytest.raises(ConfigError, match=r"cannot be read"):
        unpack_archive(tmp_path / name, tmp_path / "copy", LIMITS)


def test_a_tar_is_told_what_to_do(tmp_path):
    (tmp_path / "model.tar.gz").write_bytes(b"\x1f\x8b\x08" + bytes(20))
    with pytest.raises(ArtifactRefused, match=r"gzip .* unpack this yourself and give the directory") as caught:
        unpack_archive(tmp_path / "model.tar.gz", tmp_path / "copy", LIMITS)
    assert caught.value.reason == "archive_format"


def test_a_linked_archive_is_refused(tmp_path, archive):
    (tmp_path / "link.mar").symlink_to(archive)
    with pytest.raises(ArtifactRefused) as caught:
        unpack_archive(tmp_path / "link.mar", tmp_path / "copy", LIMITS)
    assert caught.value.reason in ("not_a_file", "bad_zip")


def test_a_file_that_may_not_be_read_is_named(tmp_path, unprivileged, model):
    (model / "model.pt").chmod(0)
    with pytest.raises(ConfigError, match=r"model\.pt: cannot be copied \(Permission denied\)"):
        copy_model(model, tmp_path / "copy", LIMITS)


# Somebody else changes the source meanwhile ---------------------------------------------------------------------------


def test_a_file_that_grows_while_it_is_copied_is_cut_off(tmp_path, model, monkeypatch):
    limits = replace(LIMITS, max_bytes=sum(map(len, make_files().values())) + 1000)
    listed = unpack.list_entries

    def list_then_grow(*arguments):
        entries = listed(*arguments)
        with (model / "labels.json").open("ab") as file:
            file.write(bytes(2000))
        return entries

    monkeypatch.setattr(unpack, "list_entries", list_then_grow)
    with pytest.raises(ArtifactRefused) as caught:
        copy_model(model, tmp_path / "copy", limits)
    assert caught.value.reason == "too_many_bytes"
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize(
    ("swap", "expected"),
    [
        pytest.param(lambda path: path.symlink_to("/etc/passwd"), "not_a_file", id="link"),
        pytest.param(os.mkfifo, "not_a_file", id="fifo"),
        pytest.param(Path.mkdir, "not_a_file", id="directory"),
        pytest.param(lambda path: os.link(path.with_name("labels.json"), path), "hard_link", id="hard-link"),
        pytest.param(lambda path: None, "vanished", id="gone"),
    ],
)
def test_a_file_that_becomes_something_else_is_refused(tmp_path, model, monkeypatch, swap, expected):
    listed = unpack.list_entries

    def list_then_swap(*arguments):
        entries = listed(*arguments)
        (model / "model.pt").unlink()
        swap(model / "model.pt")
        return entries

    monkeypatch.setattr(unpack, "list_entries", list_then_swap)
    with pytest.raises((ArtifactRefused, Undecided), match=expected):
        copy_model(model, tmp_path / "copy", LIMITS)
    assert not (tmp_path / "copy").exists()


def test_a_directory_that_is_renamed_stays_the_one_that_was_opened(tmp_path, model):
    with open_directory(model) as root:
        model.rename(tmp_path / "elsewhere")
        write_model(model, {"labels.json": b"other"})
        assert read_member(root, "labels.json", 1000) == make_files()["labels.json"]


def test_swaps_at_random_moments_never_lead_out_of_the_model(tmp_path, model):
    """An attacker swaps weights and a link to a secret in turn; the secret is never copied."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    stop = threading.Event()

    def attack() -> None:
        link, weights, place = tmp_path / "link", tmp_path / "weights", model / "model.pt"
        while not stop.is_set():
            link.symlink_to(secret)
            link.rename(place)
            weights.write_bytes(b"weights")
            weights.rename(place)

    attacker = threading.Thread(target=attack)
    attacker.start()
    try:
        for number in range(200):
            copy = tmp_path / f"copy-{number}"
            try:
                copy_model(model, copy, LIMITS)
            except GarrisonError:
                assert not copy.exists()
                continue
            assert (copy / "model.pt").read_bytes() != b"secret"
            shutil.rmtree(copy)
    finally:
        stop.set()
        attacker.join()


# Members ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "MAR-INF/../x", "MAR-INF/a/b", "/x", "", "..", "MAR-INF/", "MAR-INF/.."]
)
def test_no_name_leads_out_of_a_directory(tmp_path, name):
    with open_directory(tmp_path) as root:
        with pytest.raises(ArtifactRefused):
            write_member(root, name, [b"x"])
        with pytest.raises(ArtifactRefused), open_member(root, name):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_member_is_never_written_over(tmp_path):
    with open_directory(tmp_path) as root:
        write_member(root, "a", [b"first"])
        with pytest.raises(FileExistsError):
            write_member(root, "a", [b"second"])
    assert (tmp_path / "a").read_bytes() == b"first"


def test_a_member_is_never_written_through_a_link(tmp_path):
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "a").symlink_to(tmp_path / "outside")
    with open_directory(tmp_path / "inside") as root, pytest.raises(FileExistsError):
        write_member(root, "a", [b"x"])
    assert not (tmp_path / "outside").exists()
