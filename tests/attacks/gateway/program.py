"""Programs that attack servers for a living, from Debian: where one is missing, a test fails and does not skip."""

import shutil

import pytest


def find_program(package: str, *names: str) -> str:
    """Return the path of a program, whatever it is called."""
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.fail(f"{names[0]} is not installed; run `apt-get install {package}`", pytrace=False)
    return found
