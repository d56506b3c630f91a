"""Run tests inside a sealed cell: pytest's arguments enter, lines that say what passed and what did not leave.

The handlers' tests first make a model, which in life happens before a worker starts and outside its cell: the archiver
is a program of its own, and the launcher links a model's directory to its files. Nobody may do that in here, so those
steps are replaced by copies. The rest is as everywhere: the packer's checks, the loading, the handlers.
"""

import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from garrison.cell.inside import Inside
from garrison.torchserve.celled import METRICS_DIRECTORY, _make_environment


def run(inside: Inside, arguments: Sequence[str]) -> None:
    """Import what a worker imports, give up what only loading needs, and run the tests."""
    os.environ.update(_make_environment(Path.cwd()))
    Path(METRICS_DIRECTORY).mkdir()
    import pytest

    import garrison.torchserve.loop  # noqa: F401

    _replace_what_happens_outside()
    inside.start_serving()
    report = _Report()
    code = pytest.main([*arguments, "-p", "no:cacheprovider", "--capture=sys", "--basetemp=t"], plugins=[report])
    sys.stdout.write(f"ended: {int(code)}\n")
    for name, count in report.passed.items():
        sys.stdout.write(f"passed: {count} {name}\n")


class _Report:
    """Count what passed in each file, and print what did not."""

    def __init__(self) -> None:
        self.passed: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" and report.passed:
            self.passed[report.location[0]] += 1
        elif not report.passed:
            sys.__stdout__.write(f"not passed: {report.nodeid} ({report.outcome} at {report.when})\n")

    def pytest_collectreport(self, report: Any) -> None:
        if not report.passed:
            sys.__stdout__.write(f"not collected: {report.nodeid}\n")


def _replace_what_happens_outside() -> None:
    import _pytest.pathlib

    from garrison.admission.pack import packing

    packing._run_archiver = lay_out
    packing.even_modes = lambda packed: None
    packing.Delivery.publish = lambda self, packed, target, staging: _copy(packed, target)
    Path.symlink_to = lambda self, target, target_is_directory=False: _copy(Path(target), self)
    _pytest.pathlib._force_symlink = lambda *_: None  # pytest's own, to the newest of its directories
    os.chdir = lambda path: None  # pytest's own, at the end, to where it already is


def lay_out(arguments: Sequence[str], source: Path, scratch: Path) -> None:
    """Do what the archiver does: the files, and a directory for the manifest."""
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    packed = Path(options["--export-path"]) / options["--model-name"]
    _copy(source, packed)
    (packed / "MAR-INF").mkdir()


def _copy(source: Path, target: Path) -> None:
    target.mkdir()
    for path in sorted(source.rglob("*")):
        copy = target / path.relative_to(source)
        copy.mkdir() if path.is_dir() else copy.write_bytes(path.read_bytes())
