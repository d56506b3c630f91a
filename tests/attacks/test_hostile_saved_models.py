"""SavedModels that do more than answer.

A SavedModel is a program. TensorFlow runs parts of it while it loads it (an initialiser, the restore of variables, and
whatever a shape depends on, reached or not), others at each request, and takes more from files beside it. Every
exporter writes operators along that save files, so a list of bad names says nothing; and a graph can stand in a text
that only `DatasetFromGraph` reads. Here the scan follows every edge from every root, and what is not on a list is
refused. It reads the messages alone: no case below is given to TensorFlow, but for those that show that they fire.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from attacks.artifacts import BenignCase, HostileCase
from attacks.artifacts.graphs import make_writer
from attacks.artifacts.hostile_programs import keep_in_function
from attacks.artifacts.saved_models import list_benign, list_firing, list_hostile
from garrison.admission.findings import refusals
from garrison.admission.scan import scan_paths
from garrison.admission.scan.saved_model import (
    check_against_contract,
    load_shipped_operators,
    read_program,
    read_signatures,
    scan_saved_model,
)
from garrison.admission.scan.saved_model.forbidden import FORBIDDEN
from garrison.contract import load_contract
from standins.saved_models.built import run_tensorflow
from standins.saved_models.catalogue import SAMPLES

HOSTILE, BENIGN, FIRING = list_hostile(), list_benign(), list_firing()


@pytest.mark.parametrize("case", HOSTILE, ids=lambda case: case.name)
def test_a_hostile_saved_model_is_refused_for_the_right_reason(case: HostileCase, tmp_path: Path) -> None:
    found = refusals(scan_saved_model(case.make(tmp_path)))
    assert found
    assert {finding.rule for finding in found} <= case.rules


@pytest.mark.parametrize("case", BENIGN, ids=lambda case: case.name)
def test_its_benign_twin_passes(case: BenignCase, tmp_path: Path) -> None:
    assert scan_saved_model(case.make(tmp_path)) == ()


def test_a_function_may_read_the_asset_s_path_from_a_variable_of_its_own(tmp_path: Path) -> None:
    assert scan_saved_model(make_writer(keep_in_function(b"dirty", "path"))(tmp_path)) == ()


@pytest.mark.parametrize("name", [sample.name for sample in SAMPLES])
def test_what_tensorflow_exports_passes(name: str, saved_models: Path) -> None:
    assert scan_saved_model(saved_models / name / "1") == ()


@pytest.mark.parametrize("name", [sample.name for sample in SAMPLES])
def test_what_tensorflow_exports_keeps_its_contract(name: str, saved_models: Path) -> None:
    signatures = read_signatures(read_program(saved_models / name / "1"))
    assert check_against_contract(signatures, load_contract(saved_models / name / "contract.yaml")) == []


def test_a_directory_of_models_is_scanned_one_by_one(tmp_path: Path) -> None:
    bad, good = HOSTILE[0].make(tmp_path / "bad"), BENIGN[1].make(tmp_path / "good")
    assert scan_paths([good]) == []
    assert {finding.file for finding in refusals(scan_paths([tmp_path]))} == {f"{bad}/saved_model.pb"}


def test_the_corpus_is_as_large_as_promised() -> None:
    assert len({case.name for case in HOSTILE}) == len(HOSTILE) >= 150
    assert len(FIRING) >= 15
    assert len(BENIGN) + len(SAMPLES) >= 30


# Without the gate -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Naive:
    """What became of models that TensorFlow was given: whether each one's canary was there then, and the registry."""

    fired: dict[str, bool]
    version: str
    operators: frozenset[str]


@pytest.fixture(scope="module")
def naive(tmp_path_factory: pytest.TempPathFactory) -> Naive:
    """Give each case that fires, and its benign twins, to TensorFlow, in one process."""
    directory = tmp_path_factory.mktemp("naive")
    made, canaries = [], {}
    with pytest.MonkeyPatch.context() as patch:
        for number, case in enumerate([*FIRING, *BENIGN]):
            place = directory / str(number)
            canaries[case.name] = place / "canary"
            place.mkdir()
            patch.setenv("GARRISON_CANARY", str(canaries[case.name]))
            made.append(str(case.make(place)))
    told = json.loads(run_tensorflow("attacks.artifacts.naive_saved_models", *made))
    assert {path: words for path, words in told["said"].items() if words} == {}
    fired = {name: any(path.parent.glob("canary*")) for name, path in canaries.items()}
    return Naive(fired, told["version"], frozenset(told["operators"]))


@pytest.mark.parametrize("case", FIRING, ids=lambda case: case.name)
def test_loaded_without_a_scan_the_canary_appears(case: HostileCase, naive: Naive) -> None:
    assert naive.fired[case.name]


@pytest.mark.parametrize("case", BENIGN, ids=lambda case: case.name)
def test_a_benign_twin_is_answered_without_a_canary(case: BenignCase, naive: Naive) -> None:
    assert not naive.fired[case.name]


def test_the_lists_are_of_the_registry_that_they_name(naive: Naive) -> None:
    operators = load_shipped_operators()
    listed = frozenset().union(*operators.allowed.values())
    assert operators.version == naive.version
    assert listed <= naive.operators
    for name in (name for names in FORBIDDEN.values() for name in names):
        start = name.removesuffix("*")
        assert any(one.startswith(start) if name != start else one == name for one in naive.operators), name
