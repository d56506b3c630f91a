"""Which settings weaken admission, as a server's launcher tells whoever watches."""

import shutil
from pathlib import Path

import pytest

from garrison.admission.sign.signing import ensure_development_key
from garrison.errors import ConfigError
from garrison.installation import find_installed
from garrison.stack.admitted import ServerSettings, find_unsafe


@pytest.fixture
def settings(tmp_path: Path) -> ServerSettings:
    """The configuration as it ships, with this machine's development key to trust."""
    config = tmp_path / "config"
    shutil.copytree(find_installed("config"), config)
    trust = ensure_development_key(tmp_path / "development").parent
    return ServerSettings(None, tmp_path / "store", trust, config)


def test_the_development_key_is_unsafe(settings: ServerSettings) -> None:
    assert find_unsafe(settings) == {"unsafe_development": True, "unsafe_allow_unencrypted": False}


def test_objects_without_encryption_are_unsafe(settings: ServerSettings) -> None:
    file = settings.config / "admission.yaml"
    file.write_text(f"{file.read_text()}\nfetch: {{unsafe_allow_unencrypted: true}}\n")
    assert find_unsafe(settings)["unsafe_allow_unencrypted"]


def test_what_cannot_be_read_is_not_taken_for_safe(settings: ServerSettings) -> None:
    (settings.config / "admission.yaml").write_text("fetch: [")
    with pytest.raises(ConfigError):
        find_unsafe(settings)
