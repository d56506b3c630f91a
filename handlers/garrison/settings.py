"""Read a YAML file that a person wrote: text in, checked values out, every problem reported at once.

Shared by the contract and by the gateway's files. Refuses what YAML allows and nobody means in a settings file:
duplicate keys, anchors and aliases (the "billion laughs" attack), more than one document, files over 64 KiB (unless
the caller allows more, as for clients).
Values that fail are replaced by a stand-in of the right type, so that reading goes on and finds the other
problems; `finish` then raises, so no stand-in is ever used.
"""

import datetime
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from garrison.errors import ConfigError
from garrison.files import read_file

MAX_FILE_BYTES = 64 * 1024
MAX_DEPTH = 20
_PLAIN_NUMBER = r"[-+]?(0|[1-9][0-9_]{0,400})(\.[0-9_]*)?([eE][-+]?[0-9]+)?|[-+]?\.[0-9]+([eE][-+]?[0-9]+)?"
UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_MISSING: Any = object()
_MERGE_TAG = "tag:yaml.org,2002:merge"


def load_settings(path: Path, most_bytes: int = MAX_FILE_BYTES) -> "Settings":
    """Read a settings file from disk.

    Raises:
        ConfigError: the file is missing, unreadable, too large, or not one YAML mapping.
    """
    try:
        data = read_file(path, most_bytes + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give a readable file") from error
    return Settings(parse_mapping(data, str(path), most_bytes), str(path))


def parse_settings(data: bytes, file: str) -> "Settings":
    """Read a settings file's bytes; `file` is its name in messages.

    Raises:
        ConfigError: as for `load_settings`.
    """
    return Settings(parse_mapping(data, file), file)


def parse_mapping(data: bytes, file: str, most_bytes: int = MAX_FILE_BYTES) -> dict[Any, Any]:
    """Read a YAML mapping as plain values, for whoever knows by himself what may be in it.

    Raises:
        ConfigError: as for `load_settings`.
    """
    if len(data) > most_bytes:
        raise ConfigError(f"{file}: larger than {most_bytes} bytes; a settings file is a page or two")
    try:
        values = yaml.load(data.decode("utf-8"), Loader=_StrictLoader)  # noqa: S506 - a SafeLoader, made stricter
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: not UTF-8 at byte {error.start}; save it as UTF-8 text") from error
    except RecursionError as error:
        raise ConfigError(f"{file}: nested too deeply; a settings file has three or four levels") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{file}, line {line}: {error.problem or 'not YAML'}") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise ConfigError(f"{file}: not YAML ({error})") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{file}: must be a YAML mapping (`key: value` lines)")
    return values


class Settings:
    """One mapping of a settings file, read key by key."""

    def __init__(self, values: dict[Any, Any], file: str, prefix: str = "", problems: list[str] | None = None) -> None:
        self.file = file
        self._values = values
        self._prefix = prefix
        self._seen: set[str] = set()
        self._problems: list[str] = [] if problems is None else problems
        self._key = ""
        self._faulty: set[str] = set()
        self._children: list[Settings] = []

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __bool__(self) -> bool:
        return bool(self._values)

    def is_mapping(self, key: str) -> bool:
        """Say whether the key is there with a mapping as its value."""
        return isinstance(self._values.get(key), dict)

    def know(self, *keys: str) -> None:
        """Name keys that may stand here, also where none of them was read."""
        self._seen.update(keys)

    def problem(self, key: str, sentence: str) -> None:
        """Note a fault; `finish` raises them together."""
        where = f"{self._prefix}{key}" if key else self._prefix.rstrip(".")
        self._problems.append(f"{self.file}: {where or 'the file'}: {sentence}")
        self._faulty.add(key)

    def sound(self, *keys: str) -> bool:
        """Say whether nothing was wrong with these keys so far: stand-ins must not be compared with one another."""
        return self._faulty.isdisjoint(keys) and all(child._clean() for child in self._children if child._key in keys)

    def finish(self) -> None:
        """Report unknown keys, then raise if anything was wrong here or below.

        Raises:
            ConfigError: with every problem found.
        """
        self._check_unknown()
        if self._problems:
            raise ConfigError(*self._problems)

    def integer(self, key: str, low: int, high: int, default: int = _MISSING) -> int:
        """Read a whole number between `low` and `high`, both included."""
        value = self._get(key, default, f"a whole number from {low} to {high}")
        if value is _MISSING:
            return low
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            wanted = f"a whole number from {low} to {high}" if low < high else f"{low}, the only value that is known"
            self.problem(key, f"{_show(value)} is not {wanted}")
            return low
        return value

    def number(self, key: str, low: float, high: float, default: float = _MISSING) -> float:
        """Read a finite number between `low` and `high`, both included."""
        value = self._get(key, default, f"a number from {low} to {high}")
        if value is _MISSING:
            return low
        if not _is_number(value) or not low <= value <= high:
            self.problem(key, f"{_show(value)} is not a number from {low} to {high}")
            return low
        return float(value)

    def numbers(self, key: str, low: float, high: float, most: int = 4) -> tuple[float, ...]:
        """Read a list of one to `most` finite numbers; four are a channel's mean or deviation."""
        value = self._get(key, _MISSING, f"a list of numbers from {low} to {high}")
        if value is _MISSING:
            return (low,)
        if (
            not isinstance(value, list)
            or not 1 <= len(value) <= most
            or not all(_is_number(n) and low <= n <= high for n in value)
        ):
            wanted = "four" if most == 4 else most
            self.problem(key, f"{_show(value)} is not a list of one to {wanted} numbers from {low} to {high}")
            return (low,)
        return tuple(float(n) for n in value)

    def integers(self, key: str, count: int, low: int, high: int) -> tuple[int, ...]:
        """Read a list of exactly `count` whole numbers."""
        value = self._get(key, _MISSING, f"a list of {count} whole numbers")
        if value is _MISSING:
            return (low,) * count
        fits = isinstance(value, list) and len(value) == count
        if not fits or any(isinstance(n, bool) or not isinstance(n, int) or not low <= n <= high for n in value):
            self.problem(key, f"{_show(value)} is not a list of {count} whole numbers from {low} to {high}")
            return (low,) * count
        return tuple(value)

    def size(self, key: str, high: int, default: int = _MISSING) -> int:
        """Read a number of bytes, at least 1: `4MiB`, `300kB`, or a plain number of bytes."""
        value = self._get(key, default, "a size such as 4MiB")
        if value is _MISSING:
            return 1
        size = _parse_size(value)
        if size is None or not 1 <= size <= high:
            self.problem(key, f"{_show(value)} is not a size from 1 byte to {high} bytes; write for example 4MiB")
            return 1
        return size

    def text(self, key: str, pattern: str, meaning: str, default: str = _MISSING) -> str:
        """Read a string that matches `pattern` as a whole; `meaning` tells a person what is wanted."""
        value = self._get(key, default, meaning)
        if value is _MISSING:
            return ""
        if not isinstance(value, str):
            self.problem(key, f"{_show(value)} must be text: put the value in quotes ({meaning})")
            return ""
        if not re.fullmatch(pattern, value):
            self.problem(key, f"{_show(value)} is not {meaning}")
            return ""
        return value

    def choice(self, key: str, options: Sequence[str], default: str = _MISSING) -> str:
        """Read one of several words."""
        value = self._get(key, default, f"one of {', '.join(options)}")
        if value is _MISSING:
            return options[0]
        if not isinstance(value, str) or value not in options:
            self.problem(key, f"{_show(value)} is not one of {', '.join(options)}")
            return options[0]
        return value

    def choices(self, key: str, options: Sequence[str], default: Sequence[str] = _MISSING) -> tuple[str, ...]:
        """Read a list of one or more different words out of several."""
        value = self._get(key, default, f"a list out of {', '.join(options)}")
        if value is _MISSING:
            return ()
        listed = list(value) if isinstance(value, list | tuple) else []
        known = all(isinstance(word, str) and word in options for word in listed)
        if not listed or not known or len(set(listed)) != len(listed):
            self.problem(key, f"{_show(value)} is not a list of different words out of {', '.join(options)}")
            return ()
        return tuple(listed)

    def texts(
        self, key: str, pattern: str, meaning: str, default: Sequence[str] = _MISSING, *, may_be_empty: bool = False
    ) -> tuple[str, ...]:
        """Read a list of one or more different strings that each match `pattern`."""
        value = self._get(key, default, f"a list of {meaning}")
        if value is _MISSING:
            return ()
        if value is default:
            return tuple(default)
        fits = isinstance(value, list) and all(isinstance(t, str) and re.fullmatch(pattern, t) for t in value)
        if not fits or (not value and not may_be_empty) or len(set(value)) != len(value):
            self.problem(key, f"{_show(value)} is not a list of different values, each {meaning}")
            return ()
        return tuple(value)

    def date(self, key: str) -> datetime.datetime:
        """Read a day such as 2026-12-31; return its first moment in UTC."""
        value = self._get(key, _MISSING, "a day such as 2026-12-31")
        day = None if value is _MISSING else _parse_day(value)
        if day is None and value is not _MISSING:
            self.problem(key, f"{_show(value)} is not a day such as 2026-12-31")
        return datetime.datetime.combine(day or datetime.date.min, datetime.time(), datetime.UTC)

    def flag(self, key: str, default: bool = _MISSING) -> bool:
        """Read true or false."""
        value = self._get(key, default, "true or false")
        if value is _MISSING:
            return False
        if not isinstance(value, bool):
            self.problem(key, f"{_show(value)} is not true or false")
            return False
        return value

    def listing(self, key: str, meaning: str, *, empty: bool = False) -> list[Any]:
        """Read a list of one or more entries (with `empty`, of none, too), which the caller checks."""
        value = self._get(key, _MISSING, meaning)
        if value is _MISSING:
            return []
        if not isinstance(value, list) or not (value or empty):
            self.problem(key, f"{_show(value)} is not a list such as {meaning}")
            return []
        return value

    def section(self, key: str, meaning: str = "a mapping", *, required: bool = True) -> "Settings":
        """Read a nested mapping; a missing optional one reads as empty."""
        value = self._get(key, _MISSING if required else {}, meaning)
        if value is not _MISSING and not isinstance(value, dict):
            self.problem(key, _say_wanted(value, meaning))
            value = _MISSING
        if value is _MISSING:
            return Settings({}, self.file, f"{self._prefix}{key}.", [])  # its own missing keys would only be noise
        return self._child(key, value)

    def sections(self, pattern: str, meaning: str) -> Iterator[tuple[str, "Settings"]]:
        """Go through a mapping whose keys are names that match `pattern` and whose values are mappings."""
        for key, value in self._values.items():
            self._seen.add(key)
            if not isinstance(key, str) or not re.fullmatch(pattern, key):
                self.problem("", f"{_show(key)} is not {meaning}")
            elif not isinstance(value, dict):
                self.problem(key, _say_wanted(value, "a mapping"))
            else:
                yield key, self._child(key, value)

    def names(self, pattern: str, meaning: str) -> Iterator[str]:
        """Go through the keys of a mapping, each a name that matches `pattern`."""
        for key in self._values:
            self._seen.add(key)
            if isinstance(key, str) and re.fullmatch(pattern, key):
                yield key
            else:
                self.problem("", f"{_show(key)} is not {meaning}")

    def _child(self, key: str, values: dict[Any, Any]) -> "Settings":
        child = Settings(values, self.file, f"{self._prefix}{key}.", self._problems)
        child._key = key
        self._children.append(child)
        return child

    def _clean(self) -> bool:
        return not self._faulty and all(child._clean() for child in self._children)

    def _get(self, key: str, default: Any, meaning: str) -> Any:
        self._seen.add(key)
        if key in self._values:
            return self._values[key]
        if default is _MISSING:
            self.problem(key, f"missing; write {meaning}")
        return default

    def _check_unknown(self) -> None:
        for key in self._values:
            if key not in self._seen:
                known = ", ".join(sorted(self._seen))
                self.problem(_show_key(key), f"unknown key; take it out, or write one of: {known}")
        for child in self._children:
            child._check_unknown()


class _StrictLoader(yaml.SafeLoader):
    """YAML without aliases, merges and tags, and without duplicate keys."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise self._refuse("aliases (*name) are not accepted; repeat the value")
        if event.tag is not None:
            raise self._refuse("tags (!name) are not accepted; write the plain value")
        if event.anchor is not None:
            raise self._refuse("anchors (&name) are not accepted; repeat the value")
        if self.depth >= MAX_DEPTH:
            raise self._refuse("nested too deeply; a settings file has three or four levels")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key must be a plain word", problem_mark=key_node.start_mark)
            if key_node.tag == _MERGE_TAG:
                raise yaml.MarkedYAMLError(
                    problem="merges (<<) are not accepted; repeat the keys", problem_mark=key_node.start_mark
                )
            if key_node.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"key {_show(key_node.value)} stands twice", problem_mark=key_node.start_mark
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)

    def _refuse(self, problem: str) -> yaml.MarkedYAMLError:
        return yaml.MarkedYAMLError(problem=problem, problem_mark=self.peek_event().start_mark)  # type: ignore[no-untyped-call]


def _construct_number(loader: _StrictLoader, node: yaml.ScalarNode) -> int | float | str:
    """Read a number as a person means it; what YAML 1.1 takes for one besides (010, 1:00, 0x1F, .nan) stays text."""
    if not re.fullmatch(_PLAIN_NUMBER, node.value):
        return str(node.value)
    if node.tag.endswith(":int"):
        return loader.construct_yaml_int(node)
    return loader.construct_yaml_float(node)


_StrictLoader.add_constructor("tag:yaml.org,2002:int", _construct_number)
_StrictLoader.add_constructor("tag:yaml.org,2002:float", _construct_number)


def _parse_size(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    match = re.fullmatch(r"([0-9]{1,12}) ?([kMGKi]{0,2}B)", value) if isinstance(value, str) else None
    if match is None or match[2] not in UNITS:
        return None
    return int(match[1]) * UNITS[match[2]]


def _parse_day(value: Any) -> datetime.date | None:
    """Take what YAML made of an unquoted day, or a quoted one; no times, whose zone would be a guess."""
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return value
    if not isinstance(value, str) or not re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        return None
    try:
        return datetime.date.fromisoformat(value)
    except ValueError:
        return None


def _is_number(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def _show(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python writes no number of more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 60 else text[:57] + "..."


def _say_wanted(value: Any, meaning: str) -> str:
    return f"is empty; write {meaning}" if value is None else f"{_show(value)} must be {meaning}"


def _show_key(key: Any) -> str:
    return key if isinstance(key, str) and key.isprintable() and len(key) <= 60 else _show(key)
