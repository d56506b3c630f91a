"""The files of a SavedModel: a directory enters, findings leave; what a file holds is read only where it says enough.

Everything must be there and nothing else: TensorFlow Serving starts with a model that lacks its variables, and acts on
files that no exporter writes by itself (settings of a session, records to warm up with, another form of the model).
"""

import os
import re
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from garrison.admission.findings import Finding
from garrison.admission.scan.hidden import START_BYTES, name_program
from garrison.admission.scan.saved_model.bundle import MAX_INDEX_BYTES, Bundle, read_bundle
from garrison.admission.scan.saved_model.constants import is_graph
from garrison.archive import CONTRACT_FILE
from garrison.contract import FILE_NAME
from garrison.errors import ArtifactRefused
from garrison.files import read_file
from garrison.record import RECORD_FILE, SIGNATURE_FILE
from garrison.saved_model import (
    ASSETS,
    DIRECTORIES,
    FINGERPRINT_FILE,
    INDEX_FILE,
    PROGRAM_FILE,
    check_variables,
    is_part,
)

BESIDE = (CONTRACT_FILE, SIGNATURE_FILE, RECORD_FILE)  # ours, in a model that is packed or admitted
MAX_FILES = 10_000
MAX_FINGERPRINT_BYTES = 64 * 2**10
MAX_ASSET_PARSED_BYTES = 64 * 2**20  # what is larger is no graph that anybody hides
TEXT_FORM = "saved_model.pbtxt"
_MEANINGS = {
    "assets.extra": "TensorFlow Serving acts on what is in it: settings of a session, records to warm up with",
    "batching_params.pbtxt": "batches are the contract's",
    "debug": "it is for a debugger, and the server does not read it",
    "keras_metadata.pb": "the server does not read it, and Keras runs code that stands in it",
    "model.tflite": "TensorFlow Serving would serve it in place of the SavedModel",
    "tflite_with_sigs": "TensorFlow Serving would serve it in place of the SavedModel",
    "tf_serving_warmup_requests": "they are requests that nobody checks; leave warming up to the server",
    "saved_model_config.pb": "it changes how the server runs the model",
}


def list_files(directory: Path) -> tuple[dict[str, int], list[Finding]]:
    """Return the files of a SavedModel with their sizes in bytes, and what speaks against the directory itself."""
    files: dict[str, int] = {}
    findings: list[Finding] = []
    for name, status in _walk(directory):
        if len(files) + len(findings) >= MAX_FILES:
            findings.append(Finding(name, "too_many_files", f"more than {MAX_FILES}"))
            break
        finding = _check_kind(name, status)
        if finding is not None:
            findings.append(finding)
        elif stat.S_ISREG(status.st_mode):
            files[name] = status.st_size
    return files, findings


def check_files(files: dict[str, int], directory: Path) -> Iterator[Finding]:
    """Refuse what is no part of a SavedModel, and a SavedModel that lacks parts."""
    for name in files:
        if name == TEXT_FORM:
            detail = f"the SavedModel as text, which the server takes where {PROGRAM_FILE} is missing; leave it out"
            yield Finding(name, "unexpected_file", detail)
        elif not is_part(name) and name not in BESIDE:
            yield Finding(name, "unexpected_file", f"{_say_meaning(name)}; leave it out")
    for problem in check_variables(files):
        yield Finding(PROGRAM_FILE, "incomplete_saved_model", f"{problem}; copy or export the model again")
    if files.get(FINGERPRINT_FILE, 0) > MAX_FINGERPRINT_BYTES:
        yield Finding(FINGERPRINT_FILE, "unexpected_file", f"more than {MAX_FINGERPRINT_BYTES} bytes; leave it out")
    for name in files:
        if name.startswith(f"{ASSETS}/"):
            yield from _check_asset(name, files[name], directory)


def check_assets(names: Collection[str], files: Collection[str]) -> Iterator[Finding]:
    """Compare the assets that a graph names with those that are there, by the names in assets/."""
    there = {name.partition("/")[2] for name in files if name.startswith(f"{ASSETS}/")}
    for name in sorted(set(names) - there):
        detail = f"the asset {name[:80]!r} is not in {ASSETS}/; copy or export the model again"
        yield Finding(PROGRAM_FILE, "incomplete_saved_model", detail)
    for name in sorted(there - set(names)):
        detail = "no asset of this model; leave it out"
        yield Finding(f"{ASSETS}/{name}", "unexpected_file", detail)


def check_shards(files: dict[str, int], directory: Path, wanted: Collection[str]) -> Iterator[Finding]:
    """Refuse variables whose index names more than there is, or not the variables that the graph restores."""
    if INDEX_FILE not in files:
        return
    try:
        bundle = read_bundle(read_file(directory / INDEX_FILE, MAX_INDEX_BYTES))
    except ArtifactRefused as refused:
        yield Finding(INDEX_FILE, "incomplete_saved_model", f"{refused.detail}; copy or export the model again")
        return
    problem = _compare(bundle, files, wanted)
    if problem:
        yield Finding(INDEX_FILE, "incomplete_saved_model", f"{problem}; copy or export the model again")


def _compare(bundle: Bundle, files: dict[str, int], wanted: Collection[str]) -> str:
    for number in range(bundle.shards):
        name = bundle.shard_name(number)
        if files.get(name, -1) < bundle.shard_bytes.get(number, 0):
            return f"{name} is missing, or shorter than the {bundle.shard_bytes.get(number, 0)} bytes that it names"
    others = [name for name in files if "/variables.data-" in name and not name.endswith(f"-of-{bundle.shards:05d}")]
    if others:
        return f"{others[0]} belongs to other variables"
    missing = sorted(set(wanted) - bundle.names)
    return f"the variable {missing[0][:80]!r} is not in it" if missing else ""


def is_plain(name: str) -> bool:
    """Say whether an asset may be called so: it is joined to a path without a look."""
    return re.fullmatch(FILE_NAME, name) is not None


def _walk(directory: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Go through a directory and the two that a SavedModel may have in it, without following links."""
    for name in sorted(os.listdir(directory)):  # noqa: PTH208 - names, not paths
        yield name, (directory / name).lstat()
        if name in DIRECTORIES and stat.S_ISDIR((directory / name).lstat().st_mode):
            for inner in sorted(os.listdir(directory / name)):  # noqa: PTH208
                yield f"{name}/{inner}", (directory / name / inner).lstat()


def _check_kind(name: str, status: os.stat_result) -> Finding | None:
    if stat.S_ISDIR(status.st_mode):
        if name in DIRECTORIES:
            return None
        return Finding(name, "unexpected_file", f"{_say_meaning(name)}; leave it out")
    if not stat.S_ISREG(status.st_mode):
        return Finding(name, "not_a_file", "a link or a device; put a copy of the file in its place")
    if status.st_nlink > 1:
        return Finding(name, "hard_link", "it has a second name, under which it could be changed; put a copy here")
    return None


def _say_meaning(name: str) -> str:
    last = name.rpartition("/")[2]
    return _MEANINGS.get(name) or _MEANINGS.get(last) or "no part of a SavedModel"


def _check_asset(name: str, size: int, directory: Path) -> Iterator[Finding]:
    data = read_file(directory / name, MAX_ASSET_PARSED_BYTES)
    if what := name_program(data[:START_BYTES]):
        yield Finding(name, "unexpected_code", f"it is {what}; an asset is data")
    elif size <= MAX_ASSET_PARSED_BYTES and is_graph(data):
        yield Finding(name, "hidden_graph", "it is a graph or a function itself; leave it out")
