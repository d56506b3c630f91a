"""Signed models, a store and a policy to admit them by."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from garrison.admission.admit import Policy
from garrison.admission.settings import load_admission
from garrison.admission.sign import KeySigner, sign_directory
from garrison.admission.sign.trust import load_trust
from garrison.admission.store import Store
from garrison.installation import find_installed
from stack.running import make_test_key, trust_test_key


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
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(tmp_path / "store")


@pytest.fixture
def reasons_in_quarantine(store: Store) -> Callable[[], list[str]]:
    """Return the reasons beside what was refused."""

    def read() -> list[str]:
        return [json.loads(path.read_text())["reason"] for path in store.directory.glob("quarantine/*/reason.json")]

    return read
