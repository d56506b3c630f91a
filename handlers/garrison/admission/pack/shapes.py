"""How many classes a classifier tells apart: its weights' file enters, a number leaves, or none.

TorchScript and state dicts keep their tensors' shapes in a pickle. It is read here instruction by instruction, without
doing what an instruction says: nothing is imported, called or built. The last layer of a classifier has a row of
weights, and mostly one bias, for each class. That is a habit of networks and no law: it is good for a proposal that a
person reads, and for nothing else.
"""

import pickletools
from pathlib import Path
from typing import Any

from garrison.admission.settings import Limits
from garrison.admission.zips import open_zip
from garrison.archive import MAX_LABELS
from garrison.errors import ArtifactRefused

MAX_PICKLE_BYTES = 4 * 2**20  # a thousand layers take about a megabyte; a hostile one of this size costs five seconds
MAX_RECORDS = 100_000
REBUILD_TENSOR = "torch._utils _rebuild_tensor_v2"
_MARK = object()
_IGNORED = ("PROTO", "STOP")
_NOTHING = ("EMPTY_DICT", "EMPTY_LIST", "NONE", "NEWTRUE", "NEWFALSE", "BINFLOAT")
_PUSHED: dict[str, Any] = {"MARK": _MARK, "EMPTY_TUPLE": (), **dict.fromkeys(_NOTHING)}
_POPPED = {"NEWOBJ": 1, "APPEND": 1, "BUILD": 1, "SETITEM": 2}
_EMPTIED = ("SETITEMS", "APPENDS")

Shape = tuple[int, ...]


def count_classes(weights: Path, limits: Limits) -> int | None:
    """Return how many classes the last layer of a `.pt` file has, or None where that cannot be told."""
    try:
        with open_zip(weights, limits, MAX_RECORDS) as archive:
            names = [member.name for member in archive.members()]
            for record in ("data.pkl", "constants.pkl"):  # a frozen network has its tensors in the second
                for name in names:
                    if name.partition("/")[2] == record and (
                        shapes := read_shapes(archive.read(name, MAX_PICKLE_BYTES))
                    ):
                        return _read_last_layer(shapes)
    except ArtifactRefused:
        return None  # the scan will say why
    return None


def read_shapes(data: bytes) -> list[Shape]:
    """Return the shapes of a pickle's tensors in their order; of one that is not understood, none."""
    reader = _Reader()
    try:
        for code, argument, _ in pickletools.genops(data):
            reader.step(code.name, argument)
    except (ValueError, IndexError, KeyError, TypeError):
        return []
    return reader.shapes


def _read_last_layer(shapes: list[Shape]) -> int | None:
    *before, last = shapes
    if len(last) == 1:
        rows = before[-1][0] if before and len(before[-1]) >= 2 else 0
        classes = last[0] if rows == last[0] else 0
    else:
        classes = last[0] if last else 0
    return classes if 1 <= classes <= MAX_LABELS else None


class _Reader:
    """A pickle machine that keeps numbers and tuples, and of everything else only that it is there."""

    def __init__(self) -> None:
        self.shapes: list[Shape] = []
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """Follow one instruction."""
        stack = self._stack
        if name in _PUSHED:
            stack.append(_PUSHED[name])
        elif name in _POPPED:
            del stack[-_POPPED[name] :]
        elif name in _EMPTIED:
            self._pop_to_mark()
        elif name.startswith("TUPLE"):
            stack.append(tuple(self._pop(int(name[-1])) if name[-1].isdigit() else self._pop_to_mark()))
        elif name == "REDUCE":
            function, values = self._pop(2)
            stack.append(self._call(function, values))
        elif name == "BINPERSID":
            stack[-1] = None
        elif name.endswith("BINPUT"):
            self._memo[argument] = stack[-1]
        elif name not in _IGNORED:  # numbers, texts, the names of globals, and what was noted
            stack.append(self._memo[argument] if name.endswith("BINGET") else _take(name, argument))

    def _call(self, function: Any, values: Any) -> Any:
        if function == REBUILD_TENSOR and isinstance(values, tuple) and len(values) > 2:
            shape = values[2]
            if isinstance(shape, tuple) and all(isinstance(size, int) for size in shape):
                self.shapes.append(shape)
        return None

    def _pop(self, count: int) -> list[Any]:
        values = self._stack[-count:]
        del self._stack[-count:]
        return values

    def _pop_to_mark(self) -> list[Any]:
        values: list[Any] = []
        while (value := self._stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]


def _take(name: str, argument: Any) -> Any:
    if not isinstance(argument, int | str):
        raise ValueError(name)  # an instruction that torch does not write
    return argument
