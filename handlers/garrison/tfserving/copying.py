"""Give TensorFlow Serving what was admitted: recorded files enter, a version's directory with the same bytes leaves.

The binary reads a model's files by itself, whenever it likes, and compares nothing. So it never reads the store: each
file is read once, hashed on the way, and written where only the launcher's user can write. A version appears under its
number all at once, and only after everything in it is on the disk.
"""

import hashlib
import os
from pathlib import Path

from garrison.archive import CONTRACT_FILE
from garrison.errors import ArtifactRefused, ConfigError
from garrison.record import Record, read_chunks

_STAGED = ".staged"  # no number: the server does not take it for a version


def copy_version(store: Path, record: Record, target: Path) -> Path:
    """Copy the files of an admitted version from its place in the store to `target`/VERSION, and return that.

    Raises:
        ArtifactRefused: a file is not the one that was admitted.
        ConfigError: nothing can be written there.
    """
    staged, place = target / _STAGED, target / record.version
    try:
        staged.mkdir(mode=0o700, parents=True)
        for name in sorted(record.files):
            if name != CONTRACT_FILE:  # Garrison's own; the server has no use for it
                _copy(store, name, record, staged)
        for directory in (*(path for path in staged.rglob("*") if path.is_dir()), staged):
            _sync(directory)
            directory.chmod(0o500)
        staged.rename(place)
        _sync(target)
    except OSError as error:
        raise ConfigError(f"{target}: the model cannot be copied there ({error.strerror}); give more room") from error
    return place


def _copy(store: Path, name: str, record: Record, staged: Path) -> None:
    expected, digest, size = record.files[name], hashlib.sha256(), 0
    copy = staged / name
    copy.parent.mkdir(mode=0o700, exist_ok=True)
    try:
        chunks = read_chunks(store, name)
        with copy.open("xb") as file:
            for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
                if size > expected.size:
                    break
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
    except FileNotFoundError as error:
        raise _changed(store, name, "is gone") from error
    if size != expected.size or digest.hexdigest() != expected.sha256:
        raise _changed(store, name, "its bytes are not those that were admitted")
    copy.chmod(0o400)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _changed(store: Path, name: str, what: str) -> ArtifactRefused:
    return ArtifactRefused(
        "tampered", "The model is not the one that was admitted.", f"{store}/{name}: {what}; admit the model again"
    )
