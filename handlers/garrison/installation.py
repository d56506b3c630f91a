"""Find the files that belong to Garrison but are not Python.

In a source checkout they stand where a person looks for them (`config/`, `scripts/`); an installed wheel carries the
same files inside the package.
"""

from pathlib import Path

from garrison.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parent


def find_installed(name: str) -> Path:
    """Return the path of a file or folder of this installation, such as `config`.

    Raises:
        ConfigError: the installation is incomplete.
    """
    for root in (_PACKAGE / "_files", _PACKAGE.parent.parent):
        if (root / name).exists():
            return root / name
    raise ConfigError(f"{name}: missing from this installation; install Garrison again")
