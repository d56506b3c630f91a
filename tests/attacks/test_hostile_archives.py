"""The attacker wrote the archive: its zip, its names, its manifest, its links. Nothing of it may be admitted, or run.

Each case of `artifacts.archives` is one public trick on a model that is otherwise in order. It goes through what
admission does before it looks into weights and code, and through `garrison pack --from`; both refuse it. Nothing is
left outside the private directory, and whatever could have been run would have left a canary.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from attacks.artifacts import BenignCase, HostileCase
from attacks.artifacts.archives import list_benign, list_hostile, list_stock
from garrison.admission.findings import refuse_if_found
from garrison.admission.pack.convert import convert_archive
from garrison.admission.rules import check_bounds, check_directory
from garrison.admission.settings import load_admission
from garrison.admission.unpack import copy_model, unpack_archive
from garrison.archive import open_packed_model
from garrison.errors import ArtifactRefused, GarrisonError
from packing import pack

HOSTILE, BENIGN, STOCK = list_hostile(), list_benign(), list_stock()
LIMITS = load_admission(Path(__file__).resolve().parents[2] / "config/admission.yaml").limits

HARMLESS_LEFT_BEHIND = {"requirements_file", "reserved_name"}  # text that nothing reads; the rest is packed anew


@pytest.fixture(autouse=True)
def canary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file that anything that runs would create."""
    path = tmp_path_factory.mktemp("canary") / "ran"
    monkeypatch.setenv("GARRISON_CANARY", str(path))
    yield path
    assert not path.exists()
    assert not Path("/tmp/garrison-canary").exists()


def admit(source: Path, private: Path) -> None:
    """Do what admission does with a source, up to the scan."""
    if source.is_dir():
        copy_model(source, private, LIMITS)
    else:
        unpack_archive(source, private, LIMITS)
    refuse_if_found(check_directory(private, LIMITS), "refused")
    packed = open_packed_model(private)
    refuse_if_found(check_bounds(packed.contract, LIMITS, "contract.yaml"), "refused")


def list_tree(directory: Path) -> set[str]:
    """Return everything below a directory, without following a link."""
    return {f"{place}/{name}" for place, inner, names in os.walk(directory) for name in (*inner, *names)}


@pytest.mark.contained
@pytest.mark.parametrize("case", HOSTILE, ids=[case.name for case in HOSTILE])
def test_it_is_refused_for_the_right_reason(tmp_path: Path, case: HostileCase) -> None:
    (tmp_path / "source").mkdir()
    source = case.make(tmp_path / "source")
    before = list_tree(tmp_path)
    with pytest.raises(ArtifactRefused) as caught:
        admit(source, tmp_path / "private")
    assert caught.value.reason in case.rules
    assert caught.value.detail.isprintable()
    assert {path for path in list_tree(tmp_path) - before if not path.startswith(str(tmp_path / "private"))} == set()


@pytest.mark.contained
@pytest.mark.parametrize("case", HOSTILE, ids=[case.name for case in HOSTILE])
def test_it_is_not_converted_either(tmp_path: Path, case: HostileCase) -> None:
    """What `--from` makes of it holds none of the trick: it is refused, or written anew from what is harmless in it."""
    (tmp_path / "source").mkdir()
    (tmp_path / "staging").mkdir()
    source = case.make(tmp_path / "source")
    try:
        conversion = convert_archive(source, tmp_path / "staging", LIMITS)
        packed = pack(conversion.order(tmp_path / "out"))
    except GarrisonError:
        return
    assert case.rules & HARMLESS_LEFT_BEHIND or case.name.startswith("contract-")
    if not case.name.startswith("contract-"):
        admit(packed, tmp_path / "private")


def test_every_name_of_a_case_is_different() -> None:
    names = [case.name for case in (*HOSTILE, *BENIGN, *STOCK)]
    assert len(set(names)) == len(names)


def test_there_are_enough_of_them() -> None:
    assert len(HOSTILE) >= 40
    assert len(BENIGN) + len(STOCK) >= 10


@pytest.mark.contained
@pytest.mark.parametrize("case", BENIGN, ids=[case.name for case in BENIGN])
def test_what_pack_writes_is_accepted(tmp_path: Path, case: BenignCase) -> None:
    admit(case.make(tmp_path), tmp_path / "private")


@pytest.mark.contained
@pytest.mark.parametrize("case", STOCK, ids=[case.name for case in STOCK])
def test_what_torch_model_archiver_writes_is_converted(tmp_path: Path, case: BenignCase) -> None:
    (tmp_path / "staging").mkdir()
    conversion = convert_archive(case.make(tmp_path), tmp_path / "staging", LIMITS)
    assert conversion.changes
    admit(pack(conversion.order(tmp_path / "packed")), tmp_path / "private")
