"""Load a model's own code from the bytes of one file: source enters, the one class that is wanted leaves.

Never through `sys.path`: the file's directory holds whatever else was packed, and could shadow any module. The module
gets a private name, nothing is read or written beside it, and it can import the standard library, torch and Garrison
only by their own names.

It does not look at what the code does: that is for vetting before packing, and for the cell around the worker.
"""

import inspect
import sys
import traceback
from types import ModuleType
from typing import TypeVar

from garrison.archive import HANDLER_FILE, MODEL_FILE
from garrison.errors import ConfigError
from garrison.torchserve.forbidden import explain

OWN_CODE = (HANDLER_FILE, MODEL_FILE)
MAX_SOURCE_BYTES = 2**20
_PREFIX = "_garrison_packed_"

T = TypeVar("T")


def load_class(source: bytes, name: str, base: type[T], meaning: str) -> type[T]:
    """Run the source of the file `name` and return the only class in it that derives from `base`.

    Raises:
        ConfigError: it cannot be run, or does not define exactly one such class.
    """
    module = _run(source, name)
    found = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, base) and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        names = ", ".join(one.__name__ for one in found) or "none"
        raise ConfigError(f"{name}: define exactly one class derived from {meaning}; found {names}")
    return found[0]


def describe_error(error: BaseException, name: str = "") -> str:
    """Say where in a model's own code, and why, it failed: the innermost line that is in one of its files.

    `name` is the file that was run, for an error that comes from no line of it.
    """
    what = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
    if told := explain(error):
        what = f"{told} ({what[:200]})"
    return f"{where}: {what}" if (where := _find_line(error, name)) else what


def _find_line(error: BaseException, name: str) -> str:
    files = {name, *OWN_CODE}
    where = name
    if isinstance(error, SyntaxError) and error.filename in files:
        where = f"{error.filename}, line {error.lineno}"
    for frame, line in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_filename in files:
            where = f"{frame.f_code.co_filename}, line {line}"
    return where


def _run(source: bytes, name: str) -> ModuleType:
    if len(source) > MAX_SOURCE_BYTES:
        raise ConfigError(f"{name}: larger than {MAX_SOURCE_BYTES} bytes; code is not that long")
    module = ModuleType(f"{_PREFIX}{name.removesuffix('.py')}")
    module.__file__ = name
    sys.modules[module.__name__] = module  # dataclasses and typing look there
    try:
        exec(compile(source, name, "exec"), module.__dict__)  # noqa: S102 - code of the model, as it was admitted
    except (Exception, SystemExit) as error:
        del sys.modules[module.__name__]
        raise ConfigError(_advise(error, name)) from error
    return module


def _advise(error: BaseException, name: str) -> str:
    told = describe_error(error, name)
    if isinstance(error, ModuleNotFoundError):
        return f"{told}; one file holds all of a model's own code, and only installed packages can be imported"
    return told
