"""Show on a terminal how far a longer command is; elsewhere nothing, so that logs stay readable.

The commands that run a server show nothing, so what draws is imported only where it is used.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, TaskID


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
    from rich.progress import DownloadColumn, TransferSpeedColumn

    with _bar(DownloadColumn(), TransferSpeedColumn()) as bar:
        yield ByteBar(bar, bar.add_task(what, total=None))


@contextlib.contextmanager
def show_steps(what: str) -> Iterator[Callable[[str], None]]:
    """Give a function that takes the name of the step that begins."""
    with _bar() as bar:
        task = bar.add_task(what, total=None)
        yield lambda step: bar.update(task, description=f"{what}: {step}")


def _bar(*columns: "ProgressColumn") -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(file=sys.stderr)
    shown = (TextColumn("{task.description}", markup=False), BarColumn(), *columns)
    return Progress(*shown, console=console, transient=True, disable=not console.is_terminal)
