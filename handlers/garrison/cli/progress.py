"""Show on a terminal how far a longer command is; elsewhere nothing, so that logs stay readable.

rich is imported when something is shown: the gateway's image does not have it, and a health check has no time for it.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class ByteBar:
    """A bar of bytes."""

    def __init__(self, bar: "Progress", task: "TaskID") -> None:
        self._bar, self._task = bar, task

    def advance(self, size: int) -> None:
        """Show that so many more bytes are done."""
        self._bar.advance(self._task, size)

    def show(self, done: int, total: int) -> None:
        """Show how many bytes are done, of how many."""
        self._bar.update(self._task, completed=done, total=total)


@contextlib.contextmanager
def show_bytes(what: str) -> Iterator[ByteBar]:
    """Give a bar of bytes."""
    with _bar(with_bytes=True) as bar:
        yield ByteBar(bar, bar.add_task(what, total=None))


@contextlib.contextmanager
def show_steps(what: str) -> Iterator[Callable[[str], None]]:
    """Give a function that takes the name of the step that begins."""
    with _bar(with_bytes=False) as bar:
        task = bar.add_task(what, total=None)
        yield lambda step: bar.update(task, description=f"{what}: {step}")


def _bar(*, with_bytes: bool) -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console = Console(file=sys.stderr)
    columns = (DownloadColumn(), TransferSpeedColumn()) if with_bytes else ()
    shown = (TextColumn("{task.description}", markup=False), BarColumn(), *columns)
    return Progress(*shown, console=console, transient=True, disable=not console.is_terminal)
