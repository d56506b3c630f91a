"""The rules of packing: a directory enters, findings leave, each with what to do instead.

What a packed model is, as files: flat, plain, few, with names that mean the same everywhere and shadow nothing, and of
a SavedModel only its own; and what it asks of the server, within the operator's bounds. What is in the weights and in
the code is for `scan` and `vet`; whether the parts agree with the contract, `open_packed_model` says.

A directory that others may change has to be copied first (`unpack.copy_model`): what is checked here is then what is
loaded.
"""

import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from garrison.admission.findings import Finding
from garrison.admission.rules.manifest import check_manifest, find_config_file, parse_manifest
from garrison.admission.rules.members import (
    HARD_LINK_ADVICE,
    INNER_DIRECTORIES,
    Entry,
    list_entries,
    open_directory,
    read_member,
)
from garrison.admission.rules.names import MAX_FINDINGS, check_names, show_name
from garrison.admission.settings import Limits
from garrison.archive import HANDLER_FILE, HANDLERS, MANIFEST_FILE, MODEL_FILE
from garrison.contract import Contract
from garrison.errors import ArtifactRefused
from garrison.saved_model import PROGRAM_FILE
from garrison.settings import MAX_FILE_BYTES

PATH_FILE_SUFFIX = ".pth"  # weights to torch, lines to run at start to an interpreter whose packages it lies among
STORE_NAMES = frozenset({"quarantine"})  # what lies in a store beside the models, and could be a model's name
_INNER = frozenset(f"{name}/" for name in INNER_DIRECTORIES)
WEIGHTS_BEGIN = (b"PK\3\4", b"\x80\2", b"\x80\3", b"\x80\4", b"\x80\5")

Check = Callable[[Iterable[str]], list[Finding]]


def check_directory(directory: Path, limits: Limits) -> list[Finding]:
    """Check the files of a packed model: names, kinds, number, bytes, manifest and server settings.

    Raises:
        Undecided: the directory cannot be read.
    """
    try:
        with open_directory(directory) as root:
            entries = list_entries(root, limits.max_files + len(_INNER))  # which are no files
            findings = check_entries(entries, limits)
            return findings or [*_check_path_files(root, entries), *_check_manifest(root, entries)]
    except ArtifactRefused as refusal:
        return [Finding(str(directory), refusal.reason, refusal.detail)]


def check_entries(entries: list[Entry], limits: Limits, check: Check = check_names) -> list[Finding]:
    """Check what can be said of a directory without reading a file in it; `check` judges the names."""
    found = [*check(entry.name for entry in entries), *_check_kinds(entries), *_check_amount(entries, limits)]
    return found[:MAX_FINDINGS]


def check_bounds(contract: Contract, limits: Limits, file: str) -> list[Finding]:
    """Check that a contract asks the server and the store for no more than the operator allows."""
    workers = contract.workers
    if contract.model.casefold() in STORE_NAMES:
        detail = f"model: {contract.model!r} is a directory of the store itself; give the model another name"
        return [Finding(file, "reserved_name", detail)]
    asked = (
        ("too_many_workers", "workers.count", workers.count, limits.max_workers),
        ("queue_too_long", "workers.queue", workers.queue, limits.max_queue),
        ("timeout_too_long", "workers.timeout_s", workers.timeout_s, limits.max_timeout_s),
    )
    return [
        Finding(file, rule, f"{key}: {value} is more than the {most} that the operator allows; write at most that")
        for rule, key, value, most in asked
        if value > most
    ]


def _check_kinds(entries: list[Entry]) -> Iterator[Finding]:
    for entry in entries:
        name = show_name(entry.name)
        if not entry.is_plain and entry.name not in _INNER:
            if not stat.S_ISDIR(entry.mode):  # a directory's name was refused already
                yield Finding(name, "not_a_file", "a link or a device; only plain files are accepted")
        elif entry.is_plain and entry.links > 1:
            yield Finding(name, "hard_link", HARD_LINK_ADVICE)
        elif entry.mode & (stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX) and entry.is_plain:
            yield Finding(name, "special_mode", "set-user, set-group or sticky; run chmod 644 on it")


def _check_amount(entries: list[Entry], limits: Limits) -> Iterator[Finding]:
    files = [entry for entry in entries if entry.name not in _INNER]
    if len(files) > limits.max_files:
        detail = f"more than {limits.max_files} files; leave out what the model does not need"
        yield Finding("the model", "too_many_files", detail)
    total = sum(entry.size for entry in files)
    if total > limits.max_bytes:
        yield Finding("the model", "too_many_bytes", f"{total} bytes; the operator allows {limits.max_bytes}")


def _check_path_files(root: int, entries: list[Entry]) -> Iterator[Finding]:
    for entry in entries:
        if entry.name.lower().endswith(PATH_FILE_SUFFIX):
            begin = read_member(root, entry.name, 4)
            if not begin.startswith(WEIGHTS_BEGIN):
                detail = "holds no weights: among Python's packages its lines would be run; leave it out"
                yield Finding(entry.name, "path_file", detail)


def _check_manifest(root: int, entries: list[Entry]) -> list[Finding]:
    names = {entry.name for entry in entries}
    if PROGRAM_FILE in names:
        return []  # a SavedModel has no manifest, and the names of its parts leave no room for one
    if MANIFEST_FILE not in names:
        return [Finding(MANIFEST_FILE, "no_manifest", "missing; make the model with `garrison pack`")]
    manifest = read_member(root, MANIFEST_FILE, MAX_FILE_BYTES + 1)
    config_file = find_config_file(manifest)
    config = read_member(root, config_file, MAX_FILE_BYTES + 1) if config_file in names else b""
    return check_manifest(manifest, config) or list(_check_code_is_used(names, manifest))


def _check_code_is_used(names: set[str], manifest: bytes) -> Iterator[Finding]:
    """Refuse a handler or a network that this model does not have: nobody would look for it there."""
    model = parse_manifest(manifest)["model"]
    for name, used in ((HANDLER_FILE, model["handler"] == HANDLERS["custom"]), (MODEL_FILE, "modelFile" in model)):
        if name in names and not used:
            yield Finding(
                name, "unexpected_code", "the manifest does not name it; leave it out, or pack the model again"
            )
