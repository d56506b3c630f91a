"""Read a file of `key=value` lines, as strictly as one that two programs read has to be read.

Shared by the settings of TorchServe and the flags of TensorFlow Serving. Every line is empty, a comment that begins
with `#`, or one assignment without blanks around `=`; Java's other spellings (`:`, continuations, escapes) are refused.
"""

from collections.abc import Mapping
from pathlib import Path

from garrison.errors import ConfigError


def read_assignments(path: Path, problems: list[str]) -> dict[str, str]:
    """Return the file's keys and values, in order; what is wrong with its lines is added to `problems`.

    Raises:
        ConfigError: it cannot be read as text.
    """
    try:
        lines = path.read_text("utf-8").split("\n")  # Java knows no other ends of lines than these and \r
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as text; put the file of the release back") from error
    values: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        key, equals, value = line.partition("=")
        if not equals or "\\" in line or not key.replace("_", "").isalnum() or value != value.strip():
            problems.append(f"{path}, line {number}: write key=value, without blanks around = and without backslashes")
        elif key in values:
            problems.append(f"{path}, line {number}: {key} stands twice")
        values[key] = value
    return values


def read_locked(
    path: Path, locked: Mapping[str, str], tunable: Mapping[str, tuple[int, int]], kind: str
) -> dict[str, str]:
    """Return a file's keys and values: `locked` ones as they must be, `tunable` ones in their range, and no others.

    `kind` is what a person calls such a line.

    Raises:
        ConfigError: with every line that is missing, unknown, repeated, or not what it must be.
    """
    problems: list[str] = []
    values = read_assignments(path, problems)
    for key, wanted in locked.items():
        if values.get(key) != wanted:
            problems.append(f"{path}: {key}: locked; write {key}={wanted}")
    for key, (low, high) in tunable.items():
        if not _is_whole_number(values.get(key, ""), low, high):
            problems.append(f"{path}: {key}: write a whole number from {low} to {high}")
    known = {*locked, *tunable}
    problems.extend(f"{path}: {key}: unknown {kind}; take it out" for key in values if key not in known)
    if problems:
        raise ConfigError(*problems)
    return values


def _is_whole_number(text: str, low: int, high: int) -> bool:
    return text.isascii() and text.isdigit() and low <= int(text[:12]) <= high
