"""Read the headers of a zip archive, and refuse where two readers could see two archives.

A zip says everything twice: in a directory at its end, and in a header before each member. Readers differ in which of
the two they believe, where they look for the end, and what they do with repeated, overlapping or unreferenced members;
that is how a scanner is shown other files than the program that loads them. Here both have to say the same, and every
byte of the file has to belong to exactly one member or to the directory.

    [local header, name, extra fields, data, data descriptor?] ... central directory [zip64 end, locator]? end record

Accepted is what Python's zipfile, torch, NumPy, Java and Info-ZIP write for plain files: stored or deflated, no
encryption, no comments, no bytes before, between or behind. Numbers from APPNOTE.TXT 6.3.
"""

import re
import stat
import struct
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from garrison.errors import ArtifactRefused

STORED, DEFLATED = 0, 8
MAX_NAME_BYTES = 1000
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_ENCRYPTED = 0x2041  # three bits that say it, each in its way
_DESCRIPTOR, _UTF8 = 0x0008, 0x0800
_KNOWN_FLAGS = _DESCRIPTOR | _UTF8 | 0x0006  # and how hard the writer tried to deflate
_ZIP64, _TORCH_PADDING = 0x0001, 0x4246
# Times, owners, and Java's mark. Not 0x7075: a second name, which some readers prefer to the first.
_HARMLESS_EXTRAS = {0x5455, 0x7875, 0x5855, 0x000A, 0xCAFE}
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF
_DRIVE = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True)
class Member:
    """One member, as both headers describe it: sizes in bytes, `start` of its packed data in the file.

    `header` is where its local header begins, `end` the first byte behind its data and data descriptor.
    """

    name: str
    size: int
    packed_size: int
    crc: int
    method: int
    header: int
    start: int
    end: int

    @property
    def is_directory(self) -> bool:
        """Say whether the member is a directory, which has no contents."""
        return self.name.endswith("/")


@dataclass(frozen=True)
class _Central:
    name: str
    raw_name: bytes
    flags: int
    method: int
    crc: int
    packed_size: int
    size: int
    header: int


def read_members(file: BinaryIO, length: int, max_files: int) -> tuple[Member, ...]:
    """Return the members of an archive of `length` bytes, in the order of its directory.

    Raises:
        ArtifactRefused: it is no zip, or its headers leave room for two opinions.
    """
    count, start, end = _find_directory(file, length)
    if count > max_files:
        raise ArtifactRefused("too_many_files", "The archive holds too many files.", f"{count}; at most {max_files}")
    entries = list(_read_directory(file, count, start, end))
    members = {entry.header: _read_local(file, entry, start) for entry in entries}
    _check_names(entry.name for entry in entries)
    expected = 0
    for header in sorted(members):
        if header != expected:
            raise ambiguous(f"{members[header].name!r} begins at byte {header}, not {expected}: hidden or shared bytes")
        expected = members[header].end
    if expected != start or len(members) != len(entries):
        raise ambiguous(f"bytes {expected} to {start} belong to no member, or members share bytes")
    return tuple(members[entry.header] for entry in entries)


def bad_zip(detail: str) -> ArtifactRefused:
    """Return the refusal of an archive that is damaged."""
    return ArtifactRefused("bad_zip", "The archive is damaged.", detail)


def ambiguous(detail: str) -> ArtifactRefused:
    """Return the refusal of an archive in which two readers could see different things."""
    advice = "pack the files again with an ordinary archiver"
    return ArtifactRefused("ambiguous_zip", "The archive can be read in two ways.", f"{detail}; {advice}")


def unsupported(detail: str) -> ArtifactRefused:
    """Return the refusal of a kind of zip that models do not need."""
    advice = "pack the files stored or deflated, without a password"
    return ArtifactRefused("unsupported_zip", "The archive is of an unusual kind.", f"{detail}; {advice}")


def _find_directory(file: BinaryIO, length: int) -> tuple[int, int, int]:
    """Return the number of entries, and where the directory begins and ends; the end record must end the file."""
    position = length - _END.size
    if position < 0:
        raise bad_zip("too short for a zip")
    signature, disk, first_disk, here, count, size, start, comment = _END.unpack(_read_at(file, position, _END.size))
    if signature != b"PK\5\6" or comment:
        raise ambiguous("a comment or other bytes behind the end, or no end record")
    if (disk, first_disk) != (0, 0) or here != count:
        raise unsupported("part of an archive on several disks")
    end = position
    if position >= _LOCATOR.size and _read_at(file, position - _LOCATOR.size, 4) == b"PK\6\7":
        end, values = _read_end64(file, position - _LOCATOR.size)
        if (count, size, start) != tuple(map(min, values, (_FULL16, _FULL32, _FULL32))):
            raise ambiguous("two end records that disagree")
        count, size, start = values
    elif count == _FULL16 or _FULL32 in (size, start):
        raise ambiguous("an end record that needs another one")
    if start + size != end:
        raise ambiguous("bytes before the archive, or between its directory and its end")
    return count, start, end


def _read_end64(file: BinaryIO, locator: int) -> tuple[int, tuple[int, int, int]]:
    _, disk, position, disks = _LOCATOR.unpack(_read_at(file, locator, _LOCATOR.size))
    if (disk, disks) != (0, 1) or position != locator - _END64.size:
        raise ambiguous("a zip64 locator that points elsewhere")
    signature, size, _, _, disk, first_disk, here, count, *rest = _END64.unpack(_read_at(file, position, _END64.size))
    if signature != b"PK\6\6" or size != _END64.size - 12 or (disk, first_disk) != (0, 0) or here != count:
        raise ambiguous("a zip64 end record that is not as archivers write it")
    return position, (count, rest[0], rest[1])


def _read_directory(file: BinaryIO, count: int, start: int, end: int) -> Iterator[_Central]:
    file.seek(start)
    position = start
    for _ in range(count):
        fields = _CENTRAL.unpack(_read(file, _CENTRAL.size))
        name_bytes, extra_bytes, comment_bytes = fields[10:13]
        position += _CENTRAL.size + name_bytes + extra_bytes + comment_bytes
        if fields[0] != b"PK\1\2" or position > end:
            raise bad_zip("a directory entry is not where it should be")
        if comment_bytes or name_bytes > MAX_NAME_BYTES:
            raise ambiguous("a member with a comment, or a very long name")
        yield _parse_central(fields, _read(file, name_bytes), _read(file, extra_bytes))
    if position != end:
        raise ambiguous("the directory is longer than its entries")


def _parse_central(fields: tuple[int, ...], raw_name: bytes, raw_extra: bytes) -> _Central:
    _, _, _, flags, method, _, _, crc, packed_size, size, *_ = fields
    disk, _, attributes, header = fields[13:]
    name = _decode_name(raw_name, flags)
    if flags & _ENCRYPTED:
        raise unsupported(f"{name!r} is encrypted")
    if flags & ~_KNOWN_FLAGS or method not in (STORED, DEFLATED) or disk:
        raise unsupported(f"{name!r}: method {method}, flags {flags:#x}, disk {disk}")
    extras = _read_extras(raw_extra, name)
    size, packed_size, header = _widen(extras.get(_ZIP64, b""), (size, packed_size, header), name)
    _check_kind(name, attributes, size)
    if method == STORED and size != packed_size:
        raise ambiguous(f"{name!r} is stored in {packed_size} bytes and has {size}")
    return _Central(name, raw_name, flags, method, crc, packed_size, size, header)


def _read_local(file: BinaryIO, entry: _Central, limit: int) -> Member:
    """Read the header before a member's data, and the descriptor behind it, and compare both with the directory."""
    start = entry.header + _LOCAL.size
    if start > limit:
        raise ambiguous(f"{entry.name!r} lies outside the archive")
    fields = _LOCAL.unpack(_read_at(file, entry.header, _LOCAL.size))
    signature, _, flags, method, _, _, crc, packed_size, size, name_bytes, extra_bytes = fields
    start += name_bytes + extra_bytes
    if start + entry.packed_size > limit:
        raise ambiguous(f"{entry.name!r} lies outside the archive")
    raw_name, extras = _read(file, name_bytes), _read_extras(_read(file, extra_bytes), entry.name, local=True)
    if (signature, flags, method, raw_name) != (b"PK\3\4", entry.flags, entry.method, entry.raw_name):
        raise ambiguous(f"{entry.name!r} has another name, method or flags in its own header")
    size, packed_size = _widen_local(extras.get(_ZIP64, b""), size, packed_size, entry)
    said, wanted = (crc, packed_size, size), (entry.crc, entry.packed_size, entry.size)
    end = start + entry.packed_size
    if flags & _DESCRIPTOR:
        end = _check_descriptor(file, end, entry, wide=_ZIP64 in extras)
    if said != wanted and not (flags & _DESCRIPTOR and said == (0, 0, 0)):
        raise ambiguous(f"{entry.name!r} has another size or checksum in its own header")
    return Member(entry.name, entry.size, entry.packed_size, entry.crc, entry.method, entry.header, start, end)


def _check_descriptor(file: BinaryIO, position: int, entry: _Central, *, wide: bool) -> int:
    layout = struct.Struct("<4sLQQ" if wide else "<4sLLL")
    found = layout.unpack(_read_at(file, position, layout.size))
    if found != (b"PK\7\x08", entry.crc, entry.packed_size, entry.size):
        raise ambiguous(f"{entry.name!r} has another size or checksum behind its data")
    return position + layout.size


def _read_extras(raw: bytes, name: str, *, local: bool = False) -> dict[int, bytes]:
    """Return a header's extra fields, of which only known ones may be there, each once."""
    found: dict[int, bytes] = {}
    position = 0
    while position < len(raw):
        if position + 4 > len(raw):
            raise ambiguous(f"{name!r} has a damaged extra field")
        kind, size = struct.unpack_from("<HH", raw, position)
        value = raw[position + 4 : position + 4 + size]
        padding = local and kind == _TORCH_PADDING and not value.strip(b"Z")
        if len(value) != size or kind in found or not (padding or kind == _ZIP64 or kind in _HARMLESS_EXTRAS):
            raise ambiguous(f"{name!r} has an extra field {kind:#06x} that is damaged, repeated or unknown")
        found[kind] = value
        position += 4 + size
    return found


def _widen(extra: bytes, values: tuple[int, int, int], name: str) -> tuple[int, int, int]:
    """Replace the values that do not fit in 32 bits by those of the zip64 field, which holds exactly these."""
    missing = values.count(_FULL32)
    if len(extra) != 8 * missing:
        raise ambiguous(f"{name!r} has a zip64 field that does not fit")
    wide = iter(struct.unpack(f"<{missing}Q", extra))
    size, packed_size, header = (next(wide) if value == _FULL32 else value for value in values)
    return size, packed_size, header


def _widen_local(extra: bytes, size: int, packed_size: int, entry: _Central) -> tuple[int, int]:
    """Do the same before a member's data, where torch leaves the sizes out and yet writes a zip64 field."""
    if extra and (size, packed_size) == (0, 0) and entry.flags & _DESCRIPTOR and len(extra) in (8, 16, 24):
        values = struct.unpack(f"<{len(extra) // 8}Q", extra)
        if set(values) <= {0, entry.size, entry.packed_size, entry.header}:
            return 0, 0
    size, packed_size, _ = _widen(extra, (size, packed_size, 0), entry.name)
    return size, packed_size


def _decode_name(raw: bytes, flags: int) -> str:
    try:
        name = raw.decode("utf-8" if flags & _UTF8 else "ascii")
    except UnicodeDecodeError as error:
        raise _unsafe_name(repr(raw[:80]), "readers guess its encoding differently") from error
    parts = name.removesuffix("/").split("/")
    if any(part in ("", ".", "..") for part in parts) or _DRIVE.match(name):
        raise _unsafe_name(repr(name[:80]), "it leads out of the archive, or nowhere")
    if "\\" in name or any(unicodedata.category(letter)[0] in "CZ" and letter != " " for letter in name):
        raise _unsafe_name(repr(name[:80]), "it has a backslash or an invisible character")
    return name


def _check_kind(name: str, attributes: int, size: int) -> None:
    kind = stat.S_IFMT(attributes >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or attributes & 0x0400:
        raise ArtifactRefused("not_a_file", "Only plain files are accepted.", f"{name!r} is a link or a device")
    if attributes >> 16 & (stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX) and not name.endswith("/"):
        raise ArtifactRefused("special_mode", "A file has a special mode.", f"{name!r}: set-user, set-group or sticky")
    marked = kind == stat.S_IFDIR or bool(attributes & 0x10)
    if (marked and not name.endswith("/")) or (name.endswith("/") and (size or kind == stat.S_IFREG)):
        raise ambiguous(f"{name!r} is a file and a directory")


def _check_names(names: Iterable[str]) -> None:
    """Refuse names that are one name to some reader, and files that are also directories."""
    seen: dict[str, str] = {}
    parents: set[str] = set()
    for name in names:
        folded = fold_name(name.removesuffix("/"))
        if folded in seen:
            raise _repeated(name, seen[folded])
        seen[folded] = name
        parts = folded.split("/")
        parents.update("/".join(parts[:count]) for count in range(1, len(parts)))
    for folded in parents & seen.keys():
        if not seen[folded].endswith("/"):
            raise _repeated(seen[folded], f"{seen[folded]}/")


def fold_name(name: str) -> str:
    """Return what a name becomes where neither case nor the form of a letter counts."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def _unsafe_name(name: str, why: str) -> ArtifactRefused:
    return ArtifactRefused("unsafe_name", "A file's name is not accepted.", f"{name}: {why}; rename it")


def _repeated(name: str, other: str) -> ArtifactRefused:
    return ArtifactRefused("repeated_name", "Two files have the same name.", f"{name!r} and {other!r}; rename one")


def _read_at(file: BinaryIO, position: int, size: int) -> bytes:
    file.seek(position)
    return _read(file, size)


def _read(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise bad_zip("it ends too early")
    return data
