"""Run tests of this repository inside a container of an image under test, confined as compose.yaml confines it.

The same image, user, read-only root, capabilities, seccomp profile, network, volumes and limits as the service; only
the program is another: `within`, with the tests and the packages that only they need mounted read-only.
"""

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from attacks.artifacts import BenignCase, HostileCase
from containers.composing import PYTHON, REPOSITORY, ComposedStack, docker, left_behind, run

MADE = "/made"
PRIVATE = 0o600  # as safetensors writes
TIMEOUT_S = 1200
COLLECT_TIMEOUT_S = 300
MOUNTED = ("config", "docs", "models", "pyproject.toml", "tests")  # and nothing of `handlers`: that is the image's


@dataclass(frozen=True)
class Row:
    """What came of one test: passed, failed or skipped, and what it told."""

    outcome: str
    seconds: float
    told: str


@dataclass
class Run:
    """What came of all tests of one container."""

    rows: dict[str, Row] = field(default_factory=dict)
    foreign: list[str] | None = None  # modules of Garrison that are not the image's; None: it did not come to its end
    said: str = ""

    def tell(self, test: str) -> Row:
        """Return a test's row; one that was not run fails."""
        assert test in self.rows, f"{test} was not run; the container said:\n{self.said[-4000:]}"
        return self.rows[test]


def run_inside(
    service: str, tests: Sequence[str], first: Sequence[str] = (), cases: Sequence[HostileCase | BenignCase] = ()
) -> Run:
    """Run tests (pytest's arguments) in a container of a service.

    `first` are modules that are imported before anything foreign is there; `cases` cannot be made in a container.
    """
    stack = ComposedStack()
    name = f"{stack.project}-inside"
    try:
        made = _make(cases, stack.directory / "made")
        order = json.dumps({"tests": list(tests), "first": list(first), "made": made})
        told, said = _run_container(stack, name, service, order)
    finally:
        docker("rm", "--force", name, check=False)
        stack.__exit__()
    assert left_behind(stack.project) == []
    return read_report(told, said)


def _make(cases: Sequence[HostileCase | BenignCase], directory: Path) -> dict[str, str]:
    """Make cases here; return where each lies in the container."""
    directory.mkdir()
    made = {}
    for number, case in enumerate(cases):
        place = directory / str(number)
        place.mkdir()
        made[f"{type(case).__name__} {case.name}"] = str(Path(MADE) / case.make(place).relative_to(directory))
    for path in directory.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.stat().st_mode & 0o777 == PRIVATE:
            path.chmod(0o644)  # who made it is not who reads it
    return made


def _run_container(stack: ComposedStack, name: str, service: str, order: str) -> tuple[str, str]:
    places = {REPOSITORY / part: f"/repository/{part}" for part in MOUNTED}
    places |= {Path(sysconfig.get_path("purelib")): "/packages", stack.directory / "made": MADE}
    mounts = [part for host, place in places.items() for part in ("--volume", f"{host}:{place}:ro")]
    options = ("--rm", "--no-deps", "-T", "--name", name, "--entrypoint", PYTHON, *mounts)
    log = stack.directory / "said.txt"
    with log.open("wb") as said:
        command = stack.command("run", *options, service, "-I", "/repository/tests/containers/within.py", order)
        ended = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=said, env=stack.environment(), timeout=TIMEOUT_S, check=False
        )
    return ended.stdout.decode(), log.read_text(errors="replace")


def read_report(told: str, said: str) -> Run:
    """Read the lines that `within` wrote; the worst row of a test counts."""
    found = Run(said=said)
    for line in told.splitlines():
        values = json.loads(line)
        if "foreign" in values:
            found.foreign = values["foreign"]
            continue
        test = values.pop("id")
        if test not in found.rows or found.rows[test].outcome == "passed":
            found.rows[test] = Row(**values)
    return found


def collect(tests: Sequence[str]) -> list[str]:
    """Return the ids of the tests that are to be run inside, as pytest finds them in this checkout."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = (sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *tests)
    told = run(*command, timeout_s=COLLECT_TIMEOUT_S, check=True, environment=environment, directory=REPOSITORY)
    return [line for line in told.splitlines() if "::" in line]
