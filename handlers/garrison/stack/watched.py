"""Notice that files have changed, and that whoever writes them has finished; and remember what was last sound in them.

Looked at instead of listened for: a mounted volume, a file that is replaced and one that is edited in place are all the
same then, and it costs a few system calls a second.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Generic, TypeVar

from garrison.errors import ConfigError

Value = TypeVar("Value")
Signs = list[tuple[int, ...]]


def sign_files(files: Iterable[Path]) -> Signs:
    """Return what changes when one of the files does; a link is followed, as a mounted secret is one."""
    signs: Signs = []
    for path in files:
        try:
            found = path.stat()
        except OSError as error:
            signs.append((error.errno or 0,))
            continue
        signs.append((found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_mode))
    return signs


class Watched:
    """Some files, of which it is known what they were like when somebody looked last."""

    def __init__(self, files: Iterable[Path]) -> None:
        self.files = tuple(files)
        self._seen, self._settled = sign_files(self.files), True

    def changed(self) -> bool:
        """Say once that files have changed, when they are the same at two looks: who writes them has finished."""
        seen = sign_files(self.files)
        if seen != self._seen:
            self._seen, self._settled = seen, False
            return False
        finished, self._settled = not self._settled, True
        return finished

    def watch(self, files: Iterable[Path]) -> None:
        """Look at other files from now on; they count as changed, as they may have since they were read."""
        if tuple(files) != self.files:
            self.files = tuple(files)
            self.doubt()

    def doubt(self) -> None:
        """Let them count as changed, whatever they look like."""
        self._seen = []


class Kept(Generic[Value]):
    """What was last sound in a file: a broken one changes nothing, and does not hold up what others say."""

    def __init__(self, read: Callable[[], Value]) -> None:
        self._read = read
        self.value = read()

    def refresh(self) -> str:
        """Read anew; return what is wrong, or nothing."""
        try:
            self.value = self._read()
        except ConfigError as error:
            return str(error)
        return ""
