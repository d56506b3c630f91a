"""What was admitted is what is read: a recorded file comes back byte for byte, or not at all."""

import json
import os
from dataclasses import replace

import pytest

from garrison.errors import ArtifactRefused, ConfigError
from garrison.record import (
    CHUNK_BYTES,
    PlainFiles,
    Record,
    RecordedFiles,
    digest_files,
    hash_file,
    read_record,
    render_record,
)

CONTENTS = {"contract.yaml": b"garrison: 1\n", "model.pt": b"w" * (CHUNK_BYTES + 1), "MAR-INF/MANIFEST.json": b"{}"}


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "model/MAR-INF").mkdir(parents=True)
    for name, data in CONTENTS.items():
        (tmp_path / "model" / name).write_bytes(data)
    return tmp_path / "model"


@pytest.fixture
def record(directory) -> Record:
    files = {name: hash_file(directory, name) for name in CONTENTS}
    return Record(
        model="tiny",
        version="1.2",
        digest=digest_files(files),
        files=files,
        signature_sha256="0" * 64,
        signer="release",
        admitted_at="2026-01-31T12:00:00+00:00",
        findings=(),
        tools={"garrison": "1"},
    )


@pytest.fixture
def write_record(tmp_path):
    def write(data: bytes):
        path = tmp_path / "admission.json"
        path.write_bytes(data)
        return path

    return write


def test_every_file_comes_back(directory, record):
    files = RecordedFiles(directory, record)
    assert {name: files.read(name) for name in files.names()} == CONTENTS


def test_a_record_reads_as_it_was_written(record, write_record):
    assert read_record(write_record(render_record(record))) == record


def test_the_place_in_the_store_names_version_and_digest(record):
    assert record.directory_name == f"1.2-{record.digest[:16]}"


def test_files_of_other_names_sizes_or_bytes_have_another_digest(record):
    files = dict(record.files)
    one = files.pop("model.pt")
    for changed in (files, files | {"model2.pt": one}, files | {"model.pt": replace(one, size=one.size + 1)}):
        assert digest_files(changed) != record.digest


def flip_one_bit(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def link(path):
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def link_parent(path):
    path.parent.rename(path.parent.with_name("elsewhere"))
    path.parent.symlink_to("elsewhere")


def make_fifo(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(flip_one_bit, id="one-bit"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes() + b"x"), id="longer"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:-1]), id="shorter"),
        pytest.param(lambda path: path.unlink(), id="gone"),
        pytest.param(link, id="link-to-the-same-bytes"),
        pytest.param(make_fifo, id="fifo"),
    ],
)
@pytest.mark.parametrize("name", CONTENTS)
def test_a_changed_file_is_refused(directory, record, name, change):
    change(directory / name)
    with pytest.raises(ArtifactRefused) as caught:
        RecordedFiles(directory, record).read(name)
    assert caught.value.reason == "tampered"


def test_a_linked_directory_is_refused(directory, record):
    link_parent(directory / "MAR-INF/MANIFEST.json")
    with pytest.raises(ArtifactRefused):
        RecordedFiles(directory, record).read("MAR-INF/MANIFEST.json")


@pytest.mark.parametrize("name", ["handler.py", "../model/model.pt", "/etc/hostname", ""])
def test_what_is_not_recorded_is_not_read(directory, record, name):
    (directory / "handler.py").write_bytes(b"")
    with pytest.raises(ConfigError, match="is no file of this model"):
        RecordedFiles(directory, record).read(name)


def test_a_file_that_never_ends_is_not_read_to_its_end(directory, record):
    """Only the recorded size and one chunk more are read."""
    with (directory / "contract.yaml").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ArtifactRefused):
        RecordedFiles(directory, record).read("contract.yaml")


def changed(record: Record, **changes) -> bytes:
    return (json.dumps(json.loads(render_record(record)) | changes, indent=2, sort_keys=True) + "\n").encode()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"digest": "0" * 64}, id="another-digest"),
        pytest.param({"garrison": 2}, id="another-format"),
        pytest.param({"more": 1}, id="more-keys"),
        pytest.param({"files": {}}, id="no-files"),
        pytest.param({"files": {"../x": {"size": 1, "sha256": "0" * 64}}}, id="a-file-elsewhere"),
        pytest.param({"files": {"x": {"size": -1, "sha256": "0" * 64}}}, id="a-negative-size"),
        pytest.param({"files": {"x": {"size": 1, "sha256": "0"}}}, id="a-short-digest"),
        pytest.param({"version": 1}, id="a-number-for-a-text"),
        pytest.param({"admitted_at": "yesterday"}, id="no-time"),
        pytest.param({"admitted_at": "2026-01-31T12:00:00"}, id="a-time-without-a-zone"),
    ],
)
def test_a_record_that_was_changed_is_refused(record, write_record, change):
    with pytest.raises(ArtifactRefused) as caught:
        read_record(write_record(changed(record, **change)))
    assert caught.value.reason == "tampered"


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b"\xff", b"[" * 100_000, b"9" * 5000], ids=repr)
def test_what_is_no_record_is_refused(write_record, data):
    with pytest.raises(ArtifactRefused):
        read_record(write_record(data))


def test_another_spelling_of_the_same_record_is_refused(record, write_record):
    with pytest.raises(ArtifactRefused, match="contradicts itself"):
        read_record(write_record(render_record(record).replace(b"  ", b" ")))


def test_a_model_without_a_record_was_not_admitted(tmp_path):
    with pytest.raises(ArtifactRefused) as caught:
        read_record(tmp_path / "admission.json")
    assert caught.value.reason == "no_record"


def test_plain_files_are_read_as_they_are(directory):
    files = PlainFiles(directory)
    (directory / "link").symlink_to("model.pt")
    assert files.names() == frozenset(CONTENTS)
    assert files.read("model.pt") == CONTENTS["model.pt"]
    with pytest.raises(ConfigError, match=r"missing\.pt: cannot be read"):
        files.read("missing.pt")
