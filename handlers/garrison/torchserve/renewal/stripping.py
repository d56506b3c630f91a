"""Remove from an image what nothing starts any more: an installation's packages enter, a count of removed files leaves.

Of the package `ts` a list names what a worker imports; the rest goes: TorchServe's own jar and launchers, its handlers
(which unpickle, decode any format and load weights as code), its tests. A model that names one of them then fails to
load, whatever admitted it.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from garrison.errors import ConfigError
from garrison.torchserve.renewal.server import DIRECTORY

KEPT = (
    "ts/__init__.py",
    "ts/arg_parser.py",
    "ts/async_service.py",
    "ts/configs/metrics.yaml",
    "ts/context.py",
    "ts/handler_utils/__init__.py",
    "ts/handler_utils/utils.py",
    "ts/metrics/",
    "ts/model_loader.py",
    "ts/model_service_worker.py",
    "ts/protocol/",
    "ts/service.py",
    "ts/utils/__init__.py",
    "ts/utils/timeit_decorator.py",
    "ts/utils/util.py",
    "ts/version.py",
    "ts/version.txt",
    f"{DIRECTORY}/",
)
LAUNCHER = "torchserve"


@dataclass(frozen=True)
class Removed:
    """How much was removed."""

    files: int
    bytes: int


def strip(home: Path, programs: Path) -> Removed:
    """Remove all of the package `ts` in `home` that is not kept, and its launcher from the directory of programs.

    Raises:
        ConfigError: something cannot be removed.
    """
    doomed = [path for path in sorted((home / "ts").rglob("*")) if path.is_file() and not _is_kept(path, home)]
    doomed += [path for path in (programs / LAUNCHER,) if path.is_file()]
    size = sum(path.stat().st_size for path in doomed)
    try:
        for path in doomed:
            path.unlink()
        for cache in list((home / "ts").rglob("__pycache__")):
            shutil.rmtree(cache)  # what was compiled could be imported without its source
        for directory in sorted((path for path in (home / "ts").rglob("*") if path.is_dir()), reverse=True):
            if not any(directory.iterdir()):
                directory.rmdir()
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot be removed ({error.strerror})") from error
    return Removed(len(doomed), size)


def _is_kept(path: Path, home: Path) -> bool:
    return path.relative_to(home).as_posix().startswith(KEPT)
