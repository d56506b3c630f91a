"""Whoever holds a trusted key is not believed: a hostile file in a signed model is refused, and nothing of it runs.

The same files as in `test_hostile_weights` and `test_hostile_handlers`, packed into a model that is otherwise in order,
signed by a key that is trusted, and taken through the whole of `garrison admit`. Each would leave a canary if a line of
it ran, and nothing of it may get into the store.
"""

import json
import shutil
from collections.abc import Iterator, Set
from pathlib import Path

import pytest

from attacks.artifacts import HostileCase
from attacks.artifacts.handlers import list_hostile as list_hostile_handlers
from attacks.artifacts.weights import list_hostile as list_hostile_weights
from garrison.admission.admit import Policy, admit
from garrison.admission.settings import load_admission
from garrison.admission.sign import KeySigner, sign_directory
from garrison.admission.sign.trust import load_trust
from garrison.admission.store import Store
from garrison.errors import ArtifactRefused, Undecided
from garrison.installation import find_installed
from stack.running import make_test_key, trust_test_key

ONE_IN = 4  # the others go through scan and vet alone, in their own files
DIRECTORIES = {"pipe in a directory", "link in a directory"}  # no files that could lie in a model
WEIGHTS = [case for case in list_hostile_weights() if case.name not in DIRECTORIES][::ONE_IN]
HANDLERS = list_hostile_handlers()[::ONE_IN]


@pytest.fixture(autouse=True)
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file that whatever runs would make."""
    path = tmp_path / "canary"
    monkeypatch.setenv("GARRISON_CANARY", str(path))
    yield path
    assert not path.exists()


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    trust = tmp_path / "trust"
    trust.mkdir()
    trust_test_key(trust)
    return Policy(load_trust(trust), load_admission(find_installed("config/admission.yaml")))


def assert_refused(model: Path, store: Path, policy: Policy, rules: Set[str]) -> None:
    """Sign and admit; nothing may get in, and the quarantine has to say why."""
    sign_directory(model, KeySigner(make_test_key()[0]))
    with pytest.raises((ArtifactRefused, Undecided)) as caught:
        admit(model, Store(store), policy)
    told = getattr(caught.value, "detail", str(caught.value))
    reason = getattr(caught.value, "reason", "undecided")
    assert reason in rules or any(f"[{rule}]" in told for rule in rules)
    assert [path.name for path in store.iterdir() if path.is_dir()] == ["quarantine"]
    (reason,) = store.glob("quarantine/*/reason.json")
    assert json.loads(reason.read_text())["reason"]


@pytest.mark.contained
@pytest.mark.parametrize("case", WEIGHTS, ids=[case.name for case in WEIGHTS])
def test_hostile_weights_in_a_signed_model(packed_model, tmp_path: Path, policy: Policy, case: HostileCase) -> None:
    (tmp_path / "made").mkdir()
    made, model = case.make(tmp_path / "made"), packed_model()
    shutil.copyfile(made, model / f"more{made.suffix}")
    assert_refused(model, tmp_path / "store", policy, case.rules)


@pytest.mark.contained
@pytest.mark.parametrize("case", HANDLERS, ids=[case.name for case in HANDLERS])
def test_hostile_code_in_a_signed_model(packed_model, tmp_path: Path, policy: Policy, case: HostileCase) -> None:
    (tmp_path / "made").mkdir()
    made = case.make(tmp_path / "made")
    model = packed_model(
        task="custom", handler="from garrison.torchserve.base import SafeHandler\nclass A(SafeHandler): ...\n"
    )
    shutil.copyfile(made, model / "handler.py")
    assert_refused(model, tmp_path / "store", policy, case.rules)
