"""Look for pickles and programs where none belong: inside tensors' values, texts, pictures, behind other data.

Any bytes enter, what would run leaves. A pickle has no certain mark: protocol 0 is printable text without a header. So
every place that could be the import of a global is tried with the machine of `pickles`, and counts only if what was
imported is then called. Weights by the gigabyte and vocabularies, a word a line, pass; see the tests for both.

It finds what a reader would find who was pointed at that place. It does not find what is encrypted or packed.
"""

import _compat_pickle
import re
import struct
import sys
from collections.abc import Iterator
from typing import BinaryIO

from garrison.admission.scan.pickles import SCRIPT_GLOBALS, Stream, walk_pickle
from garrison.errors import ArtifactRefused

CHUNK_BYTES = 4 * 2**20
OVERLAP_BYTES = 64 * 2**10  # of one chunk and the next: a pickle's import and call are closer than that
_NAME = rb"[A-Za-z_][A-Za-z0-9_.]{1,80}"
_PUT = rb"(?:\x94|q.|r....)?"
_HEADER = re.compile(rb"\x80[\x00-\x05][\x95(\]}cX\x8cKMJGN)qUTVSI\x8e\x8d\x8f]", re.DOTALL)
_SECOND_LINE = re.compile(rb"\n" + _NAME + rb"(?=\n)")
_FIRST_LINE = re.compile(rb"[ci]" + _NAME + rb"\Z")
_SHORT_NAMES = re.compile(rb"\x8c." + _NAME + _PUT + rb"\x8c." + _NAME + _PUT + rb"\x93", re.DOTALL)
_LONG_NAMES = re.compile(rb"X.\0\0\0" + _NAME + _PUT + rb"X.\0\0\0" + _NAME + _PUT + rb"\x93", re.DOTALL)
_MODULES = {*sys.stdlib_module_names, *_compat_pickle.IMPORT_MAPPING, "IPython", "aiohttp", "cloudpickle", "dill",
            "distutils", "httpx", "joblib", "numpy", "pandas", "pip", "pkg_resources", "requests", "scipy",
            "setuptools", "sklearn", "tensorflow", "torch", "torchvision", "transformers", "ts", "yaml"}  # fmt: skip
_PROGRAMS = {
    b"\x7fELF": "a Linux program or library",
    b"\xfe\xed\xfa\xce": "a macOS program or library",
    b"\xfe\xed\xfa\xcf": "a macOS program or library",
    b"\xce\xfa\xed\xfe": "a macOS program or library",
    b"\xcf\xfa\xed\xfe": "a macOS program or library",
    b"\xca\xfe\xba\xbe": "a macOS or Java program",
    b"\0asm": "a WebAssembly program",
    b"dex\n": "an Android program",
    b"!<arch>\n": "a library",
}
_ARCHIVES = {
    b"\x1f\x8b": "gzip",
    b"BZh91AY": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstandard",
    b"\x04\x22\x4d\x18": "lz4",
    b"7z\xbc\xaf\x27\x1c": "7-Zip",
    b"Rar!\x1a\x07": "RAR",
    b"\x5d\0\0": "lzma",
    b"\x1f\x9d": "compress",
    b"x\x9c": "zlib, as joblib writes it",
    b"x\x01": "zlib, as joblib writes it",
    b"x\xda": "zlib, as joblib writes it",
    b"\x89HDF\r\n\x1a\n": "HDF5 (.h5, .keras)",
    b"GGUF": "GGUF",
    b"MSCF": "a cabinet",
    b"SQLite format 3\0": "a database",
    b"PAR1": "Parquet",
    b"ARROW1": "Arrow",
    b"xar!": "xar",
    b"hsqs": "a file system",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "an OLE document",
}
_TAR_AT = 257
START_BYTES = 512
MAX_MARKS = 4
MAX_STEPS = 5_000_000  # of all tries in one file: about ten seconds; a gigabyte of random values needs 10,000
MANY_OPCODES, FEW_OPCODES, FEW_BYTES = 5000, 100, 4096


def name_program(start: bytes) -> str:
    """Return what kind of program a file is by its first bytes, or nothing; scripts are `#!` and no text of ours."""
    for magic, what in _PROGRAMS.items():
        if start.startswith(magic):
            return what
    if start.startswith(b"MZ") and _is_windows_program(start):
        return "a Windows program or library"
    if start[2:4] == b"\r\n" and start[:1] != b"\n" and not start[:2].isascii():
        return "Python byte code"
    if start[2:4] == b"\r\n" and start[4:8] in (b"\0\0\0\0", b"\1\0\0\0", b"\3\0\0\0"):
        return "Python byte code"
    return ""


def name_archive(start: bytes) -> str:
    """Return what kind of archive or container a file is that models are not kept in, or nothing."""
    if start[_TAR_AT : _TAR_AT + 5] == b"ustar" or _is_old_tar(start):
        return "tar"
    return next((what for magic, what in _ARCHIVES.items() if start.startswith(magic)), "")


def find_pickle(file: BinaryIO) -> str:
    """Search a whole file for a pickle that would call something; return what and where, or nothing.

    Raises:
        ArtifactRefused: the file is made so that the search would take very long.
    """
    offset = steps = 0
    file.seek(0)
    window = file.read(CHUNK_BYTES)
    while window:
        for place, stream in _find_in(window):
            steps += stream.steps + 10
            if steps > MAX_STEPS:
                detail = "too many places look like the beginning of a pickle"
                raise ArtifactRefused("not_scannable", "The file cannot be examined.", detail)
            calls = sorted(name for name in stream.calls if SCRIPT_GLOBALS.fullmatch(name) is None)
            if calls:
                return f"a pickle at byte {offset + place} calls {', '.join(calls[:5])}"
        following = file.read(CHUNK_BYTES)
        kept = window[-OVERLAP_BYTES:] if following else b""
        offset += len(window) - len(kept)
        window = kept + following if following else b""
    return ""


def find_pickle_at_start(data: bytes) -> Stream | None:
    """Return what a file would do that is read as a pickle from its first byte, if that is more than nothing."""
    stream = walk_pickle(data)
    imports = stream.complete and bool(stream.globals)
    marked = stream.complete and data[:1] == b"\x80"
    return stream if stream.calls or imports or marked else None


def find_zip_end(file: BinaryIO, size: int) -> bool:
    """Say whether a file that is no zip ends as one: an end record whose comment reaches exactly to the end."""
    length = min(size, 22 + 0xFFFF)
    file.seek(size - length)
    tail = file.read(length)
    place = tail.rfind(b"PK\5\6")
    while place >= 0:
        if place + 22 <= length and struct.unpack_from("<H", tail, place + 20)[0] == length - place - 22:
            return True
        place = tail.rfind(b"PK\5\6", 0, place)
    return False


def _find_in(data: bytes) -> Iterator[tuple[int, Stream]]:
    """Try every place of a window where a pickle could import something."""
    for pattern in (_HEADER, _SHORT_NAMES, _LONG_NAMES):
        for match in pattern.finditer(data):
            yield _try(data, match.start())
    for match in _SECOND_LINE.finditer(data):
        before = _FIRST_LINE.search(data, max(0, match.start() - 90), match.start())
        if before is None:
            continue
        for place in range(before.start(), match.start()):
            if not _is_known_module(data[place + 1 : match.start()]):
                continue
            if data[place] == ord("c"):
                yield _try(data, place)
            elif data[place] == ord("i"):  # imports and calls at once, with what stands behind a mark before it
                yield from (_try(data, mark) for mark in _marks_before(data, place))


def _is_known_module(name: bytes) -> bool:
    """Say whether a word could name a module: in a vocabulary nearly none does."""
    root = name.partition(b".")[0].decode()
    return b"." in name or root in _MODULES


def _marks_before(data: bytes, place: int) -> Iterator[int]:
    for _ in range(MAX_MARKS):
        place = data.rfind(b"(", max(0, place - OVERLAP_BYTES), place)
        if place < 0:
            return
        yield place


def _try(data: bytes, place: int) -> tuple[int, Stream]:
    marked = data[place] == 0x80  # the header of a pickle: worth a longer look
    window = data[place : place + (OVERLAP_BYTES if marked else FEW_BYTES)]
    return place, walk_pickle(window, anywhere=True, max_opcodes=MANY_OPCODES if marked else FEW_OPCODES)


def _is_windows_program(start: bytes) -> bool:
    """Tell a program from a text that begins with MZ: the header says where the next one is."""
    return b"\0" in start[2:64]


def _is_old_tar(start: bytes) -> bool:
    """Recognise a tar without a mark by its checksum, which is the sum of the header's bytes."""
    if len(start) < START_BYTES or not start[0]:
        return False
    field = start[148:156].strip(b" \0")
    if re.fullmatch(rb"[0-7]{1,7}", field) is None:
        return False
    return int(field, 8) == sum(start[:148]) + 8 * 32 + sum(start[156:512])
