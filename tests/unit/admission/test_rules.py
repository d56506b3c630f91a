"""The rules of packing: names, kinds of files, amounts, manifest and bounds, at the limit and just over it."""

import json
import os
import sys
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attacks.artifacts.tiny_model import MANIFEST, change_manifest, make_files, write_model
from garrison.admission.findings import WARNING
from garrison.admission.rules import check_bounds, check_directory
from garrison.admission.rules.manifest import check_manifest
from garrison.admission.rules.names import MAX_FINDINGS, check_names, check_structure, show_name
from garrison.admission.rules.server_settings import check_server_settings
from garrison.contract import parse_contract
from packing import LIMITS
from saved_models import make_contract, write_saved_model


def rules_of(*names: str) -> list[str]:
    return [finding.rule for finding in check_names(names)]


@pytest.fixture
def make_model(tmp_path):
    """Write a packed model with further files."""

    def make(**files: bytes) -> Path:
        return write_model(
            tmp_path / "model", make_files() | {name.replace("__", "."): data for name, data in files.items()}
        )

    return make


# Names of a SavedModel's files ----------------------------------------------------------------------------------------

PARTS = ("saved_model.pb", "contract.yaml", "model.sig", "variables/", "variables/variables.index", "assets/")


def saved_model_rules_of(*names: str) -> list[str]:
    return rules_of(*PARTS, *names)


@pytest.mark.parametrize(
    "name", ["fingerprint.pb", "variables/variables.data-00000-of-00001", "assets/words.txt", "assets/json"]
)
def test_a_part_of_a_saved_model_is_accepted_beside_its_program_only(name):
    assert saved_model_rules_of(name) == []
    assert rules_of(name) == [] if name == "fingerprint.pb" else ["nested_directory"]


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        pytest.param("saved_model.pbtxt", "unexpected_file", id="another-program"),
        pytest.param("saved_model.cpb", "unexpected_file", id="a-program-in-pieces"),
        pytest.param("model.tflite", "unexpected_file", id="a-program-for-another-runtime"),
        pytest.param("batching_params.pbtxt", "unexpected_file", id="settings-of-its-own"),
        pytest.param("keras_metadata.pb", "unexpected_file", id="what-keras-alone-reads"),
        pytest.param("labels.json", "unexpected_file", id="labels"),
        pytest.param("variables/checkpoint", "unexpected_file", id="a-file-beside-the-variables"),
        pytest.param("handler.py", "unexpected_file", id="code"),
        pytest.param("model-config.yaml", "unexpected_file", id="torchserve-s-settings"),
        pytest.param("assets/run.sh", "unexpected_code", id="code-among-the-assets"),
        pytest.param("MAR-INF/", "nested_directory", id="torchserve-s-directory"),
        pytest.param("assets.extra/", "nested_directory", id="a-directory-that-the-server-acts-on"),
        pytest.param("assets.extra/tf_serving_warmup_requests", "unexpected_file", id="warm-up"),
        pytest.param("assets/inner/", "nested_directory", id="a-directory-of-assets"),
        pytest.param("assets/inner/words.txt", "nested_directory", id="an-asset-too-deep"),
        pytest.param("assets/../../secret", "unsafe_name", id="a-way-out"),
        pytest.param("assets/my words.txt", "unsafe_name", id="a-blank"),
        pytest.param("assets/.hidden", "hidden_file", id="hidden"),
        pytest.param("admission.json", "reserved_name", id="the-record"),
    ],
)
def test_what_is_no_part_of_a_saved_model_is_found(name, rule):
    assert saved_model_rules_of(name) == [rule]


def test_a_file_in_the_place_of_a_saved_model_s_directory_is_found():
    assert rules_of("saved_model.pb", "variables", "assets") == ["unexpected_file", "unexpected_file"]


def test_a_packed_saved_model_is_in_order(tmp_path):
    directory = write_saved_model(tmp_path / "saved")
    (directory / "contract.yaml").write_text(make_contract())
    (directory / "assets/words.txt").write_text("a\n")
    assert check_directory(directory, LIMITS) == []


@pytest.mark.parametrize("place", ["saved_model.pb", "assets/words.txt", "variables/variables.index", "assets"])
def test_a_link_in_a_saved_model_is_found_wherever_it_lies(tmp_path, place):
    directory = write_saved_model(tmp_path / "saved")
    (directory / "contract.yaml").write_text(make_contract())
    path = directory / place
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)
    path.symlink_to(tmp_path)
    assert "not_a_file" in [finding.rule for finding in check_directory(directory, LIMITS)]


# Names ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *("contract.yaml", "model.pt", "handler.py", "model.py", "model.sig", "MAR-INF/", "MAR-INF/MANIFEST.json"),
        *("x", "0", "X-1_y.z", "json.txt", "torch.json", "README", "tokenizer.model", "a" * 128, "console.json"),
        *(
            "weights.pth",
            "weights.safetensors",
            "constants.json",
            "contract.yaml.orig",
            "pythonic.txt",
            "so",
            "a.so.json",
        ),
    ],
)
def test_an_ordinary_name_is_accepted(name):
    assert rules_of(name) == []


@pytest.mark.parametrize("module", ["json", "os", "torch", "sitecustomize", "garrison", "ts", "numpy", "PIL", "pytest"])
@pytest.mark.parametrize("form", ["{}.py", "{}.pyc", "{}.so", "{}.abi3.so", "{}/__init__.py", "{}/"])
def test_no_name_shadows_a_module(module, form):
    assert rules_of(form.format(module)) == ["shadowed_module"]


@pytest.mark.parametrize("module", sorted(name for name in sys.stdlib_module_names if not name.startswith("_")))
def test_no_name_shadows_any_module_of_the_standard_library(module):
    assert rules_of(f"{module}.py") == ["shadowed_module"]


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(("a.json", "a.json"), id="twice"),
        pytest.param(("a.json", "A.JSON"), id="case"),
        pytest.param(("MAR-INF/", "mar-inf"), id="case-of-a-directory"),
        pytest.param(("é", unicodedata.normalize("NFD", "é")), id="composed-and-decomposed"),
        pytest.param(("straße", "STRASSE"), id="sharp-s"),
        pytest.param(("ﬁle", "file"), id="ligature"),
    ],
)
def test_names_that_are_one_to_some_file_system_are_refused(names):
    assert "repeated_name" in rules_of(*names)


def test_no_more_is_found_than_a_person_reads():
    assert len(check_names(f"../{number}" for number in range(1000))) == MAX_FINDINGS


def test_foreign_code_is_left_to_whoever_converts_it():
    assert check_structure(["my_handler.py", "requirements.txt"]) == []
    assert [finding.rule for finding in check_structure(["json.py"])] == ["shadowed_module"]


@given(st.text(max_size=40))
def test_any_name_is_judged_and_shown_without_harm(name):
    check_names([name])
    assert show_name(name).isprintable()
    assert show_name(name).isascii()


@given(st.text(max_size=40))
def test_an_accepted_name_stays_inside(name):
    if check_names([name]) == []:
        inside = Path("/root") / name
        assert inside.resolve().is_relative_to("/root")
        assert len(inside.parts) <= 4


# Directories ----------------------------------------------------------------------------------------------------------


def test_a_packed_model_is_accepted(make_model):
    assert check_directory(make_model(), LIMITS) == []


def test_as_many_files_as_allowed_are_accepted_and_no_more(make_model):
    model = make_model()
    count = len(make_files())
    assert check_directory(model, replace(LIMITS, max_files=count)) == []
    assert [one.rule for one in check_directory(model, replace(LIMITS, max_files=count - 1))] == ["too_many_files"]


def test_as_many_bytes_as_allowed_are_accepted_and_no_more(make_model):
    model = make_model()
    total = sum(map(len, make_files().values()))
    assert check_directory(model, replace(LIMITS, max_bytes=total)) == []
    assert [one.rule for one in check_directory(model, replace(LIMITS, max_bytes=total - 1))] == ["too_many_bytes"]


@pytest.mark.parametrize("data", [b"", b"import os", b"\n/tmp", b"# PK\3\4", b"P"], ids=ascii)
def test_a_path_file_is_told_from_weights(make_model, data):
    assert [one.rule for one in check_directory(make_model(evil__pth=data), LIMITS)] == ["path_file"]


@pytest.mark.parametrize("data", [b"PK\3\4 rest", b"\x80\2rest"], ids=["zip", "pickle"])
def test_weights_may_end_in_pth(make_model, data):
    """Whether they may be loaded is for the scan."""
    assert check_directory(make_model(more__pth=data), LIMITS) == []


@pytest.mark.parametrize("name", ["handler.py", "model.py"])
def test_code_that_the_model_does_not_have_is_refused(make_model, name):
    (finding,) = check_directory(make_model(**{name.replace(".", "__"): b"x = 1"}), LIMITS)
    assert (finding.file, finding.rule) == (name, "unexpected_code")


def test_a_link_to_a_model_is_refused(tmp_path, make_model):
    (tmp_path / "link").symlink_to(make_model())
    assert [one.rule for one in check_directory(tmp_path / "link", LIMITS)] == ["not_a_file"]


def test_all_findings_are_told_at_once(make_model):
    model = make_model(run__sh=b"")
    (model / "link").symlink_to("/etc/passwd")
    os.link(model / "labels.json", model / "also.json")
    rules = {one.rule for one in check_directory(model, LIMITS)}
    assert rules == {"unexpected_code", "not_a_file", "hard_link"}


def test_a_finding_says_what_to_do(make_model):
    (finding,) = check_directory(make_model(requirements__txt=b"numpy"), LIMITS)
    assert finding.file == "requirements.txt"
    assert "install them in the image" in finding.detail


# Bounds ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "limit", "rule"),
    [
        ("count", "max_workers", "too_many_workers"),
        ("queue", "max_queue", "queue_too_long"),
        ("timeout_s", "max_timeout_s", "timeout_too_long"),
    ],
)
def test_a_contract_keeps_to_the_operators_bounds(key, limit, rule):
    contract = parse_contract(make_files(**{f"workers__{key}": 5})["contract.yaml"], "contract.yaml")
    assert check_bounds(contract, replace(LIMITS, **{limit: 5}), "contract.yaml") == []
    (finding,) = check_bounds(contract, replace(LIMITS, **{limit: 4}), "contract.yaml")
    assert finding.rule == rule
    assert finding.file == "contract.yaml"
    assert f"workers.{key}: 5 is more than the 4" in finding.detail


# Manifests ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="ours"),
        pytest.param({"handler": "image_classifier"}, id="stock-handler"),
        pytest.param({"handler": "my_handler.py", "modelFile": "net.py"}, id="eager-with-custom-handler"),
        pytest.param({"modelVersion": 1.0}, id="number-as-version"),
        pytest.param({"description": "a model"}, id="description"),
    ],
)
def test_an_ordinary_manifest_is_accepted(changes):
    assert check_manifest(change_manifest(**changes)[MANIFEST], b"") == []


def test_a_manifest_of_an_older_archiver_is_accepted():
    older = {"modelServerVersion": "1.0", "implementationVersion": "1.0", "specificationVersion": "1.0"}
    assert check_manifest(change_manifest(older)[MANIFEST], b"") == []


def test_findings_come_in_the_order_of_the_manifest():
    manifest = json.dumps({"zeta": 1, "alpha": 1, "runtime": "LSP", "model": {"handler": "a.b", "useVenv": 1}}).encode()
    found = [finding.rule for finding in check_manifest(manifest, b"")]
    assert found == ["runtime", "unknown_key", "unknown_key", "use_venv", "unsafe_handler"]


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_any_manifest_is_judged(manifest, config):
    check_manifest(manifest, config)


@given(
    st.dictionaries(st.text(max_size=8), st.integers() | st.text(max_size=8) | st.lists(st.integers(), max_size=2)),
    st.dictionaries(st.sampled_from(["handler", "serializedFile", "configFile"]), st.integers() | st.text(max_size=9)),
)
def test_any_values_are_judged(top, model):
    check_manifest(json.dumps(top | {"model": model}).encode(), b"")


# Server settings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["minWorkers", "batchSize", "maxBatchDelay", "jobQueueSize", "responseTimeout"])
@pytest.mark.parametrize("value", ["0", "-1", "true", "1.5", "many", "[1]", "{}", "1e3", "0x10"])
def test_a_number_of_the_server_is_a_whole_one(key, value):
    assert [one.rule for one in check_server_settings(f"{key}: {value}".encode())] == ["bad_server_settings"]


def test_what_is_left_behind_is_a_warning():
    (finding,) = check_server_settings(b"deviceType: gpu")
    assert (finding.rule, finding.severity) == ("setting_left_behind", WARNING)


def test_nothing_hides_behind_a_long_comment():
    assert [one.rule for one in check_server_settings(b"#" * 70_000 + b"\nuseVenv: true")] == ["bad_server_settings"]
