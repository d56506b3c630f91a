"""Stock's `index_to_name.json`: its bytes enter, names that can be a contract's labels leave, with what was changed.

Stock takes what Garrison's labels cannot be: gaps, a name twice (ImageNet has two cranes), an older form. Two classes
of one name would be one entry of an answer, and the better score could be the lost one.
"""

import json
import re
from typing import Any

from garrison.archive import MAX_LABELS, MAX_LABELS_BYTES
from garrison.errors import ConfigError

STOCK_LABELS = "index_to_name.json"
MAX_NAME_CHARACTERS = 200
ADVICE = f'give {STOCK_LABELS} with --extra-files: {{"0": "first name", "1": "second name", ...}}'


def convert_labels(data: bytes) -> tuple[tuple[str, ...], list[str]]:
    """Return one name for each class, no two the same, and a sentence for each kind of change.

    Raises:
        ConfigError: it is no numbering of names.
    """
    given = _read_names(data)
    count = max(given) + 1
    if count > MAX_LABELS:
        raise ConfigError(f"{STOCK_LABELS}: more than {MAX_LABELS} names; {ADVICE}")
    names = [given.get(index, "")[:MAX_NAME_CHARACTERS] or str(index) for index in range(count)]
    changes = []
    if unnamed := [index for index in range(count) if not given.get(index)]:
        changes.append(f"{STOCK_LABELS}: {_list(unnamed)} had no name, and is answered by its number")
    if repeated := _tell_apart(names):
        changes.append(f"{STOCK_LABELS}: a name that stood twice got its number behind it: {_list(repeated)}")
    return tuple(names), changes


def render_labels(names: tuple[str, ...]) -> bytes:
    """Return names as a labels file."""
    values = {str(index): name for index, name in enumerate(names)}
    return (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode()


def _read_names(data: bytes) -> dict[int, str]:
    try:
        values = json.loads(data) if len(data) <= MAX_LABELS_BYTES else None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{STOCK_LABELS}: not JSON; {ADVICE}") from error
    if isinstance(values, dict) and isinstance(values.get("object_type_names"), list):
        values = {str(index): name for index, name in enumerate(values["object_type_names"])}
    if not isinstance(values, dict) or not values:
        raise ConfigError(f"{STOCK_LABELS}: no names in it; {ADVICE}")
    return {_read_number(key): _read_name(value) for key, value in values.items()}


def _read_number(key: str) -> int:
    if re.fullmatch(r"0|[1-9][0-9]{0,6}", key) is None:
        raise ConfigError(f"{STOCK_LABELS}: {key[:40]!r} is not the number of a class; {ADVICE}")
    return int(key)


def _read_name(value: Any) -> str:
    name = value[-1] if isinstance(value, list) and value else value
    if not isinstance(name, str):
        raise ConfigError(f"{STOCK_LABELS}: a name is no text; {ADVICE}")
    return name


def _tell_apart(names: list[str]) -> list[str]:
    """Put its number behind every name that was taken, and return those."""
    taken: set[str] = set()
    changed = []
    for index, name in enumerate(names):
        while names[index] in taken:
            suffix = f" ({index})"
            names[index] = (names[index] if names[index] != name else name[: MAX_NAME_CHARACTERS - 20]) + suffix
        if names[index] != name:
            changed.append(names[index])
        taken.add(names[index])
    return changed


def _list(values: list[Any]) -> str:
    shown = ", ".join(str(value) for value in values[:5])
    return shown if len(values) <= 5 else f"{shown} and {len(values) - 5} more"
