"""Run tests with an image's own Python, in its container: `python -I within.py ORDER`.

The tests lie read-only in /repository, what only they need in /packages, which comes last: Garrison and all that runs
with it is the image's own, and no process that is started from here sees more than the image has. ORDER is JSON:
`tests` are pytest's arguments, `first` modules that are imported before the packages are there, `made` where
cases lie that were made outside. Each test becomes a line of JSON on standard output; everything else,
pytest's own words too, goes to standard error.
"""

import importlib
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

REPOSITORY, PACKAGES = Path("/repository"), Path("/packages")
OF_THE_IMAGE = "/opt/garrison/"


def main() -> int:
    """Run what was asked for, and return pytest's exit status."""
    report = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    order = json.loads(sys.argv[1])
    for module in order["first"]:
        importlib.import_module(module)
    sys.dont_write_bytecode = True
    sys.path += [str(REPOSITORY / "tests"), str(PACKAGES)]
    import pytest

    _take_what_was_made(order["made"])
    _replace_the_archiver()
    places = ("--rootdir", str(REPOSITORY), "-c", str(REPOSITORY / "pyproject.toml"))
    os.chdir(os.environ["TMPDIR"])
    tests = [*map(_place, order["tests"], ["", *order["tests"]])]
    status = pytest.main(
        [*places, "-p", "no:cacheprovider", "-o", "tmp_path_retention_policy=failed", "-q", *tests],
        plugins=[_Report(report)],
    )
    json.dump({"foreign": _find_foreign()}, report)
    report.write("\n")
    return int(status)


def _place(argument: str, before: str) -> str:
    """Say where a file of tests lies; what is left out goes by its name in the repository."""
    is_file = argument.startswith("tests/") and before != "--deselect"
    return str(REPOSITORY / argument) if is_file else argument


class _Report:
    """Write a line for each test, and for each file that could not be read."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._seconds: dict[str, float] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        self._seconds[report.nodeid] = self._seconds.get(report.nodeid, 0) + report.duration
        if report.when == "teardown" or not report.passed:
            self._write(report)

    def pytest_collectreport(self, report: Any) -> None:
        if not report.passed:
            self._write(report)

    def _write(self, report: Any) -> None:
        row = {
            "id": report.nodeid,
            "outcome": report.outcome,
            "seconds": round(self._seconds.get(report.nodeid, 0), 2),
            "told": "" if report.passed else str(report.longrepr)[-8000:],
        }
        self._stream.write(f"{json.dumps(row)}\n")


def _find_foreign() -> list[str]:
    """Return the modules of Garrison that are not the image's."""
    loaded = {name: getattr(module, "__file__", None) or "" for name, module in [*sys.modules.items()]}
    return sorted(
        name for name, file in loaded.items() if name.split(".")[0] == "garrison" and not file.startswith(OF_THE_IMAGE)
    )


def _take_what_was_made(made: dict[str, str]) -> None:
    """Let cases be those that were made outside: a link, a pipe, a socket cannot be made in here at all."""
    from attacks import artifacts

    def taking(kind: Any) -> Any:
        def take(*values: Any) -> Any:
            case = kind(*values)
            place = made.get(f"{kind.__name__} {case.name}")
            return case if place is None else replace(case, make=lambda _: Path(place))

        return take

    artifacts.HostileCase, artifacts.BenignCase = taking(artifacts.HostileCase), taking(artifacts.BenignCase)


def _replace_the_archiver() -> None:
    """Lay out by hand the models that tests serve, in an image that does not pack and has no archiver."""
    if importlib.util.find_spec("model_archiver", None) is None or _is_foreign("model_archiver"):
        import celled_suite
        from garrison.admission.pack import packing

        packing._run_archiver = celled_suite.lay_out


def _is_foreign(name: str) -> bool:
    spec = importlib.util.find_spec(name)
    return spec is not None and str(spec.origin).startswith(str(PACKAGES))


if __name__ == "__main__":
    sys.exit(main())
