"""What lies in an image: its root directory enters, its parts leave, or every reason why one cannot be named."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from release.debian import list_debian
from release.errors import ReleaseError
from release.java import list_java
from release.licences import Licences
from release.locks import Lock
from release.part import Part
from release.python_packages import list_programs, list_python


@dataclass(frozen=True)
class Order:
    """What to look at: the root directory, the locks that what pip installed has to stand in, the reviewed licences."""

    root: Path
    locks: Sequence[Lock]
    licences: Licences


LISTERS: tuple[Callable[[Order], Iterator[Part]], ...] = (
    lambda order: list_debian(order.root, order.licences),
    lambda order: list_python(order.root, order.locks, order.licences),
    lambda order: list_programs(order.root, order.licences),
    lambda order: list_java(order.root, order.licences),
)


def list_parts(order: Order) -> tuple[Part, ...]:
    """Return everything that can be named below a root directory, in a fixed order.

    Raises:
        ReleaseError: with every part that is in no lock, has no version, or cannot be read.
    """
    parts: list[Part] = []
    problems: list[str] = []
    for lister in LISTERS:
        try:
            parts.extend(lister(order))
        except ReleaseError as error:
            problems.extend(error.problems)
    if not parts and not problems:
        problems.append(f"{order.root}: nothing in it can be named; is this an image's root directory?")
    if problems:
        raise ReleaseError(*problems)
    return tuple(sorted(set(parts), key=lambda part: (part.purl, part.where)))
