"""What the campaigns of admission share: two signed versions of a model, a store, and what is served from it."""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

from garrison.admission.admit import Admission, Policy, admit
from garrison.admission.serving import open_store
from garrison.admission.settings import load_admission
from garrison.admission.sign.trust import load_trust
from garrison.admission.store import Store
from garrison.installation import find_installed
from garrison.torchserve.served import open_served, write_served
from stack.running import pack_digits, pack_sample, trust_test_key

MODEL, OTHER = "digits", "tumours"
OLD, NEW = "1", "2"
Digests = Mapping[str, str]


class Workshop:
    """A directory with two signed versions of a model and another model, and a store in which the oldest is."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        trust = directory / "trust"
        trust.mkdir()
        trust_test_key(trust)
        self.policy = Policy(load_trust(trust), load_admission(find_installed("config/admission.yaml")))
        self.signed = {number: self._pack(number) for number in (OLD, NEW)}
        self.other = pack_sample(OTHER, directory / "packed-other") / OTHER
        self.store = directory / "store"
        self.admit(self.signed[OLD], self.store)
        self.digests = {number: digest_directory(path) for number, path in self.signed.items()}

    def admit(self, source: Path, store: Path) -> Admission:
        """Admit a model."""
        return admit(source, Store(store), self.policy)

    def copy_store(self, name: str) -> Path:
        """Return a fresh store with the older version in it."""
        target = self.directory / name
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(self.store, target)
        return target

    def copy_source(self, number: str, name: str) -> Path:
        """Return a fresh copy of a signed version."""
        target = self.directory / name
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(self.signed[number], target)
        return target

    def serve(self, store: Path) -> dict[str, Digests]:
        """Open a store as the launcher does, then read every file as a worker does; return the digests by model.

        Raises:
            GarrisonError: something is refused.
        """
        return {path.name: read_as_worker(path) for path in self.prepare(store)}

    def prepare(self, store: Path) -> list[Path]:
        """Open a store and write the directories that are served, as the launcher does.

        Raises:
            GarrisonError: something is refused.
        """
        served = self.directory / "served"
        shutil.rmtree(served, ignore_errors=True)
        models = open_store(Store(store), self.policy.trust)
        return [write_served(one.packed, one.record, one.directory, served / one.record.model) for one in models]

    def _pack(self, number: str) -> Path:
        changes = {'version: "1"': f'version: "{number}"'}
        return pack_digits(self.directory / f"packed-{number}", changes) / MODEL


def read_as_worker(served: Path) -> Digests:
    """Read every file of a served model, and return the digests of the bytes.

    Raises:
        GarrisonError: one is not what was admitted.
    """
    files = open_served(served)
    return {name: hashlib.sha256(files.read(name)).hexdigest() for name in files.names()}


def digest_directory(directory: Path) -> dict[str, str]:
    """Return the digest of every file but the signature, by name."""
    paths = [path for path in directory.rglob("*") if path.is_file() and path.name != "model.sig"]
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
