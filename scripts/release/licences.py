"""Under which licence each part is, and whether that was reviewed: `requirements/licences.toml` enters, answers leave.

The file lists the SPDX identifiers that an image may ship, what packages write instead of them, and, for packages that
say nothing or too little, what a person read in them. A licence that is not listed is not allowed.
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from license_expression import ExpressionError, Licensing

from release.errors import ReleaseError

SECTIONS = ("written", "python", "debian", "java", "programs")
UNKNOWN = "unknown"
SPDX = Licensing()


@dataclass(frozen=True)
class Licences:
    """What was reviewed."""

    allowed: frozenset[str]
    written: Mapping[str, str]
    python: Mapping[str, str]
    debian: Mapping[str, str]
    java: Mapping[str, str]
    programs: Mapping[str, str]

    def of_python(self, package: str, stated: str) -> str:
        """Return a Python package's licence: as reviewed, else as it says."""
        return self.python.get(package) or self.written.get(stated) or stated or UNKNOWN

    def of_debian(self, source: str) -> str:
        """Return the licence of the packages from one Debian source package, as reviewed."""
        return self.debian.get(source, UNKNOWN)

    def of_java(self, name: str) -> str:
        """Return a jar's or library's licence, by `group:name` or by its group alone, as reviewed."""
        return self.java.get(name) or self.java.get(name.partition(":")[0], UNKNOWN)

    def of_program(self, name: str) -> str:
        """Return a program's licence, as reviewed."""
        return self.programs.get(name, UNKNOWN)

    def allows(self, licence: str) -> bool:
        """Say whether an expression holds with allowed licences only: all of an AND, one of an OR."""
        try:
            return _holds(SPDX.parse(licence), self.allowed)
        except ExpressionError:  # a name that is no expression
            return False


def read_licences(path: Path) -> Licences:
    """Read the reviewed licences.

    Raises:
        ReleaseError: the file cannot be read, or has other sections.
    """
    try:
        values = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ReleaseError(f"{path}: cannot be read ({error})") from error
    if unknown := sorted(values.keys() - {"allowed", *SECTIONS}):
        raise ReleaseError(f"{path}: unknown: {', '.join(unknown)}; write allowed, {', '.join(SECTIONS)}")
    return Licences(frozenset(values.get("allowed", [])), **{name: values.get(name, {}) for name in SECTIONS})


def find_unreviewed(parts: Iterable[tuple[str, str]], licences: Licences) -> list[str]:
    """Return a sentence for each of the parts, given as purl and licence, whose licence is not allowed."""
    return [
        f"{purl}: its licence, {licence}, is not reviewed; read it, then add it to requirements/licences.toml"
        for purl, licence in parts
        if not licences.allows(licence)
    ]


def _holds(expression: Any, allowed: frozenset[str]) -> bool:
    """Judge a parsed expression; `X WITH Y` is one licence."""
    if isinstance(expression, SPDX.AND):
        return all(_holds(one, allowed) for one in expression.args)
    if isinstance(expression, SPDX.OR):
        return any(_holds(one, allowed) for one in expression.args)
    return expression is not None and expression.render() in allowed
