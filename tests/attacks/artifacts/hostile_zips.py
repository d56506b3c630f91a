"""Archives in which the zip itself is the trick, and what calls itself an archive and is none."""

import gzip
import io
import struct
import tarfile
from typing import Any

from attacks.artifacts import HostileCase
from attacks.artifacts.rawzip import DEFLATED, Part, write_zip
from attacks.artifacts.tiny_model import CANARY_CODE, make_files, parts_of, zip_case


def list_zips() -> list[HostileCase]:
    """Return archives in which the zip itself is the trick."""
    files = make_files()
    good = parts_of(files)
    evil = Part(b"handler.py", CANARY_CODE)
    weights = Part(b"model.pt", files["model.pt"])
    rest = [part for part in good if part.name != b"model.pt"]

    def with_name(name: bytes, **fields: Any) -> bytes:
        return write_zip([*good, Part(name, CANARY_CODE, **fields)])

    # Zip Slip, CVE-2018-1002200 and many after it; TorchServe's own unpacker: CVE-2023-48299
    names = {
        "zip-slip": b"../../evil.py",
        "zip-slip-inside": b"MAR-INF/../../evil.py",
        "zip-absolute": b"/etc/cron.d/evil",
        "zip-backslash": b"..\\..\\evil.py",
        "zip-drive": b"C:\\evil.py",
        "zip-drive-relative": b"C:evil.py",
        "zip-nul-in-name": b"model.txt\0.py",  # Python's zipfile cuts names at a NUL, CVE-2019-9674's neighbourhood
        "zip-newline-in-name": b"labels\n.json",
        "zip-empty-name": b"",
        "zip-dot": b"./evil.json",
        "zip-long-name": b"a" * 300 + b".json",
        "zip-very-long-name": b"a" * 60_000,
        "zip-cp437-name": b"caf\x82.json",
    }
    rules = ("unsafe_name", "ambiguous_zip", "nested_directory")
    cases = [zip_case(name, with_name(raw), *rules) for name, raw in names.items()]
    link, device, fifo, setuid = 0o120777, 0o020666, 0o010644, 0o104755
    two_names = Part(b"README.txt", CANARY_CODE, local_name=b"handler.py")  # readers from the end, and from the start
    hidden = Part(b"handler.py", CANARY_CODE, hidden=True)
    shared = Part(b"copy.bin", files["model.pt"], shares=4)
    promise = with_name(b"data.bin", method=DEFLATED, size=0xFFFFFFF0)
    script = write_zip(good, before=b"#!/usr/bin/python3\n")
    wide = struct.pack("<HHQ", 1, 8, 5)
    unicode_path = struct.pack("<HHBL", 0x7075, 14, 1, 0) + b"evil.py  "
    return [
        *cases,
        zip_case("zip-symlink", write_zip([*rest, Part(b"model.pt", b"/etc/passwd", mode=link)]), "not_a_file"),
        zip_case("zip-device", with_name(b"zero.bin", mode=device), "not_a_file"),
        zip_case("zip-fifo", with_name(b"pipe.bin", mode=fifo), "not_a_file"),
        zip_case("zip-setuid", with_name(b"data.bin", mode=setuid), "special_mode"),
        zip_case("zip-twice", write_zip([*good, weights]), "repeated_name"),
        zip_case("zip-twice-by-case", with_name(b"Model.PT"), "repeated_name"),
        zip_case("zip-twice-by-width", with_name("\uff4dodel.pt".encode(), flags=0x800), "repeated_name"),
        zip_case("zip-file-and-directory", with_name(b"model.pt/x"), "repeated_name"),
        zip_case("zip-encrypted", with_name(b"data.bin", flags=1), "unsupported_zip"),
        zip_case("zip-strong-encryption", with_name(b"data.bin", flags=0x41), "unsupported_zip"),
        zip_case("zip-bzip2", with_name(b"data.bin", method=12), "unsupported_zip"),
        zip_case("zip-lzma", with_name(b"data.bin", method=14), "unsupported_zip"),
        zip_case("zip-method-99", with_name(b"data.bin", method=99), "unsupported_zip"),
        # A wrong checksum stops Python's zipfile, and so a scanner, but not torch: reported against picklescan, 2025
        zip_case("zip-wrong-checksum", with_name(b"data.bin", crc=1), "bad_zip"),
        zip_case("zip-two-names", write_zip([*good, two_names]), "ambiguous_zip"),
        zip_case("zip-two-sizes", with_name(b"data.bin", local_size=3), "ambiguous_zip"),
        zip_case("zip-two-methods", with_name(b"data.bin", local_method=DEFLATED), "ambiguous_zip"),
        zip_case("zip-stored-size-lie", with_name(b"data.bin", size=3), "ambiguous_zip"),
        zip_case("zip-second-name-in-extra", with_name(b"data.json", extra=unicode_path), "ambiguous_zip"),
        zip_case("zip-wide-size-lie", with_name(b"data.bin", extra=wide), "ambiguous_zip"),
        zip_case("zip-unknown-extra", with_name(b"data.bin", extra=struct.pack("<HH", 0x1234, 0)), "ambiguous_zip"),
        zip_case("zip-member-comment", with_name(b"data.bin", comment=b"x"), "ambiguous_zip"),
        zip_case("zip-hidden-member", write_zip([*rest, hidden, weights]), "ambiguous_zip"),
        # David Fifield, A better zip bomb, 2019: members that share their bytes
        zip_case("zip-shared-bytes", write_zip([*good, shared]), "ambiguous_zip"),
        zip_case("zip-bomb", with_bomb(good), "compression_bomb"),
        zip_case("zip-huge-promise", promise, "compression_bomb", "bad_zip"),
        zip_case("zip-script-before", script, "ambiguous_zip", "archive_format"),
        zip_case("zip-bytes-behind", write_zip(good, after=b"x"), "ambiguous_zip"),
        zip_case("zip-in-comment", write_zip(good, comment=write_zip([*rest, evil])), "ambiguous_zip"),
        zip_case("zip-two-archives", write_zip(good) + write_zip([*rest, evil]), "ambiguous_zip"),
        zip_case("zip-wrong-count", write_zip(good, count=2), "ambiguous_zip", "bad_zip"),
        zip_case("zip-many-disks", write_zip(good, disk=1), "unsupported_zip"),
        zip_case("zip-cut", write_zip(good)[:-10], "ambiguous_zip", "bad_zip"),
        zip_case("zip-half", write_zip(good)[: len(files["model.pt"]) // 2], "ambiguous_zip", "bad_zip"),
        zip_case("zip-only-the-end", write_zip([]), "archive_format", "no_manifest"),
        zip_case("zip-many-members", write_zip([Part(b"%d" % n) for n in range(20_000)]), "too_many_files"),
    ]


def with_bomb(parts: list[Part]) -> bytes:
    """Return an archive with 64 MiB of zeros in 64 KiB."""
    return write_zip([*parts, Part(b"zeros.bin", bytes(64 * 2**20), method=DEFLATED)])


def list_other_formats() -> list[HostileCase]:
    """Return what calls itself an archive and is none that is accepted; none of it may be unpacked."""

    def tar(**fields: Any) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            for name, data in make_files().items():
                info = tarfile.TarInfo(f"tiny/{name}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
            if fields:
                info = tarfile.TarInfo(fields.pop("name", "tiny/evil"))
                for key, value in fields.items():
                    setattr(info, key, value)
                archive.addfile(info)
        return buffer.getvalue()

    def plain_tar() -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("../evil"))
        return buffer.getvalue()

    cases = {
        "tgz-link": tar(type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        "tgz-hard-link": tar(type=tarfile.LNKTYPE, linkname="../../etc/passwd"),
        "tgz-slip": tar(name="../../evil"),  # CVE-2007-4559
        "tgz-device": tar(type=tarfile.CHRTYPE, devmajor=1, devminor=5),
        "tgz-bomb": gzip.compress(bytes(64 * 2**20)),
        "tar-slip": plain_tar(),
        "seven-zip": b"7z\xbc\xaf\x27\x1c" + bytes(26),
        "pickle-as-archive": b"\x80\x04cposix\nsystem\n(X\x02\x00\x00\x00idtR.",
        "elf-as-archive": b"\x7fELF" + bytes(60),
        "empty": b"",
    }
    return [zip_case(name, data, "archive_format") for name, data in cases.items()]
