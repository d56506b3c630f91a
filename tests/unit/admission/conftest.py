"""Signed models, a store and a policy to admit them by."""

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from garrison.admission.admit import Policy
from garrison.admission.settings import load_admission
from garrison.admission.sign import KeySigner, sign_directory
from garrison.admission.sign.trust import load_trust
from garrison.admission.store import Store
from garrison.installation import find_installed
from stack.running import make_test_key, trust_test_key

NOBODY = 65_534


@pytest.fixture
def signed_model(packed_model: Callable[..., Path]) -> Callable[..., Path]:
    """Pack a tiny model (see `packed_model`), and sign it with the tests' key."""

    def make(directory: str = "models", **changes: object) -> Path:
        packed = packed_model(directory, **changes)
        sign_directory(packed, KeySigner(make_test_key()[0]))
        return packed

    return make


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    """What is admitted by the shipped settings, signed by the tests' key."""
    trust = tmp_path / "trust"
    trust.mkdir()
    trust_test_key(trust)
    return Policy(load_trust(trust), load_admission(find_installed("config/admission.yaml")))


@pytest.fixture
def unprivileged(tmp_path: Path) -> Iterator[None]:
    """Take away root's right to read everything, where the tests run as root; `tmp_path` can be used all the same."""
    if os.geteuid() != 0:
        yield
        return
    above = [path for path in (tmp_path, *tmp_path.parents) if path.is_relative_to(tempfile.gettempdir())][:-1]
    modes = {path: path.stat().st_mode for path in above}
    for path in above:
        path.chmod(0o777 if path == tmp_path else 0o711)
    os.seteuid(NOBODY)
    yield
    os.seteuid(0)
    for path, mode in modes.items():
        path.chmod(mode)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(tmp_path / "store")


@pytest.fixture
def reasons_in_quarantine(store: Store) -> Callable[[], list[str]]:
    """Return the reasons beside what was refused."""

    def read() -> list[str]:
        return [json.loads(path.read_text())["reason"] for path in store.directory.glob("quarantine/*/reason.json")]

    return read
