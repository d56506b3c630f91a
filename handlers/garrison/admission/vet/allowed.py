"""Which names of which modules handler code may use: a dotted path enters, what it stands for leaves.

The standing list is `names.txt`. An operator's own entries (`handlers.imports` of `admission.yaml`) cover a module and
what is below it, without the names that begin with an underscore or are themselves modules of the standard library.
"""

import sys
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

MODULE = "module"
NAME = "name"
UNKNOWN = "unknown"
LIST_FILE = "names.txt"


class Allowed:
    """The modules and names that may be used, by their full dotted paths."""

    def __init__(self, imports: Iterable[str] = ()) -> None:
        self._modules = dict(read_standing_list())
        self._own = tuple(imports)
        for entry in self._own:
            parts = entry.split(".")
            for count in range(1, len(parts)):  # `import scipy.special` binds scipy
                self._modules.setdefault(".".join(parts[:count]), frozenset())

    def judge(self, path: str) -> str:
        """Say whether a path is a module that may be used, a name of one (or what belongs to that), or neither."""
        if path in self._modules or path in self._own:
            return MODULE
        parts = path.split(".")
        for count in range(len(parts) - 1, 0, -1):
            module = ".".join(parts[:count])
            if module in self._own:
                return NAME if all(map(_is_plain, parts[count:])) else UNKNOWN
            if module in self._modules:
                return NAME if parts[count] in self._modules[module] else UNKNOWN
        return UNKNOWN

    def is_module(self, path: str) -> bool:
        """Say whether a path is a module, one that may be used or not: its names are judged one by one."""
        return bool(path) and self.judge(path) == MODULE

    def is_operators_own(self, path: str) -> bool:
        """Say whether a path is, or lies below, one of the operator's own entries."""
        return any(path == entry or path.startswith(f"{entry}.") for entry in self._own)

    def may_import(self, module: str) -> bool:
        """Say whether `import module` may stand in handler code."""
        return self.judge(module) == MODULE or (self.is_operators_own(module) and self.judge(module) == NAME)


def _is_plain(name: str) -> bool:
    return not name.startswith("_") and name not in sys.stdlib_module_names


@cache
def read_standing_list() -> dict[str, frozenset[str]]:
    """Return the standing list: module → the names that may be used of it."""
    found: dict[str, frozenset[str]] = {}
    module = ""
    for line in (files(__package__) / LIST_FILE).read_text(encoding="utf-8").splitlines():
        if line.startswith(("#", " ")) or not line:
            found[module] = found[module] | set(line.split()) if line.startswith(" ") else found.get(module, frozenset())
        else:
            module = line
            found[module] = frozenset()
    found.pop("", None)
    return found
