"""A zip is read only where every reader sees the same members, and never further than the limits."""

import io
import os
import stat
import struct
import warnings
import zipfile
from dataclasses import replace

import pytest

from garrison.admission.settings import Limits
from garrison.admission.zips import open_zip
from garrison.errors import ArtifactRefused

LIMITS = Limits(max_files=10, max_bytes=8 * 2**20, max_ratio=200, max_workers=1, max_queue=1, max_timeout_s=1)
CENTRAL, LOCAL = 0, 1


def pack(*members: tuple[str, bytes], method: int = zipfile.ZIP_STORED, **attributes: int) -> bytes:
    """Return a zip of these members; `attributes` are set on each entry."""
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", method) as archive:
        warnings.simplefilter("ignore")  # zipfile warns of repeated names, and writes them
        for name, data in members:
            entry = zipfile.ZipInfo(name)
            entry.compress_type = method
            for key, value in attributes.items():
                setattr(entry, key, value)
            archive.writestr(entry, data)
    return out.getvalue()


def patch(data: bytes, header: int, offset: int, layout: str, value: int) -> bytes:
    """Return an archive with one field of its first central or local header changed."""
    start = data.index(b"PK\1\2") if header == CENTRAL else 0
    return b"".join(
        [data[: start + offset], struct.pack(layout, value), data[start + offset + struct.calcsize(layout) :]]
    )


def refusal_of(data: bytes, limits: Limits = LIMITS) -> str:
    with pytest.raises(ArtifactRefused) as caught, open_zip(data, limits) as archive:
        for member in archive.members():
            archive.read(member.name, limits.max_bytes)
    return caught.value.reason


def contents(source, limits: Limits = LIMITS) -> dict[str, bytes]:
    with open_zip(source, limits) as archive:
        return {member.name: archive.read(member.name, member.size) for member in archive.members()}


ONE = pack(("a.txt", b"hello"))
TWO = pack(("a.txt", b"hello"), ("b/c.txt", b"world" * 1000), method=zipfile.ZIP_DEFLATED)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
def test_members_are_read_as_zipfile_wrote_them(method):
    members = {"a.txt": b"", "b/ü.bin": os.urandom(3 * 2**20), "b/c d": b"x" * 5000}
    assert contents(pack(*members.items(), method=method)) == members


def test_directories_may_be_members():
    assert contents(pack(("d/", b""), ("d/a", b"1"))) == {"d/": b"", "d/a": b"1"}


def test_an_empty_archive_has_no_members():
    assert contents(pack()) == {}


def test_a_file_is_read_from_disk(tmp_path):
    path = tmp_path / "a.zip"
    path.write_bytes(TWO)
    assert contents(path) == contents(TWO)


def test_a_stream_with_descriptors_is_read():
    class Pipe(io.RawIOBase):
        data = b""

        def writable(self):
            return True

        def write(self, chunk):
            self.data += bytes(chunk)
            return len(chunk)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", b"x" * 100)
        with archive.open("b", "w", force_zip64=True) as member:
            member.write(b"y" * 100)
    assert contents(pipe.data) == {"a": b"x" * 100, "b": b"y" * 100}


@pytest.mark.parametrize("save", ["savez", "savez_compressed"])
def test_what_numpy_saves_is_read(save):
    numpy = pytest.importorskip("numpy")
    out = io.BytesIO()
    getattr(numpy, save)(out, a=numpy.arange(1000), b=numpy.ones((3, 3)))
    assert set(contents(out.getvalue())) == {"a.npy", "b.npy"}


@pytest.mark.parametrize("kind", ["state dict", "TorchScript"])
def test_what_torch_saves_is_read(kind, tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "model.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.nn.Linear(3, 2)
        torch.save(model.state_dict(), path) if kind == "state dict" else torch.jit.save(torch.jit.script(model), path)
    with open_zip(path, LIMITS, max_files=100) as archive:
        assert archive.read("model/byteorder", 10) == b"little"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "bad_zip"),
        (ONE[:-1], "ambiguous_zip"),
        (b"#!/bin/sh\n" + ONE, "ambiguous_zip"),
        (ONE + b"\0", "ambiguous_zip"),
        (ONE + ONE, "ambiguous_zip"),
        (ONE[: ONE.index(b"PK\1\2")] + b"hidden" + ONE[ONE.index(b"PK\1\2") :], "ambiguous_zip"),
        (pack(("a", b"1"), ("a", b"2")), "repeated_name"),
        (pack(("a", b"1"), ("A", b"2")), "repeated_name"),
        (pack(("\u00e9", b"1"), ("e\u0301", b"2")), "repeated_name"),
        (pack(("a", b"1"), ("a/b", b"2")), "repeated_name"),
        (pack(("a", b"1"), ("a/", b"")), "repeated_name"),
        (pack(("../a", b"1")), "unsafe_name"),
        (pack(("/a", b"1")), "unsafe_name"),
        (pack(("a//b", b"1")), "unsafe_name"),
        (pack(("./a", b"1")), "unsafe_name"),
        (pack(("C:a", b"1")), "unsafe_name"),
        (pack(("a\nb", b"1")), "unsafe_name"),
        (pack(("a\u202eb", b"1")), "unsafe_name"),
        (pack(("axb", b"1")).replace(b"axb", b"a\\b"), "unsafe_name"),
        (pack(("axb", b"1")).replace(b"axb", b"a\0b"), "unsafe_name"),
        (pack(("axb", b"1")).replace(b"axb", b"a\xffb"), "unsafe_name"),
        (pack(("a", b"1"), external_attr=(stat.S_IFLNK | 0o777) << 16), "not_a_file"),
        (pack(("a", b"1"), external_attr=(stat.S_IFCHR | 0o666) << 16), "not_a_file"),
        (pack(("a", b"1"), external_attr=(stat.S_IFDIR | 0o755) << 16), "ambiguous_zip"),
        (pack(("a/", b"1")), "ambiguous_zip"),
        (pack(("a", b"1"), comment=b"hidden"), "ambiguous_zip"),
        (pack(("a", b"1"), extra=struct.pack("<HH5s", 0x7075, 5, b"\1    ")), "ambiguous_zip"),
        (pack(("a", b"x" * 100), method=zipfile.ZIP_BZIP2), "unsupported_zip"),
        (pack(("a", b"x" * 100), method=zipfile.ZIP_LZMA), "unsupported_zip"),
        (patch(patch(ONE, CENTRAL, 8, "<H", 1), LOCAL, 6, "<H", 1), "unsupported_zip"),
        (patch(ONE, LOCAL, 6, "<H", 1), "ambiguous_zip"),
        (patch(ONE, LOCAL, 8, "<H", 8), "ambiguous_zip"),
        (patch(ONE, LOCAL, 14, "<L", 7), "ambiguous_zip"),
        (patch(ONE, LOCAL, 18, "<L", 4), "ambiguous_zip"),
        (patch(ONE, LOCAL, 22, "<L", 4), "ambiguous_zip"),
        (patch(ONE, CENTRAL, 20, "<L", 4), "ambiguous_zip"),
        (patch(ONE, CENTRAL, 24, "<L", 6), "ambiguous_zip"),
        (patch(ONE, CENTRAL, 42, "<L", 1), "ambiguous_zip"),
        (patch(ONE, CENTRAL, 42, "<L", 2**31), "ambiguous_zip"),
        (patch(patch(ONE, CENTRAL, 16, "<L", 7), LOCAL, 14, "<L", 7), "bad_zip"),
        (ONE.replace(b"a.txt", b"b.txt", 1), "ambiguous_zip"),
        (ONE.replace(b"hello", b"hallo"), "bad_zip"),
        (pack(*((str(number), b"") for number in range(11))), "too_many_files"),
        (pack(("a", b"0" * (8 * 2**20 + 1))), "too_many_bytes"),
        (pack(("a", b"0" * 2**22), method=zipfile.ZIP_DEFLATED), "compression_bomb"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_readers_could_see_differently_is_refused(data, reason):
    assert refusal_of(data) == reason


def test_members_may_not_share_bytes():
    first, second = (item.header_offset for item in zipfile.ZipFile(io.BytesIO(TWO)).infolist())
    at = TWO.rindex(b"PK\1\2") + 42
    assert refusal_of(TWO[:at] + struct.pack("<L", first) + TWO[at + 4 :]) == "ambiguous_zip"
    assert second > first


def test_the_limits_themselves_are_within():
    assert len(contents(pack(*((str(number), b"") for number in range(10))))) == 10
    assert len(contents(pack(("a", b"0" * 8 * 2**20)))["a"]) == LIMITS.max_bytes


def test_data_behind_a_deflated_stream_is_refused():
    data = pack(("a", b"x" * 100), method=zipfile.ZIP_DEFLATED)
    size = zipfile.ZipFile(io.BytesIO(data)).infolist()[0].compress_size
    start = 30 + 1
    longer = data[: start + size] + b"hidden" + data[start + size :]
    longer = patch(patch(longer, LOCAL, 18, "<L", size + 6), CENTRAL, 20, "<L", size + 6)
    end = longer.rindex(b"PK\5\6")
    longer = longer[: end + 16] + struct.pack("<L", longer.index(b"PK\1\2")) + longer[end + 20 :]
    assert refusal_of(longer) == "bad_zip"


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
def test_a_zip_within_a_zip_is_opened_in_place(method):
    outer = pack(("inner.zip", TWO), method=method)
    with open_zip(outer, LIMITS) as archive, archive.open("inner.zip") as file:
        assert contents(file) == contents(TWO)


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "a.zip").write_bytes(ONE)
    (tmp_path / "link.zip").symlink_to(tmp_path / "a.zip")
    with pytest.raises(ArtifactRefused), open_zip(tmp_path / "link.zip", LIMITS):
        pass


@pytest.mark.parametrize("position", range(0, len(TWO) * 8, 7))
def test_a_flipped_bit_is_refused_or_changes_nothing_that_is_read(position):
    data = bytearray(TWO)
    data[position // 8] ^= 1 << position % 8
    try:
        assert contents(bytes(data)) == contents(TWO)
    except ArtifactRefused:
        return


def test_more_members_are_read_where_it_is_said():
    data = pack(*((str(number), b"") for number in range(11)))
    with open_zip(data, replace(LIMITS, max_files=1), max_files=11) as archive:
        assert len(archive.members()) == 11
