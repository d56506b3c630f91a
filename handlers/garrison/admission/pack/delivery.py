"""Deliver what was packed: a directory in a private place enters, a directory or `.mar` under its final name leaves.

Before the result gets its name it is examined the way admission will: the rules, what is in it, the contract; and
signed. Whatever it replaces is moved aside first, so no half is ever seen.
"""

import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from garrison.admission.agreement import check_agreement, check_profile
from garrison.admission.findings import Finding, refuse_if_found
from garrison.admission.rules import check_bounds, check_directory
from garrison.admission.settings import Limits
from garrison.archive import CONTRACT_FILE, MANIFEST_FILE, open_packed_model
from garrison.contract import Contract
from garrison.errors import ConfigError
from garrison.saved_model import PROGRAM_FILE

DIRECTORY_FORMAT = "no-archive"
ARCHIVE_FORMATS = (DIRECTORY_FORMAT, "default", "zip-store")  # the last two give the same: weights hardly shrink
PUBLIC_MESSAGE = "The model cannot be packed."

Examine = Callable[[Path], list[Finding]]
Sign = Callable[[Path], None]


@dataclass(frozen=True)
class Delivery:
    """Where a packed model goes, and in which form; with `force` it replaces the one that is there."""

    export_path: Path
    archive_format: str = DIRECTORY_FORMAT
    force: bool = False

    def find_target(self, contract: Contract, inputs: Iterable[Path]) -> Path:
        """Return where the model will be; `inputs` are the author's files, none of which may lie in it.

        Raises:
            ConfigError: there is something that is not to be replaced, or the format is not known.
        """
        if self.archive_format not in ARCHIVE_FORMATS:
            formats = " or ".join(ARCHIVE_FORMATS)
            raise ConfigError(f"--archive-format {self.archive_format}: nothing here serves it; write {formats}")
        suffix = "" if self.archive_format == DIRECTORY_FORMAT else ".mar"
        target = self.export_path / f"{contract.model}{suffix}"
        if os.path.lexists(target) and not self.force:
            raise ConfigError(f"{target}: exists already; give --force to replace it, or another --export-path")
        if any(path.resolve().is_relative_to(target.resolve()) for path in inputs):
            raise ConfigError(f"{target}: holds a file that is to be packed; give another --export-path")
        if target.is_dir() and not target.is_symlink() and not _is_packed(target):
            raise ConfigError(f"{target}: is no packed model, and is not replaced; give another --export-path")
        return target

    def stage(self) -> "tempfile.TemporaryDirectory[str]":
        """Return a private directory beside the target, removed at its end.

        Raises:
            ConfigError: it cannot be made.
        """
        try:
            self.export_path.mkdir(parents=True, exist_ok=True)
            return tempfile.TemporaryDirectory(prefix=".garrison-pack-", dir=self.export_path.resolve())
        except OSError as error:
            advice = "give another --export-path"
            raise ConfigError(f"{self.export_path}: cannot be written ({error.strerror}); {advice}") from error

    def publish(self, packed: Path, target: Path, staging: Path) -> None:
        """Give the result its final name."""
        stays = self.archive_format == DIRECTORY_FORMAT
        result = packed if stays else write_archive(packed, packed.with_suffix(".mar"))
        if os.path.lexists(target):
            target.rename(staging / "replaced")
        result.replace(target)


def examine_packed(packed: Path, limits: Limits, examine: Examine) -> None:
    """Examine a packed directory as admission will; `examine` looks into weights, programs and code.

    Raises:
        ConfigError: its parts do not fit together.
        ArtifactRefused: something speaks against it.
    """
    refuse_if_found(check_directory(packed, limits), PUBLIC_MESSAGE)
    model = open_packed_model(packed)
    refuse_if_found([*check_bounds(model.contract, limits, CONTRACT_FILE), *examine(packed)], PUBLIC_MESSAGE)
    refuse_if_found([*check_agreement(packed, model.contract), *check_profile(model)], PUBLIC_MESSAGE)


def even_modes(packed: Path) -> None:
    """Give every file the same mode, whatever its source had and whatever the umask is."""
    for path in (packed, *packed.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def write_archive(directory: Path, target: Path) -> Path:
    """Write a directory's files as a `.mar` whose bytes depend on theirs alone: sorted, stored, with fixed times.

    Stored, because another zlib would pack them into other bytes, and because weights hardly shrink.
    """
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, path in sorted((str(p.relative_to(directory)), p) for p in directory.rglob("*") if p.is_file()):
            member = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            member.external_attr = 0o644 << 16
            member.create_system = 3  # Unix, wherever this runs
            member.file_size = path.stat().st_size
            with path.open("rb") as source, archive.open(member, "w") as copy:
                shutil.copyfileobj(source, copy, 2**20)
    return target


def find_contradictions(contract: Contract, path: Path, model_name: str | None, version: str | None) -> list[str]:
    """Say where --model-name and --version contradict the contract in the file `path`."""
    given = {"--model-name": (model_name, contract.model), "--version": (version, contract.version)}
    return [
        f"{option} {value} contradicts {path}, which says {said}; leave the option out or change the contract"
        for option, (value, said) in given.items()
        if value is not None and value != said
    ]


def _is_packed(directory: Path) -> bool:
    saved_model = all((directory / name).is_file() for name in (CONTRACT_FILE, PROGRAM_FILE))
    return saved_model or (directory / MANIFEST_FILE).is_file()
