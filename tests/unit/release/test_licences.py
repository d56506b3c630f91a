"""Nothing is shipped under a licence that nobody reviewed."""

from importlib.metadata import distribution
from pathlib import Path

import pytest

from release.errors import ReleaseError
from release.licences import SECTIONS, Licences, read_licences
from release.locks import read_lock
from release.python_packages import stated_licence

REPOSITORY = Path(__file__).resolve().parents[3]
REQUIREMENTS = REPOSITORY / "requirements"
SHIPPED = [
    (name, package)
    for name in ("server", "gateway", "tools", "torch-cpu")
    for package in read_lock(REQUIREMENTS / f"{name}.lock").pins
]
SOME = Licences(frozenset({"MIT", "Apache-2.0", "GPL-2.0-only WITH Classpath-exception-2.0"}), {}, {}, {}, {}, {})


@pytest.mark.parametrize(("lock", "package"), SHIPPED, ids=lambda value: value)
def test_the_licence_of_every_package_that_an_image_ships_is_reviewed(lock, package, licences):
    licence = licences.of_python(package, stated_licence(distribution(package).metadata))
    assert licences.allows(licence), f"{package}: {licence}"


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("MIT AND Apache-2.0", True),
        ("MIT AND GPL-3.0-only", False),
        ("MIT OR GPL-3.0-only", True),
        ("GPL-3.0-only OR AGPL-3.0-only", False),
        ("(MIT OR GPL-3.0-only) AND Apache-2.0", True),
        ("MIT OR GPL-3.0-only AND AGPL-3.0-only", True),
        ("GPL-2.0-only WITH Classpath-exception-2.0", True),
        ("GPL-2.0-only", False),
        ("unknown", False),
        ("", False),
        ("MIT AND", False),
        ("(MIT", False),
        ("Apache License, Version 2.0", False),
    ],
)
def test_an_expression_is_allowed_if_it_holds_with_reviewed_licences_only(licence, allowed):
    assert SOME.allows(licence) is allowed


def test_every_reviewed_licence_is_used(licences):
    """A list with more than is needed lets something in that nobody thought of."""
    texts = {text for section in SECTIONS for text in getattr(licences, section).values()}
    texts |= {licences.of_python(name, stated_licence(distribution(name).metadata)) for _, name in SHIPPED}
    words = {one for text in texts for word in text.split(" AND ") for one in word.split(" OR ")}
    assert sorted(licences.allowed - words) == []


@pytest.mark.parametrize("text", ["allowed = 1 2", "permitted = []"], ids=["no TOML", "an unknown key"])
def test_a_file_that_cannot_be_used_is_refused(tmp_path, text):
    path = tmp_path / "licences.toml"
    path.write_text(text)
    with pytest.raises(ReleaseError):
        read_licences(path)
