"""Read what one worker counted: a directory that it writes enters, the counts of its own model leave.

The files are those of prometheus-client's multi-process mode, but are not read by it: that follows links, waits for
pipes, takes in as many bytes as a file claims, and believes whatever names, labels and buckets stand in it. Here a file
is walked through at a bounded cost, and only what is ours is taken: our metrics, our labels with values that we know,
and the model that the directory belongs to. All else is left out, not corrected: a count with another model's name is
a lie, or a metric that a handler made for itself, and neither is a count of this model.

It does not defend against a worker that counts what never happened, within its own model.
"""

import itertools
import json
import math
import os
import stat
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from garrison.errors import Undecided
from garrison.profile.features import MAX_BINS
from garrison.reasons import OWN_REASONS, REASONS
from garrison.watch.families import CONTRACT, COUNTER, INPUTS, METRICS_DIRECTORY, OTHER, STEPS, Family
from garrison.watch.series import BUCKET_LABEL, Series, write_bound

MAX_FILES = 16  # two a process
MAX_FILE_BYTES = 2**20  # a worker's counts take a few kilobytes, in a file of 64 KiB
MAX_ENTRIES = 4000  # of all files together; ours are about 300, and 1,200 with as many features as there may be
MAX_KEY_BYTES = 1024
MAX_COUNT = 2.0**53  # from here on, adding one changes nothing

Places = tuple[tuple[int, Series | None], ...]
"""Where the values stand in a file, and of which series."""

_REASONS = frozenset({*REASONS, *OWN_REASONS, OTHER})
_BINS = tuple(map(str, range(MAX_BINS)))
_NO_FEATURES: Mapping[str, int] = MappingProxyType({})
_HEADER_BYTES = 8
_INTEGER, _DOUBLE = struct.Struct("=i"), struct.Struct("=d")
_VALUE_BYTES = 16  # the count, and a time that counters do not use
_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Keys:
    """What the workers of one model write in front of counts; `features` has the number of bins of each measured one.

    A key is parsed once, not at every question: with a hundred models that would take half a second.
    """

    def __init__(self, model: str, features: Mapping[str, int] = _NO_FEATURES) -> None:
        self._model, self._features = model, features
        self._known: dict[bytes, Series | None] = {}

    def find(self, key: bytes) -> Series | None:
        """Return the series of a key; None for what is none of ours.

        Raises:
            Undecided: it is not JSON.
        """
        if key not in self._known:
            if len(self._known) >= MAX_ENTRIES:  # nobody writes so many but to fill our memory
                self._known.clear()
            self._known[key] = _recognise(_parse_key(key), self._model, self._features)
        return self._known[key]


class Reader:
    """Reads what one worker counted, again and again: where which count stands in a file is found out once.

    A file only grows, so as long as it has its length, its keys are what they were. A worker that exchanges them at the
    same length lies about its own model, as it could anyway.
    """

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._read = 0  # a hash of what was read last
        self._places: dict[str, tuple[int, Places]] = {}

    def read(self, scratch: Path) -> dict[Series, float] | None:
        """Return the counts in a worker's scratch directory; None if they are what they were.

        Raises:
            Undecided: there is something in it that no worker of ours writes, or more than one writes.
        """
        files = tuple((name, _cut(data)) for name, data in _read_files(scratch))
        if hash(files) == self._read:
            return None
        places = {name: self._find_places(name, data) for name, data in files}
        if sum(map(len, places.values())) > MAX_ENTRIES:
            raise Undecided(f"more than {MAX_ENTRIES} counts")
        counts: dict[Series, float] = {}
        for name, data in files:
            for place, series in places[name]:
                (value,) = _DOUBLE.unpack_from(data, place)
                if not 0 <= value <= MAX_COUNT:  # not for NaN either
                    raise Undecided("a value that is no count")
                if series is not None:
                    counts[series] = counts.get(series, 0) + value
        self._places = {name: (len(data), places[name]) for name, data in files}
        self._read = hash(files)
        return counts

    def _find_places(self, name: str, data: bytes) -> Places:
        length, places = self._places.get(name, (-1, ()))
        if length == len(data):
            return places
        found = itertools.islice(_walk(data), MAX_ENTRIES + 1)
        return tuple((place, self._keys.find(key)) for key, place in found)


def _read_files(scratch: Path) -> Iterator[tuple[str, bytes]]:
    try:
        outer = os.open(scratch, _DIRECTORY_FLAGS)
        try:
            directory = os.open(METRICS_DIRECTORY, _DIRECTORY_FLAGS, dir_fd=outer)
        finally:
            os.close(outer)
        try:
            yield from ((name, _read_file(name, directory)) for name in _list_files(directory))
        finally:
            os.close(directory)
    except OSError as error:
        raise Undecided(f"{error.strerror}") from error


def _list_files(directory: int) -> list[str]:
    with os.scandir(directory) as entries:
        names = [entry.name for entry in itertools.islice(entries, MAX_FILES + 1)]
    if len(names) > MAX_FILES:
        raise Undecided(f"more than {MAX_FILES} files")
    return sorted(name for name in names if name.endswith(".db"))


def _read_file(name: str, directory: int) -> bytes:
    with os.fdopen(os.open(name, _FILE_FLAGS, dir_fd=directory), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise Undecided("not a plain file")
        return file.read(MAX_FILE_BYTES + 1)


def _cut(data: bytes) -> bytes:
    """Return the part of a file that is used, which its first bytes say; nothing of one that was just made."""
    used = _INTEGER.unpack_from(data)[0] if len(data) >= _HEADER_BYTES else 0
    if used == 0:
        return b""
    if not _HEADER_BYTES <= used <= len(data) <= MAX_FILE_BYTES:
        raise Undecided("a length that is not the file's")
    return data[:used]


def _walk(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Walk through what is used of a file: keys with their lengths, padded, and where the 16 bytes of a value stand."""
    place, used = _HEADER_BYTES, len(data)
    while place < used:
        length = _INTEGER.unpack_from(data, place)[0] if used - place >= 4 else 0
        value_at = place + 4 + length + (8 - (length + 4) % 8)
        if not 0 < length <= MAX_KEY_BYTES or value_at + _VALUE_BYTES > used:
            raise Undecided("a key that is longer than the file, or than any of ours")
        yield data[place + 4 : place + 4 + length], value_at
        place = value_at + _VALUE_BYTES


def _parse_key(key: bytes) -> Any:
    try:
        return json.loads(key.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise Undecided("a key that is not JSON") from error


def _recognise(key: Any, model: str, features: Mapping[str, int]) -> Series | None:
    """Return the series of one of our metrics, for this model; None for anything else."""
    if not isinstance(key, list) or len(key) != 4 or not isinstance(key[1], str) or not isinstance(key[2], dict):
        return None
    name, labels = key[1], key[2]
    if name == INPUTS.name:
        return _recognise_input(labels, model, features)
    known = _KNOWN.get(name)
    if known is None or labels.keys() != known.keys() | {"model"} or labels["model"] != model:
        return None
    values = tuple(labels[label] for label in known)
    if not all(isinstance(value, str) and value in known[label] for label, value in zip(known, values, strict=True)):
        return None
    return name, (model, *values)


def _recognise_input(labels: Mapping[str, Any], model: str, features: Mapping[str, int]) -> Series | None:
    """Return the series of a feature's bin, if the model has such a feature with so many bins."""
    if labels.keys() != set(INPUTS.labels) or labels["model"] != model:
        return None
    feature, number = labels["feature"], labels["bin"]
    if not isinstance(feature, str) or not isinstance(number, str):
        return None
    return (INPUTS.name, (model, feature, number)) if number in _BINS[: features.get(feature, 0)] else None


def _describe(family: Family) -> Iterator[tuple[str, Mapping[str, frozenset[str]]]]:
    """Go through the names of a family's samples as they stand in files, with the values of labels but the model."""
    values = {"reason": _REASONS, "step": frozenset(STEPS)}
    labels = {label: values[label] for label in family.labels[1:]}
    if family.kind == COUNTER:
        yield family.name, labels
        return
    bounds = frozenset(write_bound(bound) for bound in (*family.buckets, math.inf))
    yield f"{family.name}_sum", labels
    yield f"{family.name}_bucket", {**labels, BUCKET_LABEL: bounds}


_KNOWN = {name: labels for family in CONTRACT for name, labels in _describe(family)}
