"""Renew the installed TorchServe: `python -m garrison.torchserve.renewal`.

Exit 0: done, or nothing was to do. 2: wrong use. 78: it cannot be done; the sentence says why.
"""

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from garrison.errors import EXIT_OK, ConfigError, GarrisonError
from garrison.torchserve.renewal.netty import MAVEN, PYSPARK, Progress, collect_netty
from garrison.torchserve.renewal.server import find_renewed, write_renewed
from garrison.torchserve.renewal.stripping import strip
from garrison.torchserve.server import find_server_home


def main(arguments: Sequence[str] | None = None) -> int:
    """Renew what is installed beside this Python."""
    options = _parse(arguments)
    try:
        home = find_server_home()
        _renew(home, options.source, force=options.force)
        if options.strip:
            removed = strip(home, Path(sys.executable).parent)
            _say(f"Removed {removed.files} files of TorchServe ({removed.bytes / 1e6:.0f} MB) that nothing starts.")
    except GarrisonError as error:
        sys.stderr.write(f"renew-server: {error}\n")
        return error.exit_code
    return EXIT_OK


def _renew(home: Path, source: str | None, *, force: bool) -> None:
    if not force:
        with contextlib.suppress(ConfigError):
            find_renewed(home)
            _say("TorchServe's server is renewed already.")
            return
    with _bar() as progress:
        netty = collect_netty(source, _say, progress)
    _say(f"Renewed TorchServe's server: {write_renewed(home, netty).directory}")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="renew-server", description="Renew the installed TorchServe's server.", allow_abbrev=False
    )
    source_help = (
        f"where netty comes from: {MAVEN} (Maven Central), {PYSPARK} (out of PyPI's pyspark, 456 MB pass by), or a "
        f"directory with its jars (default: {MAVEN}, and {PYSPARK} if that cannot be reached)"
    )
    parser.add_argument("--source", metavar=f"{MAVEN}|{PYSPARK}|DIR", help=source_help)
    parser.add_argument("--force", action="store_true", help="write it anew although it is there")
    strip_help = "for images: remove TorchServe's own jar, launcher, handlers and tools; pip no longer finds them"
    parser.add_argument("--strip", dest="strip", action="store_true", help=strip_help)
    return parser.parse_args(arguments)


@contextlib.contextmanager
def _bar() -> Iterator[Progress]:
    """Show on a terminal how far a download is, where `rich` is installed; elsewhere nothing."""
    try:
        from rich.console import Console
        from rich.progress import Progress as Bars
    except ImportError:
        yield lambda done, total: None
        return
    console = Console(file=sys.stderr)
    with Bars(console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("netty", total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total or None)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
