"""What goes into a packed model: an author's files enter, archive names and the file for each leave.

Takes `--extra-files` as torch-model-archiver does: files, directories whose files are meant, patterns. Everything that
is no plain file, or has a name that a model cannot have, is refused before it is read.
"""

import glob
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from garrison.admission.rules.members import CHUNK_BYTES, HARD_LINK_ADVICE
from garrison.admission.rules.names import CODE
from garrison.archive import (
    CONTRACT_FILE,
    HANDLER_FILE,
    MODEL_CONFIG_FILE,
    MODEL_FILE,
    WEIGHT_SUFFIXES,
    named_files,
)
from garrison.contract import FILE_NAME, Contract
from garrison.errors import ArtifactRefused, ConfigError
from garrison.profile import PROFILE_FILE

TAKEN_NAMES = (MODEL_CONFIG_FILE, "MAR-INF", "model.sig", "admission.json")


@dataclass(frozen=True)
class Sources:
    """An author's files: of these are the members of a packed model."""

    contract: Path
    serialized_file: Path
    extra_files: tuple[Path, ...] = ()
    model_file: Path | None = None
    handler: Path | None = None
    profile: Path | None = None


def collect_members(sources: Sources, contract: Contract) -> dict[str, Path]:
    """Return archive name → file, in the order of the names.

    Raises:
        ArtifactRefused: a file is no plain file, is of no accepted kind, or has an unsafe or repeated name.
        ConfigError: a file is missing.
    """
    if sources.serialized_file.suffix not in WEIGHT_SUFFIXES:
        advice = f"give a {' or '.join(WEIGHT_SUFFIXES)} file"
        detail = f"{sources.serialized_file}: {advice}"
        raise ArtifactRefused("weight_format", "The weights' format is not accepted.", detail)
    members = {CONTRACT_FILE: sources.contract}
    if sources.model_file is not None:
        members[MODEL_FILE] = sources.model_file
    if sources.handler is not None:
        members[HANDLER_FILE] = sources.handler
    if sources.profile is not None:
        members[PROFILE_FILE] = sources.profile
    extra = list(expand_extra_files(sources.extra_files))
    for path in [sources.serialized_file, *extra, *_find_named(sources.contract, extra, contract)]:
        _check_data(path, members)
        members[path.name] = path
    for path in members.values():
        check_source(path)
    return dict(sorted(members.items()))


def expand_extra_files(paths: Iterable[Path]) -> Iterator[Path]:
    """Go through the files that are meant, each path to a file once.

    Raises:
        ConfigError: a directory is empty, or no file has a name of that pattern.
        ArtifactRefused: there is a directory in a directory.
    """
    found = (file for path in paths for one in _match(path) for file in _open_up(one))
    return iter(dict.fromkeys(found))


def check_source(path: Path) -> None:
    """Check that a file can be packed: a plain one, with one name, which is safe.

    Raises:
        ConfigError: there is none.
        ArtifactRefused: it is something else.
    """
    try:
        state = path.lstat()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    _check_state(state, path)
    if not re.fullmatch(FILE_NAME, path.name):
        advice = "use letters, digits, . _ and -, beginning with a letter or digit"
        raise ArtifactRefused("unsafe_name", "A file's name is not accepted.", f"{path}: {advice}")


def copy_sources(members: Mapping[str, Path], target: Path, max_bytes: int) -> None:
    """Copy the files to a directory under their archive names, through no link, and not more than the limit.

    Raises:
        ArtifactRefused: one was swapped for something else since it was checked, or they are too large.
        OSError: one cannot be read or written.
    """
    left = max_bytes
    for name, path in members.items():
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as source, (target / name).open("xb") as copy:
            _check_state(os.fstat(descriptor), path)
            while chunk := source.read(CHUNK_BYTES):
                left -= len(chunk)
                if left < 0:
                    detail = f"{path}: with it the model is larger than the {max_bytes} bytes that the operator allows"
                    raise ArtifactRefused("too_many_bytes", "The model is too large.", detail)
                copy.write(chunk)


def _match(path: Path) -> list[Path]:
    """Return the files that a pattern such as `data/*.json` means; a path that exists means itself."""
    if os.path.lexists(path) or not glob.has_magic(str(path)):
        return [path]
    found = sorted(Path(name) for name in glob.glob(str(path)))  # noqa: PTH207 - the pattern may be absolute
    if not found:
        raise ConfigError(f"--extra-files {path}: no file has such a name; correct the pattern")
    return found


def _open_up(path: Path) -> list[Path]:
    """Return a directory's files in its place."""
    if path.is_symlink() or not path.is_dir():
        return [path]
    files = sorted(path.iterdir())
    if not files:
        raise ConfigError(f"--extra-files {path}: an empty directory; name the files")
    for file in files:
        if file.is_dir() and not file.is_symlink():
            advice = f"a model is flat: name the files in {file} themselves, or leave the directory out"
            raise ArtifactRefused("nested_directory", "A model is flat.", f"{path}: {advice}")
    return files


def _find_named(beside: Path, given: Iterable[Path], contract: Contract) -> list[Path]:
    """Return the files that the contract names and that were not given: they lie beside it."""
    names = {path.name for path in given}
    return [beside.parent / name for name in named_files(contract) if name not in names]


def _check_data(path: Path, members: Mapping[str, Path]) -> None:
    if path.name.lower().endswith(CODE):
        advice = "code goes in through --handler and --model-file only"
        raise ArtifactRefused("unexpected_code", "A file is code.", f"{path}: {advice}")
    if path.name.casefold() in {name.casefold() for name in (*members, *TAKEN_NAMES)}:
        detail = f"{path}: the name is taken; rename it"
        raise ArtifactRefused("repeated_name", "Two files have the same name.", detail)


def _check_state(state: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(state.st_mode):
        raise ArtifactRefused("not_a_file", "Only plain files can be packed.", f"{path}: a link, directory or device")
    if state.st_nlink > 1:
        raise ArtifactRefused("hard_link", "A file has a second name.", f"{path}: {HARD_LINK_ADVICE}")
