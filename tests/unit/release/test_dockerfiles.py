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
    images = find_images(dockerfile)
    assert images
    for image in images:
        copies = re.findall(r"^(?:COPY|ADD)\s+(\S+)", image, re.MULTILINE)
        assert len(copies) == (2 if dockerfile.suffix == ".monitoring" else 4)
        assert all(copy.startswith("--from=") for copy in copies)


def find_images(dockerfile: Path) -> list[str]:
    """Return the stages that are shipped: what has a program to start."""
    return [stage for stage in dockerfile.read_text().split("\nFROM ") if "\nENTRYPOINT " in stage]


def test_there_are_dockerfiles_and_all_but_two_make_one_image() -> None:
    made = {path.suffix[1:]: len(find_images(path)) for path in DOCKERFILES}
    assert made == {"gateway": 1, "monitoring": 2, "tfserving": 2, "tools": 1, "torchserve": 1}
