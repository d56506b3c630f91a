"""Check torch's own files: state dicts, TorchScript, exported programs, and the older format that is no zip.

An opened archive enters, findings leave. The first three are one kind of zip, and torch decides by a record's name
which of them it takes a file for; so do we, and then every record has to be one that this kind has.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from garrison.admission.findings import Finding
from garrison.admission.scan.hidden import START_BYTES, find_pickle, find_pickle_at_start, name_archive, name_program
from garrison.admission.scan.pickles import (
    MAX_PICKLE_BYTES,
    SCRIPT_GLOBALS,
    STATE_GLOBALS,
    STATE_OPCODES,
    Global,
    Stream,
    check_pickle,
    judge_stream,
    walk_pickle,
)
from garrison.admission.scan.torchscript import MAX_CODE_BYTES, check_script
from garrison.admission.zips import StrictZip
from garrison.exported_rules import MODEL_RECORD, SAMPLE_INPUTS_RECORD, find_faults

MAX_RECORDS = 100_000
MAX_JSON_BYTES = 64 * 2**20
MAX_PROGRAM_BYTES = 256 * 2**20  # of all code and pickles of one archive
LEGACY_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_COMMON = r"version|byteorder|\.format_version|\.storage_alignment|\.data/serialization_id|data\.pkl|data/[0-9]{1,9}"
_STATE_RECORDS = re.compile(_COMMON)
_CODE = r"code/[A-Za-z0-9_./]{1,500}\.py(\.debug_pkl)?"
_SCRIPT_RECORDS = re.compile(
    rf"{_COMMON}|constants\.pkl|(constants|traced_inputs)/[0-9]{{1,9}}|traced_inputs\.pkl|{_CODE}|extra/.{{1,500}}"
)
_ITEM_BYTES = {
    "ComplexDouble": 16, "Double": 8, "Long": 8, "ComplexFloat": 8, "Float": 4, "Int": 4, "QInt32": 4, "Half": 2,
    "BFloat16": 2, "Short": 2, "Byte": 1, "Char": 1, "Bool": 1, "QInt8": 1, "QUInt8": 1, "QUInt4x2": 1, "QUInt2x4": 1,
    "storage.Untyped": 1,
}  # fmt: skip
Collect = Callable[[str, bytes], None]  # is given a pickle's place and bytes, for another scanner to look at


@dataclass(frozen=True)
class Records:
    """The records of a torch archive, without the folder that they all lie in."""

    archive: StrictZip
    folder: str
    names: tuple[str, ...]
    file: str
    collect: Collect

    def read(self, name: str, max_bytes: int) -> bytes:
        """Return a record's contents."""
        return self.archive.read(f"{self.folder}/{name}", max_bytes)

    def size(self, name: str) -> int:
        """Return a record's size in bytes, -1 where there is none."""
        return self.archive.size(f"{self.folder}/{name}")

    def place(self, name: str) -> str:
        """Name a record to a person."""
        return f"{self.file} > {name}"


def find_records(archive: StrictZip, file: str, collect: Collect) -> Records | None:
    """Return the records of an archive that torch would take for its own, or nothing."""
    names = [member.name for member in archive.members() if not member.is_directory]
    folders = {name.partition("/")[0] for name in names}
    if len(folders) != 1 or not all("/" in name for name in names):
        return None
    folder = folders.pop()
    records = tuple(name.removeprefix(f"{folder}/") for name in names)
    known = {"data.pkl", "constants.pkl", MODEL_RECORD, "archive_format", "archive_version"}
    return Records(archive, folder, records, file, collect) if known & set(records) else None


def kind_of(records: Records) -> str:
    """Say as what torch would load an archive: state, script or exported."""
    if {MODEL_RECORD, "archive_format", "archive_version"} & set(records.names):
        return "exported"
    return "script" if "constants.pkl" in records.names else "state"


def check_records(records: Records) -> list[Finding]:
    """Return what speaks against a torch archive, whichever of its kinds it is."""
    check = {"exported": _check_exported, "script": _check_script, "state": _check_state}[kind_of(records)]
    try:
        return list(check(records))
    except (ValueError, RecursionError) as error:
        return [Finding(records.file, "weight_format", f"a record is not as torch writes it ({error})")]


def check_legacy(file: BinaryIO, size: int, name: str, collect: Collect) -> list[Finding]:
    """Return what speaks against a file of torch.save before 1.6: five pickles, then each storage's size and values."""
    file.seek(0)
    data = file.read(MAX_PICKLE_BYTES)
    position, objects = 0, Stream()
    for number in range(5):
        stream = walk_pickle(data, position)
        findings = judge_stream(stream, name, STATE_GLOBALS)
        if findings or not stream.complete:
            return findings
        if stream.opcodes - STATE_OPCODES or (number in (0, 1, 2, 4) and stream.globals):
            return [_fault(name, f"pickle {number + 1} is not as torch.save writes it")]
        objects = stream if number == 3 else objects
        position = stream.end
    collect(name, data[:position])
    wanted = {pid[2]: 8 + _storage_bytes(pid) for pid in objects.storages if len(pid) > 4}
    if position + sum(wanted.values()) != size:
        return [_fault(name, f"{size - position} bytes of values where its tensors need {sum(wanted.values())}")]
    return []


def _check_state(records: Records) -> Iterator[Finding]:
    yield from _check_names(records, _STATE_RECORDS, "data.pkl")
    if "data.pkl" in records.names:
        data = records.read("data.pkl", MAX_PICKLE_BYTES)
        records.collect(records.place("data.pkl"), data)
        yield from check_pickle(data, records.place("data.pkl"), STATE_GLOBALS, STATE_OPCODES)
        yield from _check_storages(records, walk_pickle(data), "data")
    yield from _check_values(records)


def _check_script(records: Records) -> Iterator[Finding]:
    yield from _check_names(records, _SCRIPT_RECORDS, "data.pkl")
    programs = [name for name in records.names if name.endswith((".pkl", ".debug_pkl", ".py"))]
    if sum(records.size(name) for name in programs) > MAX_PROGRAM_BYTES:
        yield Finding(records.file, "not_scannable", f"more than {MAX_PROGRAM_BYTES} bytes of code and pickles")
        return
    for name in records.names:
        if name.endswith((".pkl", ".debug_pkl")) and not name.startswith("extra/"):
            data = records.read(name, MAX_PICKLE_BYTES)
            records.collect(records.place(name), data)
            yield from check_pickle(data, records.place(name), SCRIPT_GLOBALS)
            if name != "traced_inputs.pkl":  # torch writes their shapes, and leaves their records empty
                yield from _check_storages(records, walk_pickle(data), name.partition(".")[0])
        elif name.startswith("code/"):
            yield from check_script(records.read(name, MAX_CODE_BYTES), records.place(name))
    yield from _check_values(records)


def _check_exported(records: Records) -> Iterator[Finding]:
    def read_json(name: str) -> Any:
        return json.loads(records.read(name, MAX_JSON_BYTES))

    for fault in find_faults(records.names, read_json):
        rule = "forbidden_operator" if fault.startswith("it calls") else "weight_format"
        advice = "write it with torch.export.save, without custom operators"
        yield Finding(records.file, rule, f"{fault}; {advice}")
    if SAMPLE_INPUTS_RECORD in records.names:
        inner = records.place(SAMPLE_INPUTS_RECORD)
        yield from _check_inner(records, SAMPLE_INPUTS_RECORD, inner)
    yield from _check_values(records)


def _check_inner(records: Records, name: str, place: str) -> Iterator[Finding]:
    """Check a state dict inside an archive, as torch.export.save puts the sample inputs there."""
    with records.archive.open(f"{records.folder}/{name}") as file:
        inner = find_records(StrictZip(file, records.archive.limits, MAX_RECORDS), place, records.collect)
        if inner is None or kind_of(inner) != "state":
            yield _fault(place, "it is not what torch.save writes")
        else:
            yield from _check_state(inner)


def _check_names(records: Records, known: re.Pattern[str], needed: str) -> Iterator[Finding]:
    for name in records.names:
        if known.fullmatch(name) is None:
            yield _fault(records.place(name), "no record that torch writes into such a file")
    if needed not in records.names:
        yield _fault(records.file, f"it has no {needed}")


def _check_storages(records: Records, stream: Stream, folder: str) -> Iterator[Finding]:
    """Compare each storage's size with its record: where they differ, old readers read beyond the record."""
    for pid in stream.storages:
        try:
            key, wanted = pid[2], _storage_bytes(pid)
        except (IndexError, ValueError):
            yield Finding(records.file, "undecidable_pickle", "a storage that is not described as torch does")
            return
        if records.size(f"{folder}/{key}") != wanted:
            yield _fault(
                records.place(f"{folder}/{key}"), f"missing, or not of the {wanted} bytes that its tensor needs"
            )


def _storage_bytes(pid: tuple[Any, ...]) -> int:
    kind = pid[1].name if isinstance(pid[1], Global) else ""
    item = _ITEM_BYTES.get(re.sub(r"^torch\.(cuda\.)?|Storage$", "", kind))
    if item is None or not isinstance(pid[2], str) or type(pid[4]) is not int or pid[4] < 0:
        raise ValueError("storage")
    return item * pid[4]


def _check_values(records: Records) -> Iterator[Finding]:
    """Read every record, so that damage is found, and look for what hides in values."""
    for name in records.names:
        if name.endswith((".pkl", ".py", ".debug_pkl", ".json")) and not name.startswith("extra/"):
            records.read(name, MAX_JSON_BYTES)
            continue
        with records.archive.open(f"{records.folder}/{name}") as file:
            if name.startswith("extra/"):
                yield from _check_extra(file.read(START_BYTES), records.place(name))
                file.seek(0)
            stream = find_pickle_at_start(file.read(MAX_PICKLE_BYTES)) if not name.endswith("model.pt") else None
            hidden = "it is a pickle" if stream is not None else find_pickle(file)
        if hidden:
            yield Finding(records.place(name), "hidden_pickle", f"{hidden}; only tensors' values belong there")


def _check_extra(start: bytes, place: str) -> Iterator[Finding]:
    """Refuse a program or an archive that was saved along with `_extra_files`."""
    if what := name_program(start):
        yield Finding(place, "unexpected_code", f"it is {what}; models are data and Python source")
    elif what := name_archive(start) or ("zip" if start.startswith(b"PK") else ""):
        yield _fault(place, f"it is {what}, which is not looked into here")


def _fault(file: str, what: str) -> Finding:
    return Finding(file, "weight_format", f"{what}; write the file again with torch")
