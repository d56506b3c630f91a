"""Show on a terminal how far a longer command is; elsewhere nothing, so that logs stay readable."""

import contextlib
import sys
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn


@contextlib.contextmanager
def show_bytes(what: str) -> Iterator[Callable[[int, int], None]]:
    """Give a function that takes the bytes done so far and the bytes in all (0 where nobody knows)."""
    with _bar(DownloadColumn(), TransferSpeedColumn()) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total or None)


@contextlib.contextmanager
def show_steps(what: str) -> Iterator[Callable[[str], None]]:
    """Give a function that takes the name of the step that begins."""
    with _bar() as bar:
        task = bar.add_task(what, total=None)
        yield lambda step: bar.update(task, description=f"{what}: {step}")


def _bar(*columns: BarColumn | DownloadColumn | TransferSpeedColumn) -> Progress:
    console = Console(file=sys.stderr)
    shown = (TextColumn("{task.description}", markup=False), BarColumn(), *columns)
    return Progress(*shown, console=console, transient=True, disable=not console.is_terminal)
