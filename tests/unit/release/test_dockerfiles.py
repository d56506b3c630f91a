"""What the last stage of a Dockerfile takes, comes from a stage that made it: never with the checkout's own modes.

The users of the images are in group 0, and a file of a checkout under umask 002 is for its group to write: who took
over a server could have changed its settings, wherever the root is not read-only.
"""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
DOCKERFILES = sorted(REPOSITORY.glob("Dockerfile.*"))


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.suffix[1:])
def test_nothing_is_copied_from_the_checkout_into_an_image(dockerfile: Path) -> None:
    last = dockerfile.read_text().rpartition("\nFROM ")[2]
    copies = re.findall(r"^(?:COPY|ADD)\s+(\S+)", last, re.MULTILINE)
    assert len(copies) == 4
    assert all(copy.startswith("--from=") for copy in copies)


def test_there_are_dockerfiles() -> None:
    assert len(DOCKERFILES) == 5
