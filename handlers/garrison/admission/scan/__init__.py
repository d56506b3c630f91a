"""Scan models and weights: files or directories enter, findings leave; nothing of what is read is ever run.

    1 what is there    links, devices and unreadable files refuse; directories are walked
    2 what it is       every file by its contents, not its name (`formats`); what is not accepted refuses
    3 what it does     pickles by an allow-list of globals, programs by their operators (`pickles`, `torchscript`, ...)
    4 what hides       pickles in values and texts, programs, files that are two things (`hidden`)
    5 the tripwire     an independent scanner on top (`tripwire`)

A directory that is a SavedModel is judged as a whole, by what its graph can run (`saved_model`).

Formats and signatures are the gate. Weights that are programs (TorchScript, .pt2, ONNX) compute whatever they like.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, cast

from garrison.admission.findings import Finding
from garrison.admission.scan.formats import Examiner, Progress
from garrison.admission.scan.saved_model import is_saved_model, load_operators, scan_saved_model
from garrison.admission.scan.saved_model.files import BESIDE
from garrison.admission.scan.tripwire import Tripwire, make_directory
from garrison.admission.settings import Limits

DEFAULT_LIMITS = Limits(
    max_files=1000, max_bytes=100 * 2**30, max_ratio=200, max_workers=256, max_queue=100_000, max_timeout_s=3600
)
MAX_PATHS = 100_000
MAX_DEPTH = 32


def scan_paths(
    paths: Sequence[Path],
    limits: Limits | None = None,
    progress: Progress | None = None,
    *,
    tripwire: bool = True,
    operators_file: Path | None = None,
) -> list[Finding]:
    """Return what speaks against files and directories; `progress` is told every file's name and size in bytes.

    `operators_file` says what SavedModels may use, in place of the list that comes with Garrison.

    Raises:
        ConfigError: there is a SavedModel, and the list of operators is faulty.
    """
    with make_directory() as scratch:
        other = Tripwire(Path(scratch))
        examiner = Examiner(limits or DEFAULT_LIMITS, other.add, progress)
        findings = [finding for path in paths for finding in _scan_path(path, str(path), examiner, operators_file)]
        return [*findings, *other.run()] if tripwire else findings


def _scan_path(path: Path, name: str, examiner: Examiner, operators_file: Path | None) -> Iterator[Finding]:
    for count, (inner, shown, depth) in enumerate(_walk(path, name)):
        if count > MAX_PATHS or depth > MAX_DEPTH:
            yield Finding(
                shown, "not_scannable", f"more than {MAX_PATHS} files, or deeper than {MAX_DEPTH} directories"
            )
            return
        if is_saved_model(inner):
            yield from _scan_saved_model(inner, shown, operators_file)
        yield from _scan_entry(inner, shown, examiner)


def _walk(path: Path, name: str) -> Iterator[tuple[Path, str, int]]:
    """Go through a path and all below it, in the order of names, without following links."""
    waiting = [(path, name, 0)]
    while waiting:
        path, name, depth = waiting.pop()
        yield path, name, depth
        if path.is_dir() and not path.is_symlink():
            try:
                inner = sorted(path.iterdir(), reverse=True)
                if is_saved_model(path):
                    inner = [one for one in inner if one.name in BESIDE]
            except OSError:
                continue  # the directory itself is reported as unreadable
            waiting.extend((one, f"{name}/{one.name}", depth + 1) for one in inner)


def _scan_saved_model(path: Path, name: str, operators_file: Path | None) -> Iterator[Finding]:
    operators = load_operators(operators_file) if operators_file is not None else None
    for finding in scan_saved_model(path, operators):
        yield replace(finding, file=f"{name}/{finding.file}")


def _scan_entry(path: Path, name: str, examiner: Examiner) -> list[Finding]:
    try:
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            os.listdir(path)  # noqa: PTH208 - only whether it can be read
            return []
        if not stat.S_ISREG(mode):
            return [Finding(name, "not_a_file", "a link or a device; put a copy of the file in its place")]
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return [Finding(name, "not_a_file", "it was replaced while it was read")]
            return _scan_open(cast(BinaryIO, file), name, examiner)
    except OSError as error:
        return [Finding(name, "unreadable_file", f"it cannot be read ({error.strerror})")]


def _scan_open(file: BinaryIO, name: str, examiner: Examiner) -> list[Finding]:
    """Examine an open file; whatever an examination stumbles over refuses."""
    try:
        return examiner.examine(file, name)
    except (RecursionError, MemoryError, ValueError, OverflowError) as error:
        return [Finding(name, "not_scannable", f"the scan did not finish ({type(error).__name__})")]
