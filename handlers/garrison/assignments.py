"""Read a file of `key=value` lines, as strictly as one that two programs read has to be read.

Shared by the settings of TorchServe and the flags of TensorFlow Serving. Every line is empty, a comment that begins
with `#`, or one assignment without blanks around `=`; Java's other spellings (`:`, continuations, escapes) are refused.
"""

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


def is_whole_number(text: str, low: int, high: int) -> bool:
    """Say whether a value is a whole number from `low` to `high`."""
    return text.isascii() and text.isdigit() and low <= int(text[:12]) <= high
