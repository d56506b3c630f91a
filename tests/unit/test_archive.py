"""A packed model is opened only if every part of it says what its contract says."""

import importlib
import json
from pathlib import Path

import pytest

from garrison.archive import HANDLERS, open_packed_model, parse_labels, render_manifest
from garrison.contract import TASKS
from garrison.errors import ConfigError
from garrison.torchserve.base import SafeHandler
from saved_models import make_contract as make_tensorflow_contract
from saved_models import write_saved_model

MANIFEST = "MAR-INF/MANIFEST.json"


def problems_of(directory: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        open_packed_model(directory)
    return str(caught.value)


def change_manifest(directory: Path, change) -> None:
    path = directory / MANIFEST
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest, indent=2) + "\n")


def test_what_pack_wrote_is_opened(packed_model):
    model = open_packed_model(packed_model())
    assert model.contract.model == "tiny"
    assert model.labels == ("red", "green", "blue")
    assert model.weights == "model.pt"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda m: m["model"].update(handler="image_classifier"), id="stock-handler"),
        pytest.param(lambda m: m["model"].update(handler="handler.py:entry"), id="own-handler"),
        pytest.param(lambda m: m.update(runtime="python3"), id="other-interpreter"),
        pytest.param(lambda m: m["model"].update(requirementsFile="requirements.txt"), id="requirements"),
        pytest.param(lambda m: m["model"].update(modelFile="labels.json"), id="other-code"),
        pytest.param(lambda m: m["model"].update(modelFile="../model.py"), id="code-elsewhere"),
        pytest.param(lambda m: m["model"].update(envelope="json"), id="envelope"),
        pytest.param(lambda m: m["model"].update(modelName="other"), id="other-name"),
        pytest.param(lambda m: m["model"].update(modelVersion="2"), id="other-version"),
        pytest.param(lambda m: m["model"].update(configFile="other.yaml"), id="other-settings"),
        pytest.param(lambda m: m["model"].pop("configFile"), id="no-settings"),
        pytest.param(lambda m: m.update(extra=1), id="extra-key"),
        pytest.param(lambda m: m.pop("runtime"), id="missing-key"),
    ],
)
def test_a_changed_manifest_is_refused_with_advice(packed_model, change):
    directory = packed_model()
    change_manifest(directory, change)
    assert "pack the model again" in problems_of(directory)


def test_a_manifest_that_names_a_model_file_needs_one(packed_model):
    directory = packed_model()
    manifest = render_manifest(open_packed_model(directory).contract, "model.pt", eager=True)
    (directory / MANIFEST).write_text(manifest)
    assert "model.py: missing; pack the model again" in problems_of(directory)


def test_every_task_has_a_handler_with_one_class():
    assert HANDLERS.keys() == TASKS.keys()
    for name in HANDLERS.values():
        module = importlib.import_module(name)
        classes = [one for one in vars(module).values() if isinstance(one, type) and one.__module__ == name]
        assert len(classes) == 1
        assert issubclass(classes[0], SafeHandler)


@pytest.mark.parametrize(
    "weights",
    ["../model.pt", "/etc/passwd", "sub/model.pt", "model.bin", "", ".pt", None, ["model.pt"], "model.pt\n"],
    ids=repr,
)
def test_the_weights_are_a_file_beside_the_contract(packed_model, weights):
    directory = packed_model()
    change_manifest(directory, lambda m: m["model"].update(serializedFile=weights))
    assert "model.serializedFile must name" in problems_of(directory)


def test_two_readers_of_json_cannot_disagree_about_the_manifest(packed_model):
    """Python takes the last of two equal keys; another reader may take the first."""
    path = packed_model() / MANIFEST
    path.write_text(path.read_text().replace('"runtime": "python"', '"runtime": "python3",\n  "runtime": "python"'))
    assert "differs from what the contract says" in problems_of(path.parent.parent)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"model": []}', b"9" * 5000, b" " * 70_000],
    ids=lambda data: repr(data[:12]),
)
def test_a_broken_manifest_is_refused(packed_model, data):
    directory = packed_model()
    (directory / MANIFEST).write_bytes(data)
    assert MANIFEST in problems_of(directory)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("minWorkers: 1", "minWorkers: 9", id="more-workers"),
        pytest.param("minWorkers: 1", "minWorkers: true", id="true-equals-one"),
        pytest.param("minWorkers: 1", "minWorkers: 1.0", id="float-equals-one"),
        pytest.param("minWorkers: 1", "minWorkers: 1\nminWorkers: 1", id="twice"),
        pytest.param("minWorkers: 1\n", "", id="missing"),
        pytest.param("minWorkers: 1\n", "minWorkers: 1\nparallelType: pp\n", id="launches-torchrun"),
        pytest.param("minWorkers: 1\n", "minWorkers: 1\nuseVenv: true\n", id="uses-a-venv"),
        pytest.param("responseTimeout: 10", "responseTimeout: 0", id="no-timeout"),
    ],
)
def test_changed_server_settings_are_refused_with_advice(packed_model, old, new):
    directory = packed_model()
    path = directory / "model-config.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert "pack the model again" in problems_of(directory)


@pytest.mark.parametrize("name", ["contract.yaml", MANIFEST, "model-config.yaml", "model.pt", "labels.json"])
def test_a_missing_part_is_named(packed_model, name):
    directory = packed_model()
    (directory / name).unlink()
    assert name in problems_of(directory)


def test_a_contract_changed_after_packing_is_refused(packed_model, make_contract):
    directory = packed_model()
    (directory / "contract.yaml").write_text(make_contract(workers__queue=9_999))
    assert "model-config.yaml: differs from the contract" in problems_of(directory)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{}", id="no-names"),
        pytest.param(b'["a"]', id="list"),
        pytest.param(b'{"1": "a"}', id="not-from-zero"),
        pytest.param(b'{"0": "a", "2": "b"}', id="gap"),
        pytest.param(b'{"0": "a", "1": "a"}', id="same-name"),
        pytest.param(b'{"0": ""}', id="empty-name"),
        pytest.param(b'{"0": 1}', id="number"),
        pytest.param(b'{"0": []}', id="empty-list"),
        pytest.param(b'{"00": "a"}', id="padded-number"),
        pytest.param(b'{"0": "' + b"a" * 201 + b'"}', id="name-too-long"),
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(b"\xff", id="not-utf-8"),
        pytest.param(b"9" * 5000, id="number-too-long"),
    ],
)
def test_labels_are_a_gapless_numbering_of_names(data):
    with pytest.raises(ConfigError, match=r"labels\.json"):
        parse_labels(data, "labels.json")


def test_labels_may_stand_in_torchserve_s_list_form():
    data = b'{"0": ["n01440764", "tench"], "1": "' + b"a" * 200 + b'"}'
    assert parse_labels(data, "labels.json") == ("tench", "a" * 200)


# SavedModels ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def saved_model(tmp_path) -> Path:
    """A packed SavedModel, with variables, which nobody looks into here."""
    directory = write_saved_model(tmp_path / "saved")
    (directory / "contract.yaml").write_text(make_tensorflow_contract())
    for name in ("index", "data-00000-of-00001"):
        (directory / f"variables/variables.{name}").write_bytes(b"")
    return directory


def test_a_saved_model_is_opened_without_a_manifest(saved_model):
    model = open_packed_model(saved_model)
    assert (model.contract.server, model.weights, model.labels) == ("tfserving", "saved_model.pb", ())
    assert model.read("variables/variables.index") == b""


@pytest.mark.parametrize("name", ["saved_model.pb", "variables/variables.data-00000-of-00001"])
def test_a_saved_model_with_something_missing_is_not_opened(saved_model, name):
    (saved_model / name).unlink()
    assert f"{name}: missing" in problems_of(saved_model)


def test_a_saved_model_with_another_task_s_contract_is_not_opened(saved_model, make_contract):
    (saved_model / "contract.yaml").write_text(make_contract())
    assert "task: image-classification is not what saved_model.pb is" in problems_of(saved_model)
