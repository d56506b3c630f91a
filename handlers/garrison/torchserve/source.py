"""Load a model's own code from one file: a path enters, the one class that is wanted leaves.

Never through `sys.path`: the file's directory holds whatever else was packed, and could shadow any module. The module
gets a private name, nothing is written beside it, and it can import the standard library, torch and Garrison only by
their own names.

It does not look at what the code does: that is for vetting before packing, and for the cell around the worker.
"""

import inspect
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from garrison.errors import ConfigError

MAX_SOURCE_BYTES = 2**20
_PREFIX = "_garrison_packed_"

T = TypeVar("T")


def load_class(path: Path, base: type[T], meaning: str) -> type[T]:
    """Run a file and return the only class in it that derives from `base`.

    Raises:
        ConfigError: the file cannot be read or run, or does not define exactly one such class.
    """
    module = _run(path)
    found = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, base) and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        names = ", ".join(one.__name__ for one in found) or "none"
        raise ConfigError(f"{path.name}: define exactly one class derived from {meaning}; found {names}")
    return found[0]


def describe_error(error: BaseException, path: Path) -> str:
    """Say where in a file, and why, its code failed: the innermost line that is in that file."""
    line = getattr(error, "lineno", None) if isinstance(error, SyntaxError) else None
    for frame in traceback.extract_tb(error.__traceback__):
        line = frame.lineno if frame.filename == str(path) else line
    where = f"{path.name}, line {line}" if line else path.name
    return f"{where}: {type(error).__name__}: {str(error)[:500]}"


def _run(path: Path) -> ModuleType:
    try:
        with path.open("rb") as file:
            source = file.read(MAX_SOURCE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); pack the model again") from error
    if len(source) > MAX_SOURCE_BYTES:
        raise ConfigError(f"{path.name}: larger than {MAX_SOURCE_BYTES} bytes; code is not that long")
    module = ModuleType(f"{_PREFIX}{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses and typing look there
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)  # noqa: S102 - code of the model, by its own path
    except (Exception, SystemExit) as error:
        del sys.modules[module.__name__]
        raise ConfigError(_advise(error, path)) from error
    return module


def _advise(error: BaseException, path: Path) -> str:
    told = describe_error(error, path)
    if isinstance(error, ModuleNotFoundError):
        return f"{told}; one file holds all of a model's own code, and only installed packages can be imported"
    return told
